"""How frames become bytes, and how a byte stream is cut into frames.

A frame is a 4-byte big-endian length and a msgpack map; which there are is said in wire.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from wahub.adapters.engines.baileys.wire import FromEngine, ToEngine

_HEADER_BYTES = 4
_MAX_FRAME_BYTES = 64 * 1024 * 1024

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[FromEngine] = msgspec.msgpack.Decoder(FromEngine)


class FrameError(Exception):
    """Bytes that are no frame of this protocol version."""


def encode(frame: ToEngine) -> bytes:
    """The frame with its length in front."""
    body = _encoder.encode(frame)
    return len(body).to_bytes(_HEADER_BYTES, "big") + body


class FrameReader:
    """Cuts a byte stream into frames, however the bytes arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[FromEngine]:
        """The frames that `data` completes. FrameError: the stream is broken and must not be read further."""
        buffer = self._buffer
        buffer += data
        offset = 0
        try:
            while len(buffer) - offset >= _HEADER_BYTES:
                start = offset + _HEADER_BYTES
                length = int.from_bytes(buffer[offset:start], "big")
                if length > _MAX_FRAME_BYTES:
                    raise FrameError(f"frame of {length} bytes")
                if len(buffer) - start < length:
                    break
                offset = start + length
                yield _decode(bytes(buffer[start:offset]))
        finally:
            del buffer[:offset]


def _decode(body: bytes) -> FromEngine:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FrameError(f"unreadable frame: {error}") from None
