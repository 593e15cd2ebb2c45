"""Idempotency keys (contract 0.4, C.1)."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from wahub.domain.idempotency import KeyPolicy, OrderRef, Verdict, judge, make_key, payload_hash
from wahub.domain.ids import ChatId, InstanceId, MessageId, QueueId
from wahub.domain.message import Text
from wahub.domain.outbox import Entry, IdempotencyKey, ItemState, KeyKind, settle

CHAT = ChatId.parse("201224885551")
NOW = 1_700_000_000.0
DAY = 86_400.0
POLICY = KeyPolicy()


def key(kind: KeyKind, payload: str = "same") -> IdempotencyKey:
    return IdempotencyKey("k", kind, payload)


def entry(kind: KeyKind = KeyKind.EXPLICIT) -> Entry:
    ids = QueueId("0" * 32), InstanceId("shop")
    return Entry(*ids, CHAT, Text("hi"), MessageId("3EB0"), key(kind), created_at=NOW)


def test_the_hash_is_that_of_compact_json_in_utf8() -> None:
    document = '{"type":"message","chatId":"201224885551@c.us","message":"مرحبا \\"x\\""}'
    expected = hashlib.sha256(document.encode()).hexdigest()[:16]
    assert payload_hash(CHAT, Text('مرحبا "x"')) == expected


def test_which_key_a_request_gets() -> None:
    order = OrderRef("s.myshopify.com", "1001", "confirm")
    explicit = make_key("My Shop", CHAT, Text("hi"), "mine", order)
    ordered = make_key("My Shop", CHAT, Text("hi"), None, order)
    derived = make_key("My Shop", CHAT, Text("hi"), None, None)

    digest = payload_hash(CHAT, Text("hi"))
    assert explicit == IdempotencyKey("mine", KeyKind.EXPLICIT, digest)
    assert ordered == IdempotencyKey("order:s.myshopify.com:1001:confirm:v1", KeyKind.ORDER, digest)
    assert derived == IdempotencyKey(f"message:My Shop:{digest}:v1", KeyKind.DERIVED, digest)


@pytest.mark.parametrize("kind", list(KeyKind))
@pytest.mark.parametrize("state", [ItemState.QUEUED, ItemState.SENDING, ItemState.UNKNOWN, ItemState.HELD])
def test_what_is_unsettled_is_replayed_for_ever(kind: KeyKind, state: ItemState) -> None:
    waiting = dataclasses.replace(entry(kind), state=state)
    assert judge(key(kind), key(kind), waiting, NOW + 400 * DAY, POLICY) is Verdict.REPLAY


@pytest.mark.parametrize("kind", list(KeyKind))
@pytest.mark.parametrize("state", [ItemState.FAILED, ItemState.CANCELLED, ItemState.EXPIRED])
def test_what_never_arrived_is_accepted_anew(kind: KeyKind, state: ItemState) -> None:
    ended = settle(entry(kind), state, NOW)
    assert judge(key(kind, "other"), key(kind), ended, NOW, POLICY) is Verdict.NEW


@pytest.mark.parametrize(
    ("kind", "later", "verdict"),
    [
        (KeyKind.EXPLICIT, 7 * DAY - 1, Verdict.REPLAY),
        (KeyKind.EXPLICIT, 7 * DAY, Verdict.NEW),
        (KeyKind.ORDER, 7 * DAY - 1, Verdict.REPLAY),
        (KeyKind.ORDER, 7 * DAY, Verdict.NEW),
    ],
)
def test_given_keys_live_from_the_settling(kind: KeyKind, later: float, verdict: Verdict) -> None:
    settled_at = NOW + 3 * DAY
    sent = settle(entry(kind), ItemState.SENT, settled_at)
    assert judge(key(kind), key(kind), sent, settled_at + later, POLICY) is verdict


@pytest.mark.parametrize(
    ("ttl", "later", "verdict"),
    [(600.0, 599.0, Verdict.REPLAY), (600.0, 600.0, Verdict.NEW), (0.0, 1.0, Verdict.NEW)],
)
def test_derived_keys_live_from_the_acceptance(ttl: float, later: float, verdict: Verdict) -> None:
    sent = settle(entry(KeyKind.DERIVED), ItemState.SENT, NOW + 1)
    policy = KeyPolicy(derived=ttl)
    assert judge(key(KeyKind.DERIVED), key(KeyKind.DERIVED), sent, NOW + later, policy) is verdict


def test_only_an_explicit_key_can_conflict() -> None:
    def ask(kind: KeyKind, state: ItemState) -> Verdict:
        known = entry(kind) if state is ItemState.QUEUED else settle(entry(kind), state, NOW)
        return judge(key(kind, "other"), key(kind), known, NOW + 1, POLICY)

    assert ask(KeyKind.EXPLICIT, ItemState.QUEUED) is ask(KeyKind.EXPLICIT, ItemState.SENT) is Verdict.CONFLICT
    assert ask(KeyKind.ORDER, ItemState.QUEUED) is ask(KeyKind.ORDER, ItemState.SENT) is Verdict.REPLAY


def test_a_final_unknown_is_replayed_because_it_may_have_arrived() -> None:
    final = dataclasses.replace(entry(), state=ItemState.UNKNOWN, on_wire=True, settled_at=NOW)
    assert judge(key(KeyKind.EXPLICIT), key(KeyKind.EXPLICIT), final, NOW + 30 * DAY, POLICY) is Verdict.REPLAY


def test_a_key_whose_entry_is_gone_is_free() -> None:
    assert judge(key(KeyKind.EXPLICIT, "other"), key(KeyKind.EXPLICIT), None, NOW, POLICY) is Verdict.NEW
