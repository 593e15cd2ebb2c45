"""The judge is judged: ledgers with one thing wrong in them are found guilty of just that."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.chaos.inbound.judge import judge
from tests.chaos.inbound.ledgers import Attempt, Ledgers, Logged, Sent
from tests.chaos.inbound.plan import HOUR, make_inbound_plan
from tests.chaos.inbound.wire import find_late

ANN, BOB = "201000000001", "201000000002"
SENT = [
    Sent("shop", 0, ANN, ANN, "m0", "text", "one"),
    Sent("shop", 1, ANN, ANN, "m1", "text", "two"),
    Sent("shop", 2, BOB, BOB, "m2", "image", "look"),
    Sent("shop", 3, ANN, ANN, "m3", "vote", poll="p", options=("yes",)),
    Sent("shop", 4, ANN, ANN, "m4", "vote", poll="p"),
]


def logged(sequence: int, one: Sent) -> Logged:
    """The event that tells of it."""
    if one.kind == "vote":
        data: dict[str, Any] = {
            "vote": {
                "voter": one.author,
                "selectedOptions": list(one.options),
                "pollMessageId": one.poll,
                "id": one.id,
                "chat": one.chat,
            }
        }
    else:
        data = {"message": {"from": one.author, "text": one.text, "type": one.kind, "id": one.id, "chat": one.chat}}
    return event(sequence, "vote_update" if one.kind == "vote" else "message", data)


def event(sequence: int, name: str, data: dict[str, Any]) -> Logged:
    return Logged("shop", sequence, f"e{sequence}", name, data, json.dumps(data).encode())


def attempt(of: Logged, number: int = 1, *, taken: bool = True) -> Attempt:
    return Attempt("shop", of.event_id, of.event, of.sequence, number, of.body, taken, genuine=True)


LOG = [event(1, "qr", {}), event(2, "ready", {}), *(logged(at + 3, one) for at, one in enumerate(SENT))]
ONE, TWO, LOOK, YES, NONE = LOG[2:]


def innocent() -> Ledgers:
    """Ann wrote twice and voted twice, Bob sent an image; the qr was never posted, one attempt was refused."""
    posted = [attempt(LOG[1]), attempt(ONE, taken=False), attempt(LOOK), attempt(ONE, 2), attempt(TWO)]
    return Ledgers(SENT, LOG, {"shop": 7}, [*posted, attempt(YES), attempt(YES), attempt(NONE)])


def findings(**changes: object) -> list[str]:
    return judge(replace(innocent(), **changes)).findings


def posted(*attempts: Attempt) -> list[Attempt]:
    """The innocent book with the attempts of Ann's texts and votes replaced."""
    return [attempt(LOG[1]), attempt(LOOK), *attempts]


def test_an_innocent_run_is_not_blamed() -> None:
    verdict = judge(innocent())
    assert verdict.findings == []
    assert verdict.figures == {
        "sent": 5,
        "votes": 2,
        "late": 0,
        "logged": 7,
        "posted": 8,
        "taken": 7,
        "repeats": 2,
        "aside": 0,
        "unseen": 0,
    }


def test_attempts_that_reached_nobody_are_counted() -> None:
    book = [replace(attempt(LOG[0]), attempt=number, taken=number == 5) for number in (1, 3, 5)]
    assert judge(replace(innocent(), posted=[*book, *innocent().posted[1:]])).figures["unseen"] == 2


def test_what_is_not_in_the_log_is_found() -> None:
    log = [*LOG[:3], replace(LOOK, sequence=4), replace(YES, sequence=5), replace(NONE, sequence=6)]
    book = [replace(attempt(one), sequence=one.sequence) for one in log]
    lost = Ledgers(SENT, log, {"shop": 6}, book)
    assert judge(lost).findings == ["text 1 of shop: sent once, in the log 0 times"]


@pytest.mark.parametrize(("again", "name"), [(ONE, "text 0"), (YES, "vote 3"), (NONE, "vote 4")])
def test_what_is_in_the_log_twice_is_found(again: Logged, name: str) -> None:
    twice = replace(again, sequence=8, event_id="e8")
    wrong = findings(logged=[*LOG, twice], newest={"shop": 8}, posted=[*innocent().posted, attempt(twice)])
    assert f"{name} of shop: sent once, in the log 2 times" in wrong


@pytest.mark.parametrize("field", ["from", "text", "type", "id", "chat"])
def test_a_message_that_says_something_else_is_found(field: str) -> None:
    other = event(3, "message", {"message": {**ONE.data["message"], field: "other"}})
    book = [attempt(other) if one.event_id == "e3" else one for one in innocent().posted]
    wrong = findings(logged=[*LOG[:2], other, *LOG[3:]], posted=book)
    assert "event 3 of shop: a message that nobody sent" in wrong
    assert "text 0 of shop: sent once, in the log 0 times" in wrong


@pytest.mark.parametrize(
    ("field", "value"), [("voter", BOB), ("selectedOptions", []), ("pollMessageId", "q"), ("id", "m9"), ("chat", BOB)]
)
def test_a_vote_that_nobody_cast_is_found(field: str, value: object) -> None:
    other = event(6, "vote_update", {"vote": {**YES.data["vote"], field: value}})
    book = [attempt(other) if one.event_id == "e6" else one for one in innocent().posted]
    wrong = findings(logged=[*LOG[:5], other, NONE], posted=book)
    assert wrong == ["vote 3 of shop: sent once, in the log 0 times", "event 6 of shop: a vote_update that nobody sent"]


