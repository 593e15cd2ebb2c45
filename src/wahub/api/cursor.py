"""Cursors of lists: where a page ended, as one word that fits into a URL. Callers hand them back unread."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from wahub.domain.errors import InvalidFieldError

_LONGEST = 1_024


class InvalidCursorError(InvalidFieldError):
    def __init__(self) -> None:
        super().__init__("cursor must be a `next` that this route gave: leave it out to begin with the newest")


def written(*parts: str | float) -> str:
    """The cursor that stands for these."""
    text = json.dumps(parts, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode("ascii")


def read(cursor: str, *kinds: type) -> tuple[Any, ...]:
    """The parts of a cursor, one of each of these types. InvalidCursorError if it is none of ours."""
    if len(cursor) > _LONGEST or not cursor.isascii():
        raise InvalidCursorError
    try:
        parts = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise InvalidCursorError from None
    if not isinstance(parts, list) or len(parts) != len(kinds):
        raise InvalidCursorError
    # The exact types: to Python true is a whole number.
    if any(type(part) is not kind for part, kind in zip(parts, kinds, strict=True)):
        raise InvalidCursorError
    if any(isinstance(part, int | float) and not 0 <= part <= 2**53 for part in parts):
        raise InvalidCursorError
    if any(isinstance(part, str) and not part.isprintable() for part in parts):
        raise InvalidCursorError
    return tuple(parts)
