"""Sender keys: chains recorded with the library that Baileys uses, and what is refused."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from wahub.sandbox.signal.errors import KeyUsedError, NoSessionError, UndecryptableError
from wahub.sandbox.signal.groups import MAX_SKIPPED, SenderKeys

GROUP, ANNA = "1203@g.us", "201000000001:0"
STEPS: list[dict[str, str]] = json.loads((Path(__file__).parents[2] / "fixtures" / "sender_keys.json").read_text())[
    "steps"
]
FIRST, *MESSAGES = (step for step in STEPS[:6])


def recorded(keys: SenderKeys, step: dict[str, str]) -> bytes:
    return keys.decrypt(GROUP, ANNA, b64decode(step["body"]))


def reader() -> SenderKeys:
    keys = SenderKeys()
    keys.process(GROUP, ANNA, b64decode(FIRST["distribution"]))
    return keys


def pair() -> tuple[SenderKeys, SenderKeys]:
    writer, keys = SenderKeys(), SenderKeys()
    keys.process(GROUP, ANNA, writer.distribution(GROUP))
    return writer, keys


def test_a_recorded_chain_is_read() -> None:
    keys = SenderKeys()
    for step in STEPS:
        if "distribution" in step:
            keys.process(GROUP, ANNA, b64decode(step["distribution"]))
        else:
            assert recorded(keys, step) == b64decode(step["plain"])


@pytest.mark.parametrize("order", [(4, 3, 2, 1, 0), (2, 0, 4, 1, 3)])
def test_any_order(order: tuple[int, ...]) -> None:
    keys = reader()
    for index in order:
        assert recorded(keys, MESSAGES[index]) == b64decode(MESSAGES[index]["plain"])
    for index in order:
        with pytest.raises(KeyUsedError):
            recorded(keys, MESSAGES[index])


def test_who_comes_later_reads_only_what_comes_later() -> None:
    keys = SenderKeys()
    keys.process(GROUP, ANNA, b64decode(STEPS[6]["distribution"]))
    assert recorded(keys, STEPS[7]) == b"message 5"
    with pytest.raises(KeyUsedError):
        recorded(keys, MESSAGES[0])


def test_a_later_distribution_does_not_take_away_what_can_be_read() -> None:
    keys = reader()
    keys.process(GROUP, ANNA, b64decode(STEPS[6]["distribution"]))
    assert recorded(keys, MESSAGES[1]) == b"message 1"


def test_round_trip_and_renewal() -> None:
    writer, keys = pair()
    for turn in range(3):
        assert keys.decrypt(GROUP, ANNA, writer.encrypt(GROUP, b"x" * turn * 16)) == b"x" * turn * 16
    writer.shared_with(GROUP).add("1:0")
    writer.renew(GROUP)
    assert writer.shared_with(GROUP) == set()
    body = writer.encrypt(GROUP, b"not for you")
    with pytest.raises(NoSessionError):
        keys.decrypt(GROUP, ANNA, body)
    assert keys.names() == [(GROUP, ANNA)]


@pytest.mark.parametrize("place", [1, 40, -1, -64])
def test_a_changed_message_is_refused_and_changes_nothing(place: int) -> None:
    writer, keys = pair()
    body = bytearray(writer.encrypt(GROUP, b"hello"))
    body[place] ^= 1
    with pytest.raises((UndecryptableError, NoSessionError)):
        keys.decrypt(GROUP, ANNA, bytes(body))
    body[place] ^= 1
    assert keys.decrypt(GROUP, ANNA, bytes(body)) == b"hello"


@pytest.mark.parametrize("body", [b"", b"\x33", b"\x23" + bytes(80), b"\x33" + b"\xff" * 80])
def test_malformed_messages(body: bytes) -> None:
    with pytest.raises((UndecryptableError, NoSessionError)):
        reader().decrypt(GROUP, ANNA, body)


def test_malformed_distributions() -> None:
    for distribution in (b"", b"\x33", b"\x33\xff\xff", b"\x33\x22\x01\x05"):
        with pytest.raises(UndecryptableError):
            SenderKeys().process(GROUP, ANNA, distribution)


def test_keys_belong_to_one_sender_and_one_group() -> None:
    writer, keys = pair()
    body = writer.encrypt(GROUP, b"hello")
    for group, sender in (("1204@g.us", ANNA), (GROUP, "201000000001:1")):
        with pytest.raises(NoSessionError):
            keys.decrypt(group, sender, body)


def test_a_leap_that_is_too_long() -> None:
    writer, keys = pair()
    for _ in range(MAX_SKIPPED + 1):
        late = writer.encrypt(GROUP, b"x")
    with pytest.raises(UndecryptableError):
        keys.decrypt(GROUP, ANNA, writer.encrypt(GROUP, b"y"))
    assert keys.decrypt(GROUP, ANNA, late) == b"x"


def test_state_survives() -> None:
    writer, keys = pair()
    first, second = writer.encrypt(GROUP, b"one"), writer.encrypt(GROUP, b"two")
    writer.shared_with(GROUP).add("1:0")
    assert keys.decrypt(GROUP, ANNA, second) == b"two"
    writer, keys = _reloaded(writer), _reloaded(keys)
    assert keys.decrypt(GROUP, ANNA, first) == b"one"
    assert keys.decrypt(GROUP, ANNA, writer.encrypt(GROUP, b"three")) == b"three"
    assert writer.shared_with(GROUP) == {"1:0"}


def _reloaded(keys: SenderKeys) -> SenderKeys:
    again = SenderKeys()
    for group, sender in keys.names():
        state: list[Any] = keys.dump(group, sender)
        again.load(group, sender, state)
    return again
