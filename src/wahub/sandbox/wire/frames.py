"""Frames: each Noise message travels behind a 3-byte big-endian length; the first one behind a prologue.

A WebSocket message may hold a part of a frame or several frames (source: Baileys src/Utils/noise-handler.ts, whatsmeow
socket/framesocket.go), so the reader keeps what is incomplete.
"""

from __future__ import annotations

from wahub.sandbox.wire.tokens import DICTIONARY_VERSION

PROLOGUE = bytes((0x57, 0x41, 6, DICTIONARY_VERSION))
"""`WA`, the protocol version and the dictionary version; the handshake authenticates these four bytes."""

MAX_FRAME = (1 << 24) - 1


class FrameError(Exception):
    """The peer does not speak WhatsApp's framing."""


def pack_frame(payload: bytes) -> bytes:
    """A frame around `payload` (at most 16 MiB - 1)."""
    if len(payload) > MAX_FRAME:
        raise FrameError("payload does not fit in a frame")
    return len(payload).to_bytes(3, "big") + payload


class FrameReader:
    """Cuts a client's byte stream into frames; takes off the prologue and the optional `ED` routing prefix first."""

    __slots__ = ("_buffer", "_started")

    def __init__(self) -> None:
        self._buffer = b""
        self._started = False

    def feed(self, data: bytes) -> list[bytes]:
        """All frames that are complete now. FrameError when the prologue is wrong."""
        buffer = self._buffer + data if self._buffer else data
        start = 0
        if not self._started:
            start = _skip_prologue(buffer)
            if start < 0:
                self._buffer = buffer
                return []
            self._started = True
        frames: list[bytes] = []
        end = len(buffer)
        while end - start >= 3:
            stop = start + 3 + int.from_bytes(buffer[start : start + 3], "big")
            if stop > end:
                break
            frames.append(buffer[start + 3 : stop])
            start = stop
        self._buffer = buffer[start:]
        return frames


def _skip_prologue(buffer: bytes) -> int:
    """Where the first frame starts; -1 when more bytes are needed.

    The routing prefix is `ED`, two version bytes, a 3-byte length and that many bytes (Baileys writes the versions as
    0 1); the handshake does not authenticate it.
    """
    start = 0
    if buffer[:2] == b"ED":
        if len(buffer) < 7:
            return -1
        start = 7 + int.from_bytes(buffer[4:7], "big")
    if len(buffer) < start + 4:
        return -1
    if buffer[start : start + 4] != PROLOGUE:
        raise FrameError("wrong prologue")
    return start + 4
