"""What a stranger's own client may put into a message: no app writes it, and it must harm nobody but its sender."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.integration.engine.network import Account, Box

from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.ports.engine import CaughtUp, Closed, Inbound
from wahub.sandbox.phone import fanout
from wahub.sandbox.phone.padding import pad

PEER = "15550002222"
HALF_A_PAIR = b"\xed\xa0\x80"
"""Half of a surrogate pair, written like a character: no UTF-8, but protobuf's reader takes it."""


def _field(number: int, body: bytes) -> bytes:
    """A protobuf field of bytes."""
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + _varint(number >> 7)


def _text(text: bytes, context: bytes) -> bytes:
    return _field(6, _field(1, text) + _field(17, context))


def _vote() -> bytes:
    """On a poll with that id."""
    return _field(50, _field(1, _field(3, b"A" + HALF_A_PAIR)) + _field(2, _field(1, bytes(32)) + _field(2, bytes(12))))


def _mentions() -> bytes:
    return _text(b"hostile", _field(15, b"1" + HALF_A_PAIR + b"@s.whatsapp.net"))


def _key_of_a_group() -> bytes:
    """A sender's key, for a group with that name."""
    return _field(2, _field(1, b"1" + HALF_A_PAIR + b"@g.us") + _field(2, b"3" + bytes(40))) + _field(1, b"hostile")


def _nested() -> bytes:
    """A quote of a quote of a quote: deeper than it can be written down as JSON."""
    message = _field(1, b"innermost")
    for _ in range(1_500):
        message = _text(b"hostile", _field(1, b"Q") + _field(3, message))
    return message


@pytest.mark.parametrize("hostile", [_vote, _mentions, _key_of_a_group, _nested])
async def test_it_harms_no_other_message_and_no_link(
    account: Account,
    box: Box,
    engine: BaileysEngine,
    monkeypatch: pytest.MonkeyPatch,
    hostile: Callable[[], bytes],
) -> None:
    monkeypatch.setattr(fanout, "pad", lambda message: pad(hostile() if b"HOSTILE" in message else message))
    await box.phone(PEER)
    await account.watcher.first(CaughtUp)
    told = await box.post(f"phones/{PEER}/send", to=account.number, text="HOSTILE")
    await box.post(f"phones/{PEER}/send", to=account.number, text="friendly")
    await account.watcher.first(Inbound, after=1)
    assert account.watcher.all(Closed) == []
    first, second = account.watcher.all(Inbound)
    assert (first.body["message_id"], second.body["text"]) == (told["messageId"], "friendly")
    # Nothing was acknowledged: another link is told the same.
    await account.link.close()
    again = await account.login(engine)
    await again.first(CaughtUp)
    # A vote waits a while for its poll, which an earlier link may have known of.
    expected = (second,) if hostile is _vote else (first, second)
    assert [event.body["message_id"] for event in again.all(Inbound)] == [
        event.body["message_id"] for event in expected
    ]
