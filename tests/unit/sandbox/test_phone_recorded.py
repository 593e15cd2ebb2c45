"""Message contents as the real Baileys encodes them (tests/tools/record_messages.mjs): phones must read them."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from wahub.sandbox.phone.padding import unpad
from wahub.sandbox.phone.reading import read
from wahub.sandbox.proto import e2e_pb2

RECORDING = json.loads((Path(__file__).parents[2] / "fixtures" / "messages.json").read_text())
CARD = {"name": "Cy", "vcard": "BEGIN:VCARD\nVERSION:3.0\nFN:Cy\nEND:VCARD"}
EXPECTED: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "text": ("text", "مرحبا 😀", {}),
    "mention": ("text", "hello @201000000003", {}),
    "quote": ("text", "the answer", {"quote": {"messageId": "OTHER1", "text": "the question"}}),
    "location": (
        "location",
        None,
        {"location": {"latitude": 30.0444, "longitude": 31.2357, "name": "Cairo", "address": "Tahrir"}},
    ),
    "contact": ("contact", None, {"contact": CARD}),
    "contacts": ("contacts", None, {"contacts": [CARD, {"name": "Di", "vcard": "BEGIN:VCARD\nEND:VCARD"}]}),
    "reaction": ("reaction", None, {"reaction": {"messageId": "OTHER1", "emoji": "👍"}}),
    "reaction_withdrawn": ("reaction", None, {"reaction": {"messageId": "OTHER1", "emoji": ""}}),
    "edit": ("edit", "new text", {"edit": {"messageId": "OTHER1", "text": "new text"}}),
    "delete": ("delete", None, {"delete": {"messageId": "OTHER1"}}),
    "poll_one": ("poll", "Come?", {}),
    "poll_any": ("poll", "Which?", {}),
}


def test_everything_recorded_is_expected() -> None:
    assert RECORDING["messages"].keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_reading(name: str) -> None:
    said = read(e2e_pb2.Message.FromString(b64decode(RECORDING["messages"][name])))
    assert said is not None
    kind, text, more = EXPECTED[name]
    assert (said.type, said.text, said.more or {}) == (kind, text, more)


def test_polls() -> None:
    polls = {
        name: read(e2e_pb2.Message.FromString(b64decode(RECORDING["messages"][name])))
        for name in ("poll_one", "poll_any")
    }
    found = {name: said.poll for name, said in polls.items() if said is not None}
    assert found == {
        "poll_one": {"name": "Come?", "options": ["yes", "no"], "selectable": 1},
        "poll_any": {"name": "Which?", "options": ["a", "b", "c"], "selectable": 0},
    }


def test_padding() -> None:
    assert e2e_pb2.Message.FromString(unpad(b64decode(RECORDING["padded"]))).conversation == "padded"
