"""What a person is asked to send: the body of `POST …/send`, kind by kind.

Every refusal is a `RefusedError` whose text names the field and what it should be.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Any

from wahub.sandbox.control.requests import flag, object_field, phone_number, text_field, text_of, texts
from wahub.sandbox.model import RefusedError
from wahub.sandbox.phone.content import (
    ButtonReply,
    Contact,
    Content,
    Delete,
    Edit,
    ListReply,
    Location,
    Media,
    Poll,
    Reaction,
    Text,
    vcard_of,
)

MAX_OPTIONS = 12
"""As many as WhatsApp's apps offer."""
MAX_BASE64 = 140_000_000
"""A file of 100 MB, which is what the media server takes."""
_KINDS = (
    "text",
    "poll",
    "media",
    "location",
    "contact",
    "reaction",
    "edit",
    "delete",
    "buttonReply",
    "listReply",
)
_MIMES = {
    "image": "image/jpeg",
    "video": "video/mp4",
    "audio": "audio/ogg; codecs=opus",
    "document": "application/octet-stream",
    "sticker": "image/webp",
}


def content_of(body: dict[str, Any]) -> Content:
    """What a person is asked to send: exactly one of the kinds."""
    kinds = [kind for kind in _KINDS if body.get(kind) is not None]
    if len(kinds) != 1:
        raise RefusedError(400, f"give exactly one of {', '.join(_KINDS)}; got {', '.join(kinds) or 'none'}")
    kind = kinds[0]
    if kind == "text":
        return Text(text_field(body, "text"))
    part = object_field(body, kind)
    if kind == "poll":
        return _poll(part)
    if kind == "media":
        return _media(part)
    if kind in ("buttonReply", "listReply"):
        reply_id, text = text_of(part.get("id"), f"{kind}.id"), text_of(part.get("text"), f"{kind}.text")
        return ButtonReply(reply_id, text) if kind == "buttonReply" else ListReply(reply_id, text)
    return _about(kind, part) if kind in ("reaction", "edit", "delete") else _card_or_place(kind, part)


def _media(part: dict[str, Any]) -> Media:
    kind = part.get("kind")
    if kind not in _MIMES:
        raise RefusedError(400, f"media.kind: expected one of {', '.join(_MIMES)}")
    try:
        data = b64decode(text_of(part.get("base64"), "media.base64", limit=MAX_BASE64), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError(400, "media.base64: expected the file as base64") from error
    caption = text_of(part.get("caption") or "", "media.caption", empty=True)
    if caption and kind in ("audio", "sticker"):
        raise RefusedError(400, f"media.caption: {kind} has none")
    voice = flag(part, "voice", default=False)
    if voice and kind != "audio":
        raise RefusedError(400, "media.voice: only audio can be a voice note")
    return Media(
        kind=kind,
        mime=text_of(part.get("mime") or _MIMES[kind], "media.mime", limit=200),
        data=data,
        caption=caption,
        file_name=text_of(part.get("fileName") or "", "media.fileName", empty=True, limit=1000),
        voice=voice,
    )


def _about(kind: str, part: dict[str, Any]) -> Content:
    message_id = text_of(part.get("messageId"), f"{kind}.messageId")
    if kind == "reaction":
        return Reaction(message_id, text_of(part.get("emoji"), "reaction.emoji", empty=True, limit=64))
    if kind == "edit":
        return Edit(message_id, text_of(part.get("text"), "edit.text"))
    return Delete(message_id)


def _poll(part: dict[str, Any]) -> Poll:
    name, options = text_of(part.get("name"), "poll.name"), texts(part.get("options"), "poll.options")
    if not 2 <= len(options) <= MAX_OPTIONS or len(set(options)) < len(options):
        raise RefusedError(400, f"poll.options: expected 2 to {MAX_OPTIONS} different texts")
    selectable = part.get("selectable", 1)
    if isinstance(selectable, bool) or not isinstance(selectable, int) or not 0 <= selectable <= len(options):
        raise RefusedError(400, "poll.selectable: expected a number of options, 0 for any")
    return Poll(name, options, selectable)


def _card_or_place(kind: str, part: dict[str, Any]) -> Content:
    if kind == "location":
        return Location(
            _degrees(part, "latitude", 90),
            _degrees(part, "longitude", 180),
            text_of(part.get("name") or "", "location.name", empty=True),
            text_of(part.get("address") or "", "location.address", empty=True),
        )
    name = text_of(part.get("name"), "contact.name")
    if part.get("vcard") is not None:
        return Contact(name, text_of(part["vcard"], "contact.vcard"))
    digits = phone_number(part.get("phone"), "contact.phone")
    if "\n" in name or "\r" in name:
        raise RefusedError(400, "contact.name: expected one line")
    return Contact(name, vcard_of(name, digits))


def _degrees(part: dict[str, Any], field: str, limit: int) -> float:
    value = part.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -limit <= value <= limit:
        raise RefusedError(400, f"location.{field}: expected degrees from -{limit} to {limit}")
    return float(value)
