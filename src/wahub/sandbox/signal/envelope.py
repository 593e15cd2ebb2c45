"""The two Signal messages on the wire: version byte 0x33, protobuf, and an 8-byte MAC after the ratchet message.

The fields are few and hot, so they are written and read here directly instead of through generated classes.
Source: libsignal src/WhisperTextProtocol.js (field numbers) and src/session_cipher.js (framing).
"""

from __future__ import annotations

from dataclasses import dataclass

from wahub.sandbox.signal.curve import with_type, without_type
from wahub.sandbox.signal.errors import SignalError, UndecryptableError
from wahub.sandbox.signal.kdf import MAC_LENGTH

_VARINT = 0
_BYTES = 2


@dataclass(slots=True)
class RatchetMessage:
    """A ratchet message; `mac` is empty when it is still to be computed."""

    ratchet_key: bytes
    counter: int
    previous_counter: int
    ciphertext: bytes
    mac: bytes = b""


@dataclass(slots=True)
class PreKeyMessage:
    """A ratchet message with what begins its session."""

    registration_id: int
    prekey_id: int | None
    signed_prekey_id: int
    base_key: bytes
    identity: bytes
    message: bytes


def write_ratchet(message: RatchetMessage) -> bytes:
    """Version byte and protobuf, without the MAC."""
    return b"".join(
        (
            b"\x33\x0a\x21",
            with_type(message.ratchet_key),
            b"\x10",
            _varint(message.counter),
            b"\x18",
            _varint(message.previous_counter),
            b"\x22",
            _varint(len(message.ciphertext)),
            message.ciphertext,
        )
    )


def write_prekey(message: PreKeyMessage) -> bytes:
    """Version byte and protobuf."""
    prekey = b"" if message.prekey_id is None else b"\x08" + _varint(message.prekey_id)
    return b"".join(
        (
            b"\x33",
            prekey,
            b"\x12\x21",
            with_type(message.base_key),
            b"\x1a\x21",
            with_type(message.identity),
            b"\x22",
            _varint(len(message.message)),
            message.message,
            b"\x28",
            _varint(message.registration_id),
            b"\x30",
            _varint(message.signed_prekey_id),
        )
    )


def read_ratchet(body: bytes) -> RatchetMessage:
    """Read a ratchet message with its MAC; UndecryptableError when it is malformed."""
    numbers, blobs = _fields(body, len(body) - MAC_LENGTH)
    try:
        return RatchetMessage(
            without_type(blobs[1]), numbers[2], numbers.get(3, 0), blobs[4], body[len(body) - MAC_LENGTH :]
        )
    except (KeyError, SignalError) as error:
        raise UndecryptableError("the ratchet message is incomplete") from error


def read_prekey(body: bytes) -> PreKeyMessage:
    """Read a prekey message; UndecryptableError when it is malformed."""
    numbers, blobs = _fields(body, len(body))
    try:
        return PreKeyMessage(
            registration_id=numbers.get(5, 0),
            prekey_id=numbers.get(1),
            signed_prekey_id=numbers[6],
            base_key=without_type(blobs[2]),
            identity=without_type(blobs[3]),
            message=blobs[4],
        )
    except (KeyError, SignalError) as error:
        raise UndecryptableError("the prekey message is incomplete") from error


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise UndecryptableError("a number runs over the end of the message")


def _fields(data: bytes, end: int) -> tuple[dict[int, int], dict[int, bytes]]:
    """Numbers and byte strings of a message by field number; other wire types do not occur."""
    if end < 1 or data[0] & 0xF > 3 or data[0] >> 4 < 3:
        raise UndecryptableError("wrong version")
    numbers: dict[int, int] = {}
    blobs: dict[int, bytes] = {}
    at = 1
    while at < end:
        key, at = _read_varint(data, at, end)
        value, at = _read_varint(data, at, end)
        kind = key & 7
        if kind == _VARINT:
            numbers[key >> 3] = value
        elif kind == _BYTES and at + value <= end:
            blobs[key >> 3] = data[at : at + value]
            at += value
        else:
            raise UndecryptableError("a field runs over the end of the message")
    return numbers, blobs
