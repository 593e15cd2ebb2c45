"""The recorded handshakes with Baileys, replayed; frames; what does not verify."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.unit.sandbox.test_wire_nodes import node_of

from wahub.sandbox.wire.frames import FrameError, FrameReader, pack_frame
from wahub.sandbox.wire.nodes import decode_node, encode_node
from wahub.sandbox.wire.noise import NoiseError, ServerHandshake

FIXTURES = Path(__file__).parents[2] / "fixtures" / "wire"


def recorded(name: str) -> dict[str, Any]:
    return json.loads((FIXTURES / name).read_text())


def server_of(recording: dict[str, Any]) -> ServerHandshake:
    def load(name: str) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(bytes.fromhex(recording[name]))

    return ServerHandshake(load("server_static"), bytes.fromhex(recording["cert_chain"]), load("server_ephemeral"))


def frames_of(recording: dict[str, Any], *names: str) -> list[bytes]:
    reader = FrameReader()
    return [frame for name in names for frame in reader.feed(bytes.fromhex(recording[name]))]


@pytest.mark.parametrize("name", ["handshake.json", "handshake_routed.json"])
def test_a_recorded_handshake_gives_the_same_bytes(name: str) -> None:
    recording = recorded(name)
    hello, finish = frames_of(recording, "client_hello", "client_finish")
    server = server_of(recording)

    assert server.hello(hello).hex() == recording["server_hello"]
    established = server.finish(finish)

    assert established.client_static.hex() == recording["client_noise_public"]
    assert established.payload.hex() == recording["payload"]
    reader = FrameReader()
    reader.feed(bytes.fromhex(recording["client_hello"]))
    read = [
        decode_node(established.incoming.decrypt(frame))
        for text in recording["client_frames"]
        for frame in reader.feed(bytes.fromhex(text))
    ]
    assert [(node.tag, node.attrs) for node in read] == [(n["tag"], n["attrs"]) for n in recording["client_nodes"]]
    for text, shown in zip(recording["server_frames"], recording["server_nodes_as_read"], strict=True):
        assert pack_frame(established.outgoing.encrypt(encode_node(node_of(shown)))).hex() == text


def test_a_tampered_finish_does_not_verify() -> None:
    recording = recorded("handshake.json")
    hello, finish = frames_of(recording, "client_hello", "client_finish")
    server = server_of(recording)
    server.hello(hello)
    with pytest.raises(NoiseError):
        server.finish(finish[:-1] + bytes((finish[-1] ^ 1,)))


def test_a_replayed_transport_frame_has_the_wrong_counter() -> None:
    recording = recorded("handshake.json")
    hello, finish = frames_of(recording, "client_hello", "client_finish")
    server = server_of(recording)
    server.hello(hello)
    incoming = server.finish(finish).incoming
    first = bytes.fromhex(recording["client_frames"][0])[3:]
    incoming.decrypt(first)
    with pytest.raises(NoiseError):
        incoming.decrypt(first)


@pytest.mark.parametrize("message", [b"", b"\x00", b"\x12\x00", b"\x12\x22\x0a\x20" + bytes(32)])
def test_a_hello_that_is_none_is_refused(message: bytes) -> None:
    with pytest.raises(NoiseError):
        server_of(recorded("handshake.json")).hello(message)


def test_frames_are_cut_wherever_the_stream_is_split() -> None:
    stream = b"WA\x06\x03" + pack_frame(b"one") + pack_frame(b"") + pack_frame(b"x" * 70_000)
    for step in (1, 2, 3, 7, 1000, len(stream)):
        reader = FrameReader()
        frames = [f for at in range(0, len(stream), step) for f in reader.feed(stream[at : at + step])]
        assert frames == [b"one", b"", b"x" * 70_000]


@pytest.mark.parametrize("start", [b"WA\x06\x02", b"GET / HTTP/1.1", b"ED\x00\x01\x00\x00\x01xWA\x05\x03"])
def test_another_prologue_is_refused(start: bytes) -> None:
    with pytest.raises(FrameError):
        FrameReader().feed(start)
