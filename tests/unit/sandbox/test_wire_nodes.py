"""Stanzas on the wire against vectors recorded from Baileys, and what the decoder refuses."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wahub.sandbox.node import Node
from wahub.sandbox.wire import tokens
from wahub.sandbox.wire.nodes import NodeError, decode_node, encode_node

RECORDED = json.loads((Path(__file__).parents[2] / "fixtures" / "wire" / "nodes.json").read_text())
RUN = "{ab*1048576}", "ab" * 1_048_576


def whole(text: str) -> str:
    return text.replace(*RUN)


def node_of(recorded: dict[str, Any]) -> Node:
    content = recorded["content"]
    if isinstance(content, list):
        return Node(recorded["tag"], recorded["attrs"], [node_of(child) for child in content])
    if isinstance(content, str):
        text = whole(content)
        data = bytes.fromhex(text[4:]) if text.startswith("hex:") else text.encode()
        return Node(recorded["tag"], recorded["attrs"], data)
    return Node(recorded["tag"], recorded["attrs"])


VECTORS = [(bytes.fromhex(whole(vector["encoded"])), node_of(vector["node"])) for vector in RECORDED["vectors"]]


@pytest.mark.parametrize(("encoded", "node"), VECTORS, ids=range(len(VECTORS)))
def test_what_baileys_wrote_is_read_as_baileys_reads_it(encoded: bytes, node: Node) -> None:
    assert decode_node(encoded) == node


def test_we_write_what_baileys_writes() -> None:
    compared = 0
    for vector, (encoded, node) in zip(RECORDED["vectors"][: RECORDED["encodes"]], VECTORS, strict=False):
        if isinstance(vector["node"]["content"], str) and not vector["node"]["content"].startswith("hex:"):
            continue  # string content: Node has bytes, which are written as bytes
        if "Not a JID @ all" in vector["node"]["attrs"].values():
            continue  # Baileys writes every @ as an address; we and whatsmeow write a text
        assert encode_node(node) == encoded, vector["node"]
        compared += 1
    assert compared >= 15


def test_dictionary_has_its_recorded_size_and_no_doubles() -> None:
    assert tokens.DICTIONARY_VERSION == 3
    assert len(tokens.SINGLE) == 236
    assert [len(block) for block in tokens.DOUBLE] == [256] * 4
    assert len(tokens.ENCODED) == 235 + 4 * 256


text = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"[0-9.\-]{0,130}", fullmatch=True),
    st.from_regex(r"[0-9A-F]{0,130}", fullmatch=True),
    st.sampled_from(sorted(tokens.ENCODED)),
    st.from_regex(r"[0-9]{1,15}(:[1-9][0-9]?)?@(s\.whatsapp\.net|lid)", fullmatch=True),
)
nodes = st.recursive(
    st.builds(
        Node,
        text.filter(bool),
        st.dictionaries(text, text, max_size=5),
        st.one_of(st.none(), st.binary(max_size=300)),
    ),
    lambda child: st.builds(
        Node, text.filter(bool), st.dictionaries(text, text, max_size=3), st.lists(child, max_size=4)
    ),
    max_leaves=8,
)


@given(nodes)
def test_every_stanza_survives_the_way_there_and_back(node: Node) -> None:
    assert decode_node(encode_node(node)) == node


@given(st.binary(max_size=200))
def test_garbage_is_refused_with_one_kind_of_error(data: bytes) -> None:
    with contextlib.suppress(NodeError):
        decode_node(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x00\x00",
        bytes([0, 248, 1, 252, 5, 65]),
        bytes([0, 248, 1, 252, 1, 65, 0]),
        bytes([2, 1, 2, 3]),
        bytes([0]) + bytes([248, 2, 252, 1, 65, 248, 1]) * 40 + bytes([248, 1, 252, 1, 65]),
    ],
    ids=["nothing", "flag only", "empty list", "cut short", "left over", "not zlib", "too deep"],
)
def test_malformed_stanzas_are_refused(data: bytes) -> None:
    with pytest.raises(NodeError):
        decode_node(data)


def test_a_compressed_stanza_cannot_fill_the_memory() -> None:
    import zlib

    bomb = zlib.compress(bytes(80 * 1024 * 1024))
    with pytest.raises(NodeError):
        decode_node(b"\x02" + bomb)
