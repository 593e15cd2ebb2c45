"""A file as a response, or the parts of it that `Range` asks for (RFC 9110, section 14).

What is no range of bytes (another unit, a word, an end before its beginning) is ignored, and all of the file given: so
the rules allow, and no caller is refused over a header that is only a wish. Ranges of which none lies inside the file
are answered with 416, in the envelope of all errors.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from wahub.api.problems import problem

_UNIT = re.compile(r"\s*bytes\s*=", re.IGNORECASE)
_RANGE = re.compile(r"(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))")
_MOST = 100
"""Ranges in one request; who asks for more wants all of it."""


class FileOrPart(FileResponse):
    """A file. Made with `stat_result`, and with an `etag` among the headers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        assert self.stat_result is not None
        given = Headers(scope=scope)
        size = self.stat_result.st_size
        wanted = _read(given.get("range", ""), size) if self._counts(given) else None
        if wanted == []:
            text = f"Range: the file has {size} bytes, and none of these"
            await problem(416, text, {"Content-Range": f"bytes */{size}"})(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        if wanted is not None:
            ranges = ",".join(f"{first}-{last}" for first, last in wanted)
            headers.append((b"range", f"bytes={ranges}".encode()))
        await super().__call__({**scope, "headers": headers}, receive, send)

    def _counts(self, given: Headers) -> bool:
        """Whether the range is of the file as it is now (`If-Range`)."""
        known = given.get("if-range")
        return known is None or known in (self.headers["etag"], self.headers["last-modified"])


def _read(header: str, size: int) -> list[tuple[int, int]] | None:
    """First and last byte of each range that lies inside the file; None: nothing that asks for ranges of bytes."""
    unit = _UNIT.match(header)
    texts = [text.strip() for text in header[unit.end() :].split(",") if text.strip()] if unit else []
    if not 0 < len(texts) <= _MOST:
        return None
    found = []
    for text in texts:
        match = _RANGE.fullmatch(text)
        if match is None:
            return None
        first, last = _ends(match, size)
        if match[2] and int(match[2]) < first:
            return None
        if first < size:
            found.append((first, last))
    return found


def _ends(match: re.Match[str], size: int) -> tuple[int, int]:
    if match[3]:
        return max(size - int(match[3]), 0) if int(match[3]) else size, size - 1
    return int(match[1]), min(int(match[2]), size - 1) if match[2] else size - 1
