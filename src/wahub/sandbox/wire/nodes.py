"""Stanzas as bytes: lists of strings, where a string is a token, packed digits, a JID or plain UTF-8.

source: Baileys 7.0.0-rc14 src/WABinary/encode.ts and decode.ts; whatsmeow binary/encoder.go and decoder.go.
Encoding follows whatsmeow where the two differ: `user:0@server` has no device byte. Node content that arrives as a
string (a token or packed digits) is given as its UTF-8 bytes, because `Node.content` is bytes.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

from wahub.sandbox.node import Node
from wahub.sandbox.wire.tokens import DOUBLE, ENCODED, SINGLE

LIST_EMPTY = 0
DICTIONARY_0 = 236
DICTIONARY_3 = 239
INTEROP_JID = 245
FB_JID = 246
AD_JID = 247
LIST_8 = 248
LIST_16 = 249
JID_PAIR = 250
HEX_8 = 251
BINARY_8 = 252
BINARY_20 = 253
BINARY_32 = 254
NIBBLE_8 = 255

_DOMAINS = {"s.whatsapp.net": 0, "lid": 1, "hosted": 128, "hosted.lid": 129}
_SERVER_OF_DOMAIN = {number: server for server, number in _DOMAINS.items()}
_JID_SERVERS = frozenset(
    ("s.whatsapp.net", "lid", "g.us", "broadcast", "newsletter", "call", "c.us", "bot", "hosted", "hosted.lid")
)
_NIBBLES = re.compile(r"[0-9.\-]{1,127}")
_HEX = re.compile(r"[0-9A-F]{1,127}")
_PACK_NIBBLES = str.maketrans("-.", "ab")
_UNPACK_NIBBLES = {ord("a"): "-", ord("b"): ".", ord("f"): "\0"}
_MAX_DEPTH = 32
_MAX_INFLATED = 64 * 1024 * 1024


class NodeError(ValueError):
    """The bytes are not a stanza."""


def encode_node(node: Node) -> bytes:
    """The stanza with its leading flag byte 0 (not compressed)."""
    out = bytearray(1)
    _write_node(out, node)
    return bytes(out)


def decode_node(data: bytes) -> Node:
    """Read a stanza; the flag byte 2 means zlib. NodeError when it is malformed or has bytes left over."""
    if not data:
        raise NodeError("empty stanza")
    body = _inflate(data[1:]) if data[0] & 2 else data[1:]
    reader = _Reader(body)
    try:
        node = reader.node(0)
    except (IndexError, UnicodeDecodeError) as error:
        raise NodeError("stanza is cut short or garbled") from error
    if reader.position != len(body):
        raise NodeError("bytes after the stanza")
    return node


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(data, _MAX_INFLATED)
    except zlib.error as error:
        raise NodeError("not a zlib stream") from error
    if not inflater.eof:
        raise NodeError("compressed stanza is cut short or too large")
    return body


def _write_node(out: bytearray, node: Node) -> None:
    content = node.content
    _write_list_start(out, 2 * len(node.attrs) + (1 if content is None else 2))
    _write_string(out, node.tag)
    for key, value in node.attrs.items():
        _write_string(out, key)
        _write_string(out, value)
    if content is None:
        return
    if isinstance(content, list):
        _write_list_start(out, len(content))
        for child in content:
            _write_node(out, child)
    else:
        _write_bytes(out, content)


def _write_list_start(out: bytearray, size: int) -> None:
    if size == 0:
        out.append(LIST_EMPTY)
    elif size < 256:
        out.append(LIST_8)
        out.append(size)
    elif size < 65536:
        out.append(LIST_16)
        out += size.to_bytes(2, "big")
    else:
        raise NodeError("too many children")


def _write_bytes(out: bytearray, data: bytes) -> None:
    size = len(data)
    if size < 256:
        out.append(BINARY_8)
        out.append(size)
    elif size < 1 << 20:
        out.append(BINARY_20)
        out += size.to_bytes(3, "big")
    else:
        out.append(BINARY_32)
        out += size.to_bytes(4, "big")
    out += data


def _write_string(out: bytearray, text: str) -> None:
    token = ENCODED.get(text)
    if token is not None:
        out += token
    elif "@" in text and _write_jid(out, text):
        return
    elif _NIBBLES.fullmatch(text):
        _write_packed(out, NIBBLE_8, text, text.translate(_PACK_NIBBLES))
    elif _HEX.fullmatch(text):
        _write_packed(out, HEX_8, text, text)
    else:
        _write_bytes(out, text.encode())


def _write_packed(out: bytearray, tag: int, text: str, digits: str) -> None:
    odd = len(text) & 1
    out.append(tag)
    out.append((len(text) + 1) // 2 | (128 if odd else 0))
    out += bytes.fromhex(digits + "f" if odd else digits)


def _write_jid(out: bytearray, text: str) -> bool:
    """False when the text only looks like an address (a push name with an @)."""
    user, _, server = text.partition("@")
    if server not in _JID_SERVERS:
        return False
    name, colon, device = user.partition(":")
    if colon:
        if server not in _DOMAINS or not device.isdecimal() or int(device) > 255:
            return False
        if device != "0":
            out.append(AD_JID)
            out.append(_DOMAINS[server])
            out.append(int(device))
            _write_string(out, name)
            return True
    out.append(JID_PAIR)
    if name:
        _write_string(out, name)
    else:
        out.append(LIST_EMPTY)
    _write_string(out, server)
    return True


class _Reader:
    """A position in the bytes of one stanza; IndexError past the end."""

    __slots__ = ("data", "position")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def byte(self) -> int:
        value = self.data[self.position]
        self.position += 1
        return value

    def take(self, size: int) -> bytes:
        start = self.position
        stop = start + size
        if stop > len(self.data):
            raise IndexError
        self.position = stop
        return self.data[start:stop]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def list_size(self, tag: int) -> int:
        if tag == LIST_8:
            return self.byte()
        if tag == LIST_16:
            return self.number(2)
        if tag == LIST_EMPTY:
            return 0
        raise NodeError("a list was expected")

    def node(self, depth: int) -> Node:
        if depth > _MAX_DEPTH:
            raise NodeError("stanza is nested too deeply")
        size = self.list_size(self.byte())
        if size == 0:
            raise NodeError("stanza without a tag")
        tag = self.string(self.byte())
        if not tag:
            raise NodeError("stanza without a tag")
        attrs: dict[str, str] = {}
        for _ in range((size - 1) // 2):
            key = self.string(self.byte())
            attrs[key] = self.string(self.byte())
        return Node(tag, attrs, None if size & 1 else self.content(depth))

    def content(self, depth: int) -> list[Node] | bytes | None:
        tag = self.byte()
        if tag == BINARY_8:
            return self.take(self.byte())
        if tag == BINARY_20:
            return self.take(self.number(3) & 0xFFFFF)
        if tag == BINARY_32:
            return self.take(self.number(4))
        if tag in (LIST_8, LIST_16, LIST_EMPTY):
            return [self.node(depth + 1) for _ in range(self.list_size(tag))]
        return self.string(tag).encode()

    def string(self, tag: int) -> str:
        if 0 < tag < DICTIONARY_0:
            return SINGLE[tag]
        if tag <= DICTIONARY_3 and tag:
            return DOUBLE[tag - DICTIONARY_0][self.byte()]
        read = _STRING_KINDS.get(tag)
        if read is None:
            raise NodeError("unknown kind of string")
        return read(self)

    def packed(self, nibbles: bool) -> str:
        head = self.byte()
        digits = self.take(head & 127).hex()
        if head & 128:
            digits = digits[:-1]
        if not nibbles:
            return digits.upper()
        if "c" in digits or "d" in digits or "e" in digits:
            raise NodeError("invalid packed digit")
        return digits.translate(_UNPACK_NIBBLES)

    def jid_pair(self) -> str:
        user = self.string(self.byte())
        return f"{user}@{self.string(self.byte())}"

    def ad_jid(self) -> str:
        domain = self.byte()
        device = self.byte()
        server = _SERVER_OF_DOMAIN.get(domain, "s.whatsapp.net")
        user = self.string(self.byte())
        return f"{user}:{device}@{server}" if device else f"{user}@{server}"

    def fb_jid(self) -> str:
        user = self.string(self.byte())
        device = self.number(2)
        return f"{user}:{device}@{self.string(self.byte())}"

    def interop_jid(self) -> str:
        user = self.string(self.byte())
        device, integrator = self.number(2), self.number(2)
        return f"{integrator}-{user}:{device}@{self.string(self.byte())}"


_STRING_KINDS: dict[int, Callable[[_Reader], str]] = {
    LIST_EMPTY: lambda _: "",
    BINARY_8: lambda reader: reader.take(reader.byte()).decode(),
    BINARY_20: lambda reader: reader.take(reader.number(3) & 0xFFFFF).decode(),
    BINARY_32: lambda reader: reader.take(reader.number(4)).decode(),
    JID_PAIR: _Reader.jid_pair,
    AD_JID: _Reader.ad_jid,
    FB_JID: _Reader.fb_jid,
    INTEROP_JID: _Reader.interop_jid,
    NIBBLE_8: lambda reader: reader.packed(True),
    HEX_8: lambda reader: reader.packed(False),
}
