"""Reading requests of the control API: bodies, numbers, and what a person is asked to send.

Every refusal is a `RefusedError` whose text names the field and what it should be.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterable
from typing import Any

import msgspec
from starlette.requests import Request

from wahub.sandbox.model import GROUP_SERVER, LID_SERVER, PN_SERVER, STATUS, PairingRequest, RefusedError
from wahub.sandbox.phone.linkcode import UnreadableCodeError, read_code
from wahub.sandbox.phone.qr import UnreadableQrError, read_text, text_from_picture

MAX_WAIT_MS = 300_000
MAX_TEXT = 65_536


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


def text_field(body: dict[str, Any], field: str, *, limit: int = MAX_TEXT) -> str:
    """A required string."""
    return text_of(body.get(field), field, limit=limit)


def text_of(value: object, field: str, *, empty: bool = False, limit: int = MAX_TEXT) -> str:
    """A string of at most `limit` characters."""
    if not isinstance(value, str) or (not value and not empty):
        raise RefusedError(400, f"{field}: expected a string{'' if empty else ' that is not empty'}")
    if len(value) > limit:
        raise RefusedError(400, f"{field}: at most {limit} characters")
    return value


def texts(value: object, field: str) -> tuple[str, ...]:
    """A list of strings that are not empty."""
    if not isinstance(value, list):
        raise RefusedError(400, f"{field}: expected a list of texts")
    return tuple(text_of(item, field) for item in value)


def optional_text(body: dict[str, Any], field: str) -> str | None:
    """An optional string; null counts as left out."""
    return None if body.get(field) is None else text_of(body[field], field)


def flag(body: dict[str, Any], field: str, default: bool | None = None) -> bool:
    """A boolean, required when there is no default."""
    value = body.get(field, default)
    if not isinstance(value, bool):
        raise RefusedError(400, f"{field}: expected true or false")
    return value


def one_of(body: dict[str, Any], field: str, values: Iterable[str]) -> str:
    """One of the texts that are known."""
    value = body.get(field)
    if not isinstance(value, str) or value not in values:
        raise RefusedError(400, f"{field}: expected one of {', '.join(values)}")
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
    """Where a message goes: a number, a group, or the status list."""
    to = body.get("to")
    if to == str(STATUS):
        return str(STATUS)
    if isinstance(to, str) and to.endswith(f"@{GROUP_SERVER}"):
        if not to.removesuffix(f"@{GROUP_SERVER}").isalnum():
            raise RefusedError(400, "to: expected a group as GET /control/groups shows it")
        return to
    return phone_number(to, "to")


def vote_options(body: dict[str, Any]) -> tuple[str, ...]:
    """The options of a vote by name; an empty list withdraws it."""
    return texts(body.get("options"), "options")


def addressing(body: dict[str, Any]) -> str | None:
    """The address space of `addressing` (`pn` or `lid`); None when it is left out."""
    value = body.get("addressing")
    if value not in (None, "pn", "lid"):
        raise RefusedError(400, "addressing: expected pn or lid")
    return None if value is None else LID_SERVER if value == "lid" else PN_SERVER


def quote_of(body: dict[str, Any]) -> str | None:
    """The id of the quoted message: a string, or an object with `messageId`."""
    quote = body.get("quote")
    if isinstance(quote, dict):
        return text_of(quote.get("messageId"), "quote.messageId")
    return None if quote is None else text_of(quote, "quote")