def test_gaps_and_shared_ids_are_found() -> None:
    assert findings(newest={"shop": 9}) == ["shop: the log has 7 of 9 numbers; missing [8, 9]"]
    both = [replace(one, event_id="e2") if one.sequence == 1 else one for one in LOG]
    assert "e2: the id of 2 events" in findings(logged=both)


def test_another_order_in_the_log_is_found_but_for_what_came_late() -> None:
    log = [*LOG[:2], logged(3, SENT[1]), logged(4, SENT[0]), *LOG[4:]]
    book = [attempt(one) for one in log[1:]]
    disordered = replace(innocent(), logged=log, posted=book)
    assert judge(disordered).findings == ["text 0 of shop: in the log after text 1 of shop"]
    assert judge(replace(disordered, late=frozenset({"m0"}))).findings == []


def test_what_was_never_taken_is_found() -> None:
    refused = attempt(NONE, taken=False)
    assert findings(posted=[*innocent().posted[:-1], refused]) == [
        "event 7 of shop (vote_update): posted 1 times, and never taken"
    ]
    assert findings(posted=innocent().posted[1:]) == ["event 2 of shop (ready): posted 0 times, and never taken"]


def test_other_bytes_numbers_and_signatures_are_found() -> None:
    again = attempt(NONE, 2)
    name = "event 7 of shop (vote_update)"
    for changed, what in (
        (replace(again, body=b"{}"), "posted with other bytes than the log has"),
        (replace(again, sequence=8), "posted under another number"),
        (replace(again, genuine=False), "posted with a wrong signature"),
    ):
        assert findings(posted=[*innocent().posted, changed]) == [f"{name}: {what}"]


def test_what_is_posted_but_not_logged_is_found() -> None:
    stray = replace(attempt(NONE), event_id="stray")
    assert findings(posted=[*innocent().posted, stray]) == ["stray (vote_update): posted, but not in the log"]
    assert findings(posted=[*innocent().posted, replace(stray, event="presence")]) == []


def test_another_order_at_the_receiver_is_found() -> None:
    overtaken = posted(attempt(TWO), attempt(ONE), attempt(YES), attempt(NONE))
    assert findings(posted=overtaken) == ["event 4 of shop: posted before event 3 of shop was taken, after 0 attempts"]
    # Posting the next one while the one before is being refused is no better.
    early = posted(attempt(ONE, taken=False), attempt(TWO), attempt(ONE, 2), attempt(YES), attempt(NONE))
    assert findings(posted=early) == ["event 4 of shop: posted before event 3 of shop was taken, after 1 attempts"]


def test_an_event_may_step_aside_if_the_receiver_took_others_meanwhile() -> None:
    refused = [attempt(ONE, number, taken=False) for number in range(1, 6)]
    rest = [attempt(TWO), attempt(ONE, 6), attempt(YES), attempt(NONE)]
    aside = [attempt(LOG[1]), refused[0], attempt(LOOK), *refused[1:], *rest]
    assert judge(replace(innocent(), posted=aside)).findings == []
    assert judge(replace(innocent(), posted=aside)).figures["aside"] == 1
    # One attempt reached nobody: the number of the next one tells of it.
    unseen = [attempt(LOG[1]), refused[0], attempt(LOOK), *refused[1:4], *rest]
    assert judge(replace(innocent(), posted=unseen)).findings == []
    too_early = [attempt(LOG[1]), refused[0], attempt(LOOK), *refused[1:4], attempt(TWO), attempt(ONE, 5), *rest[2:]]
    assert judge(replace(innocent(), posted=too_early)).findings != []
    nothing_taken = [attempt(LOG[1]), attempt(LOOK), *refused, *rest]
    wrong = ["event 4 of shop: posted before event 3 of shop was taken, after 5 attempts"]
    assert findings(posted=nothing_taken) == wrong


# --- what WhatsApp delivered late -------------------------------------------------------------------------------------

ORDER = {"a": 0, "b": 1, "c": 2}


@pytest.mark.parametrize(
    ("steps", "late"),
    [
        ("told a, heard a, told b, heard b, told c", ""),
        # Told again after a lost connection, in order: nobody was overtaken.
        ("told a, told b, login, told a, told b, heard a, heard b, told c", ""),
        ("told a, told a, heard a, told b", ""),
        ("told b, told a, heard b, heard a, told c", "a"),
        # Swallowed, and delivered after the next login.
        ("told a, told c, heard a, login, told b", "b"),
        # All were told in order once, but then in another.
        ("told a, told b, login, told b, told a", "a"),
        ("told a, told b, heard b, login, told a", "a"),
        ("told a, again a, told b, told a", "a"),
        ("told x, again x, told a", ""),
    ],
)
def test_what_came_late_is_seen(steps: str, late: str) -> None:
    taken = [(kind, of) for kind, _, of in (step.partition(" ") for step in steps.split(", "))]
    assert find_late(taken, ORDER) == set(late)


# --- plans ------------------------------------------------------------------------------------------------------------


def test_a_seed_gives_one_plan() -> None:
    plan = make_inbound_plan(7, shops=20, kills=26, acts=1_250)
    assert plan == make_inbound_plan(7, shops=20, kills=26, acts=1_250)
    assert plan != make_inbound_plan(8, shops=20, kills=26, acts=1_250)
    assert plan.kills >= 26
    assert sum(one.acts + one.armed for one in plan.rounds) * plan.shops >= 1_250
    assert plan.hour == HOUR and plan.hour[-1] == 3_600
