"""The judge is judged: ledgers with one thing wrong in them are found guilty of just that."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.chaos.plan import make_plan
from tests.chaos.verdict import Fate, Heard, Ledgers, Promise, Seen, Told, judge

ANN, BOB = "201000000001", "201000000002"


def innocent() -> Ledgers:
    """Three texts to Ann, one of them urgent, one to Bob; Ann wrote twice."""
    promises = [
        Promise("q1", ANN, "normal", 0, "one"),
        Promise("q2", ANN, "normal", 1, "two"),
        Promise("q3", ANN, "high", 2, "urgent"),
        Promise("q4", BOB, "normal", 3, "hello"),
    ]
    return Ledgers(
        promises,
        {promise.queue_id: Fate("sent", f"id of {promise.text}") for promise in promises},
        [
            Seen(ANN, "id of urgent", "urgent", duplicate=False),
            Seen(ANN, "id of one", "one", duplicate=False),
            Seen(ANN, "id of one", "one", duplicate=True),
            Seen(ANN, "id of two", "two", duplicate=False),
            Seen(BOB, "id of hello", "hello", duplicate=False),
        ],
        [Told(f"e-{one.queue_id}", one.queue_id, f"id of {one.text}", "delivered") for one in promises],
        {ANN: ["hi", "there"]},
        [Heard("h1", "m1", ANN, "hi"), Heard("h1", "m1", ANN, "hi"), Heard("h2", "m2", ANN, "there")],
    )


def findings(**changes: object) -> list[str]:
    return judge(replace(innocent(), **changes)).findings


def test_an_innocent_run_is_not_blamed() -> None:
    verdict = judge(innocent())
    assert verdict.findings == []
    assert verdict.figures == {"accepted": 4, "shown": 4, "duplicates": 1, "acks": 4, "written": 2, "heard": 2}


def test_two_ids_for_one_text_are_found() -> None:
    seen = [*innocent().seen, Seen(BOB, "another id", "hello", duplicate=False)]
    assert "hello (q4): under 2 message ids" in findings(seen=seen)


def test_a_text_shown_twice_is_found() -> None:
    seen = [*innocent().seen, Seen(BOB, "id of hello", "hello", duplicate=False)]
    assert findings(seen=seen) == ["hello (q4): shown 2 times"]


def test_what_was_never_shown_is_found() -> None:
    assert findings(seen=innocent().seen[:-1]) == ["hello (q4): sent, but never shown"]


def test_what_the_gateway_forgot_is_found() -> None:
    fates = {key: fate for key, fate in innocent().fates.items() if key != "q4"}
    assert findings(fates=fates) == ["hello (q4): accepted, and the gateway knows it no more"]


@pytest.mark.parametrize("state", ["failed", "unknown", "cancelled", "queued"])
def test_a_fate_that_differs_from_what_the_phone_saw_is_found(state: str) -> None:
    fates = {**innocent().fates, "q4": Fate(state, "id of hello")}
    assert f"hello (q4): {state}, but shown" in findings(fates=fates)


def test_another_id_than_the_caller_was_told_is_found() -> None:
    fates = {**innocent().fates, "q4": Fate("sent", "another id")}
    assert "hello (q4): not shown under the id that its caller was told" in findings(fates=fates)


def test_the_wrong_order_in_a_chat_is_found() -> None:
    urgent, one, copy, two, hello = innocent().seen
    assert findings(seen=[urgent, two, one, copy, hello]) == ["one: shown after two"]


def test_the_wrong_phone_is_found() -> None:
    seen = [replace(one, phone=ANN) for one in innocent().seen]
    assert findings(seen=seen) == ["hello (q4): shown by a phone that it was not for"]


def test_a_text_that_nobody_sent_is_found() -> None:
    seen = [*innocent().seen, Seen(ANN, "x", "who wrote this", duplicate=False)]
    assert findings(seen=seen) == ["who wrote this: shown, but never accepted"]


def test_two_texts_that_became_one_item_are_found() -> None:
    promises = [*innocent().promises, Promise("q4", BOB, "normal", 4, "hello again")]
    assert "q4: stands for 2 texts" in findings(promises=promises)


def test_missing_doubled_and_backward_webhooks_are_found() -> None:
    told = innocent().told
    assert findings(told=told[:-1]) == ["hello (q4): sent, and 0 webhooks message_ack"]
    again = [*told, Told("e-other", "q4", "id of hello", "delivered")]
    assert findings(told=again) == ["hello (q4): marks ['delivered', 'delivered']"]
    back = [*told, Told("e-other", "q4", "id of hello", "server")]
    assert findings(told=back) == ["hello (q4): marks ['delivered', 'server']"]
    assert findings(told=[*told, Told("e", "q9", "id", "server")]) == [
        "q9: acknowledged by webhook, but never accepted"
    ]


def test_lost_doubled_and_disordered_inbound_texts_are_found() -> None:
    hi, _, there = innocent().heard
    assert findings(heard=[hi]) == ["there: written once, arrived as 0 events"]
    assert findings(heard=[hi, there, replace(there, event_id="h3")]) == ["there: written once, arrived as 2 events"]
    assert findings(heard=[there, hi]) == [f"{ANN}: what they wrote arrived in another order"]


def test_an_inbound_text_that_nobody_wrote_is_found() -> None:
    heard = [*innocent().heard, replace(innocent().heard[0], event_id="h9", sender="?", text="of yesterday")]
    assert findings(heard=heard) == ["of yesterday: arrived, but nobody wrote it"]


def test_a_seed_gives_one_plan() -> None:
    assert make_plan(7, 20, 50) == make_plan(7, 20, 50)
    assert make_plan(7, 20, 50) != make_plan(8, 20, 50)
    assert make_plan(7, 20, 50).kills >= 50
