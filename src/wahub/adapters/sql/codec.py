"""How private values are written into columns: message contents, message texts, webhook bodies, lifecycle records
(they may hold a pairing code), proxies (they may hold a password), session material.

Everything that people would call private passes through one `Codec`, so encryption at rest has one place to go. To
send a new kind of content, add its two functions below: contents are stored as JSON with their `type`, and rows
written by older versions stay readable as long as their type is there.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from wahub.adapters.sql.failure import StoreFailedError
from wahub.domain.message import Content, Poll, Text

_to_json: Final = json.JSONEncoder(separators=(",", ":")).encode
"""Made once: `json.dumps` with other separators makes an encoder in every call."""


def encode_content(content: Content) -> str:
    """The content as ASCII JSON: `{"type": "text", "text": …}`. Any string survives, also NUL and half surrogates.

    A poll is `{"type": "poll", "caption": …, "options": […], "multiple": …, "secret": base64}`.
    """
    match content:
        case Text(text):
            return _to_json({"type": "text", "text": text})
        case Poll(caption, options, multiple, secret):
            hidden = base64.b64encode(secret).decode("ascii")
            fields = {"caption": caption, "options": options, "multiple": multiple, "secret": hidden}
            return _to_json({"type": "poll", **fields})


def decode_content(column: str) -> Content:
    """The reverse; StoreFailedError for a type that this version does not know."""
    fields: dict[str, Any] = json.loads(column)
    match fields["type"]:
        case "text":
            return Text(fields["text"])
        case "poll":
            secret = base64.b64decode(fields["secret"], validate=True)
            return Poll(fields["caption"], tuple(fields["options"]), fields["multiple"], secret)
        case newer:
            raise StoreFailedError(f"the outbox holds content of type {newer!r}, which a newer version of wahub wrote")


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
