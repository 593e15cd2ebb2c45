"""How private values are written into columns: message contents, message texts, webhook bodies, session material.

Everything that people would call private passes through one `Codec`, so encryption at rest has one place to go. To
send a new kind of content, add its class to `_TAGS` below: contents are stored as JSON with their `type`, and rows
written by older versions stay readable as long as their tag is there.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from wahub.adapters.sql.failure import StoreFailedError
from wahub.domain.message import Content, Text

_TAGS: dict[str, type[Content]] = {"text": Text}
_TAG_OF = {kind: tag for tag, kind in _TAGS.items()}


def encode_content(content: Content) -> str:
    """The content as ASCII JSON: `{"type": "text", "text": …}`. Any string survives, also NUL and half surrogates."""
    return json.dumps({"type": _TAG_OF[type(content)], **asdict(content)}, separators=(",", ":"))


def decode_content(column: str) -> Content:
    """The reverse; StoreFailedError for a type that this version does not know."""
    fields: dict[str, Any] = json.loads(column)
    tag = fields.pop("type")
    kind = _TAGS.get(tag)
    if kind is None:
        raise StoreFailedError(f"the outbox holds content of type {tag!r}, which a newer version of wahub wrote")
    return kind(**fields)


class Codec:
    """Writes values as they are. A codec that encrypts overrides the four methods below."""

    def text_in(self, text: str) -> str:
        return text

    def text_out(self, column: str) -> str:
        return column

    def bytes_in(self, value: bytes) -> bytes:
        return value

    def bytes_out(self, column: bytes) -> bytes:
        return column

    def content_in(self, content: Content) -> str:
        return self.text_in(encode_content(content))

    def content_out(self, column: str) -> Content:
        return decode_content(self.text_out(column))
