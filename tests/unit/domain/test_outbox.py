"""The fate of an item (contract 0.5): single steps, and what holds for every history."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wahub.domain.ids import ChatId, InstanceId, MessageId, QueueId
from wahub.domain.message import Text
from wahub.domain.outbox import (
    OUTREACH_LOCKED,
    DeliveryMark,
    Entry,
    IdempotencyKey,
    ItemState,
    KeyKind,
    SendAcked,
    SendNotStarted,
    SendPolicy,
    SendRefused,
    SendResult,
    SendUncertain,
    await_evidence,
    claim,
    may_claim,
    next_step,
    note_evidence,
    settle,
)

NOW = 1_700_000_000.0
POLICY = SendPolicy()
FRESH = Entry(
    QueueId("0" * 32),
    InstanceId("shop"),
    ChatId.parse("201224885551"),
    Text("hi"),
    MessageId("3EB0"),
    IdempotencyKey("k", KeyKind.EXPLICIT, "h"),
    created_at=NOW,
    next_attempt_at=NOW,
)
SENDING = claim(FRESH, 1, NOW)


def step(entry: Entry, result: SendResult, now: float = NOW) -> Entry:
    return next_step(entry, result, now, POLICY)


def test_an_ack_settles_it() -> None:
    sent = step(SENDING, SendAcked(), NOW + 1)
    assert (sent.state, sent.settled_at, sent.delivery) == (ItemState.SENT, NOW + 1, DeliveryMark.SERVER)
    assert sent.claimed_epoch is None


def test_uncertainty_waits_for_proof_and_never_goes_back_to_queued() -> None:
    unknown = step(SENDING, SendUncertain("time-out"))
    assert (unknown.state, unknown.on_wire, unknown.attempts) == (ItemState.UNKNOWN, True, 0)
    assert unknown.next_attempt_at == NOW + 10
    assert not may_claim(unknown, NOW + 9)
    assert may_claim(unknown, NOW + 10)


@pytest.mark.parametrize("mark", list(DeliveryMark))
def test_any_receipt_proves_an_unknown_item(mark: DeliveryMark) -> None:
    unknown = step(SENDING, SendUncertain("time-out"))
    proven = note_evidence(unknown, mark, NOW + 3)
    assert (proven.state, proven.delivery, proven.settled_at) == (ItemState.SENT, mark, NOW + 3)


def test_marks_only_move_forward() -> None:
    sent = step(SENDING, SendAcked())
    read = note_evidence(sent, DeliveryMark.READ, NOW + 5)
    assert read.delivery is DeliveryMark.READ
    assert note_evidence(read, DeliveryMark.DELIVERED, NOW + 6) is read
    assert read.settled_at == sent.settled_at


@pytest.mark.parametrize("state", [ItemState.FAILED, ItemState.EXPIRED, ItemState.CANCELLED])
def test_proof_does_not_revive_what_ended(state: ItemState) -> None:
    ended = settle(FRESH, state, NOW)
    assert note_evidence(ended, DeliveryMark.READ, NOW) is ended


def test_a_permanent_refusal_fails_it() -> None:
    failed = step(SENDING, SendRefused(406))
    assert (failed.state, failed.last_error) == (ItemState.FAILED, "refused by WhatsApp (406)")


@pytest.mark.parametrize("result", [SendRefused(500), SendRefused(503), SendRefused(429), SendNotStarted("busy")])
def test_temporary_failures_back_off_and_end_after_five(result: SendResult) -> None:
    entry, waits = FRESH, []
    while not entry.settled:
        entry = step(claim(entry, 1, NOW), result)
        waits.append(entry.next_attempt_at - NOW)
    assert waits[:4] == [5, 10, 20, 40]
    assert (entry.state, entry.attempts) == (ItemState.FAILED, 5)


def test_no_link_costs_no_attempt() -> None:
    entry = FRESH
    for _ in range(100):
        entry = step(claim(entry, 1, NOW), SendNotStarted("no link", link_lost=True))
    assert (entry.state, entry.attempts, entry.resends) == (ItemState.QUEUED, 0, 0)


def test_what_can_never_be_sent_fails_unless_it_may_be_out() -> None:
    assert step(SENDING, SendNotStarted("too long", permanent=True)).state is ItemState.FAILED
    out = step(SENDING, SendUncertain("time-out"))
    assert step(claim(out, 2, NOW), SendNotStarted("too long", permanent=True)).state is ItemState.UNKNOWN


def test_the_outreach_lock_defers_for_longer_each_time_and_costs_nothing() -> None:
    entry, hours = FRESH, []
    for _ in range(7):
        entry = step(claim(entry, 1, NOW), SendRefused(OUTREACH_LOCKED))
        hours.append((entry.next_attempt_at - NOW) / 3600)
    assert hours == [1, 2, 4, 8, 16, 24, 24]
    assert (entry.state, entry.attempts, entry.last_error) == (ItemState.QUEUED, 0, "outreach_locked")


def test_an_unknown_item_is_resent_five_times_then_the_caller_decides() -> None:
    entry, claims, now = FRESH, 0, NOW
    while not entry.settled:
        entry = step(claim(entry, 1, now), SendUncertain("time-out"), now)
        claims += 1
        now = max(now, entry.next_attempt_at)
    assert (claims, entry.resends, entry.state, entry.gave_up) == (6, 5, ItemState.UNKNOWN, True)
    assert not may_claim(entry, now + 10**9)


def test_after_a_day_an_unknown_item_is_left_to_the_caller() -> None:
    unknown = step(SENDING, SendUncertain("time-out"))
    late = step(claim(unknown, 2, NOW + 86_401), SendUncertain("time-out"), NOW + 86_401)
    assert late.gave_up
    # A first try is never judged by the age of its acceptance: nothing of it was out before.
    assert not step(claim(FRESH, 1, NOW + 90_000), SendUncertain("time-out"), NOW + 90_000).gave_up


def test_the_wait_for_proof_starts_when_the_link_is_back() -> None:
    unknown = step(SENDING, SendUncertain("time-out"))
    assert await_evidence(unknown, NOW + 100, POLICY).next_attempt_at == NOW + 110
    assert await_evidence(FRESH, NOW + 100, POLICY) is FRESH


RESULTS = st.one_of(
    st.just(SendAcked()),
    st.builds(SendRefused, st.sampled_from([400, 406, 429, 463, 479, 500, 503])),
    st.builds(SendNotStarted, st.just("reason"), permanent=st.booleans(), link_lost=st.booleans()),
    st.builds(SendUncertain, st.just("reason")),
)


@given(st.lists(st.tuples(RESULTS, st.floats(0, 40_000)), max_size=40))
def test_what_holds_for_every_history(history: list[tuple[SendResult, float]]) -> None:
    entry, now, was_uncertain = FRESH, NOW, False
    for epoch, (result, pause) in enumerate(history, start=1):
        now = max(now + pause, entry.next_attempt_at)
        if not may_claim(entry, now):
            break
        claimed = claim(entry, epoch, now)
        entry = next_step(claimed, result, now, POLICY)
        was_uncertain = was_uncertain or isinstance(result, SendUncertain)

        assert replace(entry, **{name: getattr(FRESH, name) for name in _MAY_CHANGE}) == FRESH
        assert entry.claimed_epoch is None
        assert entry.on_wire is was_uncertain
        assert entry.resends <= POLICY.max_resends
        assert entry.attempts <= POLICY.max_attempts
        # What may be out is never called queued, and never failed without WhatsApp's own word.
        if was_uncertain:
            assert entry.state in (ItemState.UNKNOWN, ItemState.SENT, ItemState.FAILED)
            assert entry.state is not ItemState.FAILED or isinstance(result, SendRefused)
        assert (entry.settled_at is not None) is entry.settled
        assert entry.settled or entry.next_attempt_at >= now
    assert entry.state is not ItemState.SENDING


_MAY_CHANGE = (
    "timeline",
    *("state", "next_attempt_at", "attempts", "on_wire", "resends", "deferrals", "claimed_epoch", "claimed_at"),
    *("settled_at", "delivery", "last_error"),
)
