"""Reading requests of the control API: bodies, numbers, and what a person is asked to send.

Every refusal is a `RefusedError` whose text names the field and what it should be.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Any

import msgspec
from starlette.requests import Request

from wahub.sandbox.model import LID_SERVER, PN_SERVER, PairingRequest, RefusedError
from wahub.sandbox.phone.content import Contact, Content, Delete, Edit, Location, Poll, Reaction, Text, vcard_of
from wahub.sandbox.phone.linkcode import UnreadableCodeError, read_code
from wahub.sandbox.phone.qr import UnreadableQrError, read_text, text_from_picture

MAX_WAIT_MS = 300_000
MAX_TEXT = 65_536
MAX_OPTIONS = 12
"""As many as WhatsApp's apps offer."""
_KINDS = ("text", "poll", "media", "location", "contact", "reaction", "edit", "delete")
_LATER = ("media",)


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object of a request; an empty body is an empty object."""
    raw = await request.body()
    if not raw:
        return {}
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError(400, "the body is not valid JSON") from error
    if not isinstance(body, dict):
        raise RefusedError(400, "the body must be a JSON object")
    return body


def phone_number(value: object, field: str) -> str:
    """Digits of a phone number: 7 to 15, after taking away a leading + and spaces."""
    if isinstance(value, str):
        digits = value.replace(" ", "").removeprefix("+")
        if digits.isascii() and digits.isdecimal() and 7 <= len(digits) <= 15:
            return digits
    raise RefusedError(400, f"{field}: expected a phone number as a string of 7 to 15 digits")


def text_field(body: dict[str, Any], field: str, *, empty: bool = False, limit: int = MAX_TEXT) -> str:
    """A required string."""
    return _text(body.get(field), field, empty=empty, limit=limit)


def _text(value: object, field: str, *, empty: bool = False, limit: int = MAX_TEXT) -> str:
    if not isinstance(value, str) or (not value and not empty):
        raise RefusedError(400, f"{field}: expected a string{'' if empty else ' that is not empty'}")
    if len(value) > limit:
        raise RefusedError(400, f"{field}: at most {limit} characters")
    return value


def optional_text(body: dict[str, Any], field: str) -> str | None:
    """An optional string; null counts as left out."""
    return None if body.get(field) is None else _text(body[field], field)


def flag(body: dict[str, Any], field: str, default: bool | None = None) -> bool:
    """A boolean, required when there is no default."""
    value = body.get(field, default)
    if not isinstance(value, bool):
        raise RefusedError(400, f"{field}: expected true or false")
    return value


def object_field(body: dict[str, Any], field: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
    """A JSON object, required when there is no default."""
    value = body.get(field, default)
    if not isinstance(value, dict):
        raise RefusedError(400, f"{field}: expected an object")
    return value


def query_number(request: Request, field: str, maximum: int | None = None) -> int:
    """A whole number from the query, 0 when left out; larger ones than `maximum` are cut to it."""
    text = request.query_params.get(field, "0")
    if not (text.isascii() and text.isdecimal()) or len(text) > 15:
        raise RefusedError(400, f"{field}: expected a whole number, 0 or more")
    return int(text) if maximum is None else min(int(text), maximum)


def lid_field(body: dict[str, Any]) -> str | None:
    """The LID a caller wishes, as digits."""
    value = body.get("lid")
    if value is None:
        return None
    if isinstance(value, str):
        digits = value.removesuffix("@lid")
        if digits.isascii() and digits.isdecimal() and 7 <= len(digits) <= 20:
            return digits
    raise RefusedError(400, "lid: expected a string of 7 to 20 digits")


def pairing_request(body: dict[str, Any]) -> PairingRequest:
    """The QR code of a scan: its text in `qr`, or a picture in `png` (base64, a data URL is fine too)."""
    if (body.get("qr") is None) == (body.get("png") is None):
        raise RefusedError(400, "qr, png: give exactly one of them")
    field = "qr" if body.get("qr") is not None else "png"
    text = text_field(body, field, limit=40_000_000)
    try:
        return read_text(text if field == "qr" else text_from_picture(_picture(text)))
    except UnreadableQrError as error:
        raise RefusedError(400, f"{field}: {error}") from error


def linking_code(body: dict[str, Any]) -> str:
    """The code that a client shows, typed with or without its dash, in either case."""
    try:
        return read_code(text_field(body, "code", limit=64))
    except UnreadableCodeError as error:
        raise RefusedError(400, f"code: {error}") from error


def _picture(text: str) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnreadableQrError("expected the picture as base64") from error


def recipient(body: dict[str, Any]) -> str:
    """The number that a message goes to."""
    to = body.get("to")
    if isinstance(to, str) and to.endswith("@g.us"):
        raise RefusedError(501, "to: groups do not exist in this sandbox yet; send to a number")
    return phone_number(to, "to")


def content_of(body: dict[str, Any]) -> Content:
    """What a person is asked to send: exactly one of the kinds."""
    kinds = [kind for kind in _KINDS if body.get(kind) is not None]
    if len(kinds) != 1:
        raise RefusedError(400, f"give exactly one of {', '.join(_KINDS)}; got {', '.join(kinds) or 'none'}")
    kind = kinds[0]
    if kind in _LATER:
        raise RefusedError(501, f"{kind}: phones of this sandbox cannot send it yet; send a text")
    if kind == "text":
        return Text(text_field(body, "text"))
    part = object_field(body, kind)
    if kind == "poll":
        return _poll(part)
    return _about(kind, part) if kind in ("reaction", "edit", "delete") else _card_or_place(kind, part)


def _about(kind: str, part: dict[str, Any]) -> Content:
    message_id = _text(part.get("messageId"), f"{kind}.messageId")
    if kind == "reaction":
        return Reaction(message_id, _text(part.get("emoji"), "reaction.emoji", empty=True, limit=64))
    if kind == "edit":
        return Edit(message_id, _text(part.get("text"), "edit.text"))
    return Delete(message_id)


def _poll(part: dict[str, Any]) -> Poll:
    name, options = _text(part.get("name"), "poll.name"), _texts(part.get("options"), "poll.options")
    if not 2 <= len(options) <= MAX_OPTIONS or len(set(options)) < len(options):
        raise RefusedError(400, f"poll.options: expected 2 to {MAX_OPTIONS} different texts")
    selectable = part.get("selectable", 1)
    if isinstance(selectable, bool) or not isinstance(selectable, int) or not 0 <= selectable <= len(options):
        raise RefusedError(400, "poll.selectable: expected a number of options, 0 for any")
    return Poll(name, options, selectable)


def _texts(value: object, field: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise RefusedError(400, f"{field}: expected a list of texts")
    return tuple(_text(item, field) for item in value)


def vote_options(body: dict[str, Any]) -> tuple[str, ...]:
    """The options of a vote by name; an empty list withdraws it."""
    return _texts(body.get("options"), "options")


def addressing(body: dict[str, Any]) -> str | None:
    """The address space of `addressing` (`pn` or `lid`); None when it is left out."""
    value = body.get("addressing")
    if value not in (None, "pn", "lid"):
        raise RefusedError(400, "addressing: expected pn or lid")
    return None if value is None else LID_SERVER if value == "lid" else PN_SERVER


def _card_or_place(kind: str, part: dict[str, Any]) -> Content:
    if kind == "location":
        return Location(
            _degrees(part, "latitude", 90),
            _degrees(part, "longitude", 180),
            _text(part.get("name") or "", "location.name", empty=True),
            _text(part.get("address") or "", "location.address", empty=True),
        )
    name = _text(part.get("name"), "contact.name")
    if part.get("vcard") is not None:
        return Contact(name, _text(part["vcard"], "contact.vcard"))
    digits = phone_number(part.get("phone"), "contact.phone")
    if "\n" in name or "\r" in name:
        raise RefusedError(400, "contact.name: expected one line")
    return Contact(name, vcard_of(name, digits))


def _degrees(part: dict[str, Any], field: str, limit: int) -> float:
    value = part.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -limit <= value <= limit:
        raise RefusedError(400, f"location.{field}: expected degrees from -{limit} to {limit}")
    return float(value)


def quote_of(body: dict[str, Any]) -> str | None:
    """The id of the quoted message: a string, or an object with `messageId`."""
    quote = body.get("quote")
    if isinstance(quote, dict):
        return _text(quote.get("messageId"), "quote.messageId")
    return None if quote is None else _text(quote, "quote")
