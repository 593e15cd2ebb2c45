"""The line: what may be claimed when, and who holds back whom."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from tests.contract.makers import SHOP, START, add_entries, add_instance, make_entry, sending, unknown

from wahub.domain.ids import InstanceId, QueueId
from wahub.domain.outbox import UNSETTLED, DeliveryMark, Entry, ItemState, Priority, may_claim, settle
from wahub.ports.store import Database

SENT = {"state": ItemState.SENT, "settled_at": START, "delivery": DeliveryMark.SERVER}
ANNA, BELA, CARL = "4915551230001", "4915551230002", "123456-789@g.us"
HIGH = {"priority": Priority.HIGH}


async def _due(store: Database, now: float = START) -> QueueId | None:
    entry = await store.write(lambda tx: tx.line.next_due(SHOP, now))
    seen_by_a_read = await store.read(lambda tx: tx.line.next_due(SHOP, now))
    assert entry == seen_by_a_read
    return None if entry is None else entry.id


async def test_the_first_entry_is_due_first(store: Database) -> None:
    await add_instance(store)
    first, second = await add_entries(store, make_entry(1, ANNA), make_entry(2, BELA))
    assert await _due(store) == first.id
    await store.write(lambda tx: tx.outbox.save(replace(first, **SENT)))
    assert await _due(store) == second.id
    await store.write(lambda tx: tx.outbox.save(replace(second, **SENT)))
    assert await _due(store) is None
    assert await store.read(lambda tx: tx.line.next_attempt_at(SHOP)) is None


@pytest.mark.parametrize(
    "blocker",
    [
        {"next_attempt_at": START + 60},
        {"state": ItemState.SENDING, "claimed_epoch": 1, "claimed_at": START},
        {"state": ItemState.UNKNOWN, "on_wire": True, "next_attempt_at": START + 60},
        {"state": ItemState.HELD},
    ],
    ids=["queued for later", "sending", "unknown", "held"],
)
async def test_an_open_entry_holds_back_its_own_chat_only(store: Database, blocker: dict[str, object]) -> None:
    await add_instance(store)
    first = replace(make_entry(1, ANNA), **blocker)  # type: ignore[arg-type]
    _, _, bela, _ = await add_entries(store, first, make_entry(2, ANNA), make_entry(3, BELA), make_entry(4, BELA))
    assert await _due(store) == bela.id
    waits_until = None if first.state in (ItemState.HELD, ItemState.SENDING) else START + 60
    await store.write(lambda tx: tx.outbox.save(replace(bela, next_attempt_at=START + 90)))
    assert await _due(store) is None
    expected = START + 90 if waits_until is None else START + 60
    assert await store.read(lambda tx: tx.line.next_attempt_at(SHOP)) == expected


async def test_a_settled_or_given_up_entry_holds_back_nothing(store: Database) -> None:
    await add_instance(store)
    done = [
        replace(make_entry(1, ANNA), **SENT),
        settle(make_entry(2, ANNA), ItemState.FAILED, START, "no"),
        settle(make_entry(3, ANNA), ItemState.EXPIRED, START),
        settle(make_entry(4, ANNA), ItemState.CANCELLED, START),
        unknown(make_entry(5, ANNA), gave_up=True),
    ]
    *_, last = await add_entries(store, *done, make_entry(6, ANNA))
    assert await _due(store) == last.id


async def test_an_unknown_entry_is_due_again_at_its_time(store: Database) -> None:
    await add_instance(store)
    first, _ = await add_entries(store, replace(unknown(make_entry(1)), next_attempt_at=START + 10), make_entry(2))
    assert await _due(store, START + 9.9) is None
    assert await store.read(lambda tx: tx.line.next_attempt_at(SHOP)) == START + 10
    assert await _due(store, START + 10) == first.id


async def test_instances_do_not_see_each_other(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    await add_entries(store, make_entry(1, instance=InstanceId("other")))
    assert await _due(store) is None
    assert await store.read(lambda tx: tx.line.depth(SHOP)) == 0
    assert await store.read(lambda tx: tx.line.depths()) == {"other": 1}
    # The same WhatsApp id may occur in two accounts.
    await add_entries(store, make_entry(1))
    assert await store.read(lambda tx: tx.line.depth(SHOP)) == 1
    assert await store.read(lambda tx: tx.line.depths()) == {"other": 1, "shop": 1}


async def test_depth_and_unsettled(store: Database) -> None:
    await add_instance(store)
    entries = await add_entries(
        store,
        unknown(make_entry(1), gave_up=True),
        make_entry(2),
        sending(make_entry(3)),
        unknown(make_entry(4)),
        make_entry(5, state=ItemState.HELD),
        replace(make_entry(6), **SENT),
        settle(make_entry(7), ItemState.FAILED, START, "no"),
    )
    assert await store.read(lambda tx: tx.line.depth(SHOP)) == 4
    assert await store.read(lambda tx: tx.line.depths()) == {"shop": 4}
    assert await store.read(lambda tx: tx.line.going_out(SHOP)) == entries[2:4]
    assert await store.write(lambda tx: tx.line.going_out(SHOP)) == entries[2:4]
    assert await store.read(lambda tx: tx.line.unsettled(SHOP)) == entries[:5]
    assert await store.write(lambda tx: tx.line.unsettled(SHOP)) == entries[:5]


def _at(seconds: float) -> dict[str, object]:
    """Scheduled for then."""
    return {"joined_at": START + seconds, "next_attempt_at": START + seconds, "scheduled": True}


async def test_high_priority_overtakes_everywhere(store: Database) -> None:
    await add_instance(store)
    first, _, other, own = await add_entries(
        store, make_entry(1, ANNA), make_entry(2, BELA), make_entry(3, CARL, **HIGH), make_entry(4, ANNA, **HIGH)
    )
    order = []
    for _ in range(4):
        due = await store.read(lambda tx: tx.line.next_due(SHOP, START))
        assert due is not None
        order.append(due)
        await store.write(lambda tx, due=due: tx.outbox.save(replace(due, **SENT)))  # type: ignore[misc]
    assert order[:3] == [other, own, first]
    assert await _due(store) is None


async def test_priorities_of_a_chat_do_not_hold_each_other_back(store: Database) -> None:
    await add_instance(store)
    waits = {"next_attempt_at": START + 60}
    _, normal, _, _ = await add_entries(
        store, make_entry(1, **HIGH, **waits), make_entry(2), make_entry(3, **HIGH), make_entry(4)
    )
    assert await _due(store) == normal.id
    await store.write(lambda tx: tx.outbox.save(replace(normal, **waits)))
    assert await _due(store) is None
    high = await add_entries(store, make_entry(5, BELA, **HIGH))
    assert await _due(store) == high[0].id


async def test_a_scheduled_entry_joins_at_its_time(store: Database) -> None:
    await add_instance(store)
    scheduled, plain = await add_entries(store, make_entry(1, **_at(60)), make_entry(2))
    # It holds nobody back that joined earlier, though it was accepted first.
    assert await _due(store) == plain.id
    await store.write(lambda tx: tx.outbox.save(replace(plain, next_attempt_at=START + 90)))
    # From its time on it stands behind what joined before it, and before what joined after.
    assert await _due(store, START + 60) is None
    assert await store.read(lambda tx: tx.line.next_attempt_at(SHOP)) == START + 90
    await store.write(lambda tx: tx.outbox.save(replace(plain, **SENT)))
    late = (await add_entries(store, make_entry(3, joined_at=START + 61)))[0]
    assert await store.read(lambda tx: tx.line.next_attempt_at(SHOP)) == START + 60
    assert await _due(store, START + 59.9) is None
    assert await _due(store, START + 61) == scheduled.id
    await store.write(lambda tx: tx.outbox.save(replace(scheduled, **SENT)))
    assert await _due(store, START + 61) == late.id


async def test_an_entry_never_goes_before_it_joined(store: Database) -> None:
    await add_instance(store)
    early = replace(make_entry(1, **_at(60)), next_attempt_at=START)
    await add_entries(store, early)
    assert await _due(store, START + 59) is None
    assert await store.read(lambda tx: tx.line.next_attempt_at(SHOP)) == START + 60
    assert await _due(store, START + 60) == early.id


async def test_the_earliest_attempt_is_that_of_any_head(store: Database) -> None:
    await add_instance(store)
    await add_entries(
        store,
        make_entry(1, ANNA, next_attempt_at=START + 50),
        make_entry(2, ANNA),
        make_entry(3, BELA, next_attempt_at=START + 40, joined_at=START + 1),
        make_entry(4, CARL, **_at(30), **HIGH),
        make_entry(5, CARL, next_attempt_at=START + 45, joined_at=START + 2),
        make_entry(6, "4915551230003", **_at(20)),
    )
    expected = [20, 30, 40, 45, 50]
    for seconds, number in zip(expected, (6, 4, 3, 5, 1), strict=True):
        assert await store.read(lambda tx: tx.line.next_attempt_at(SHOP)) == START + seconds
        gone = settle(make_entry(number), ItemState.CANCELLED, START)
        await store.write(lambda tx, gone=gone: tx.outbox.save(gone))  # type: ignore[misc]
    assert await store.read(lambda tx: tx.line.next_attempt_at(SHOP)) == START


async def test_the_last_joining_counts_open_unscheduled_entries(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    assert await store.read(lambda tx: tx.line.last_joined_at(SHOP)) == 0.0
    _, high, *_ = await add_entries(
        store,
        make_entry(1, joined_at=START + 1),
        make_entry(2, joined_at=START + 5, **HIGH),
        make_entry(3, **_at(100)),
        make_entry(4, joined_at=START + 50, **SENT),
        make_entry(5, joined_at=START + 60, instance=InstanceId("other")),
    )
    assert await store.read(lambda tx: tx.line.last_joined_at(SHOP)) == START + 5
    await store.write(lambda tx: tx.outbox.save(replace(high, **SENT)))
    assert await store.read(lambda tx: tx.line.last_joined_at(SHOP)) == START + 1


async def test_unsettled_entries_come_in_the_order_of_the_line(store: Database) -> None:
    await add_instance(store)
    added = await add_entries(
        store,
        make_entry(1, **_at(60)),
        make_entry(2, joined_at=START + 2),
        unknown(make_entry(3, joined_at=START + 1), gave_up=True),
        make_entry(4, joined_at=START + 2, **HIGH),
        make_entry(5, joined_at=START),
    )
    wanted = [added[number - 1] for number in (5, 3, 2, 4, 1)]
    assert await store.read(lambda tx: tx.line.unsettled(SHOP)) == wanted
    assert await store.write(lambda tx: tx.line.unsettled(SHOP)) == wanted


# --- against the definition -------------------------------------------------------------------------------------------


def _heads(entries: list[Entry]) -> list[Entry]:
    """What the port's text says, word by word."""
    opened = [entry for entry in entries if not entry.settled]

    def holds_back(other: Entry, entry: Entry) -> bool:
        return (other.chat, other.priority) == (entry.chat, entry.priority) and (other.joined_at, other.position) < (
            entry.joined_at,
            entry.position,
        )

    return [
        entry
        for entry in opened
        if entry.state in (ItemState.QUEUED, ItemState.UNKNOWN)
        and not any(holds_back(other, entry) for other in opened)
    ]


def _random_entry(number: int, chance: random.Random) -> Entry:
    joined = chance.choice([0, 0, 1, 5, 20])
    entry = make_entry(
        number,
        chance.choice([ANNA, BELA, CARL]),
        priority=chance.choice(list(Priority)),
        joined_at=START + joined,
        scheduled=chance.random() < 0.4,
        next_attempt_at=START + chance.choice([0, 0, 3, joined, 30]),
    )
    state = chance.choice([ItemState.QUEUED] * 5 + [ItemState.UNKNOWN, ItemState.HELD, ItemState.SENT])
    if state is ItemState.UNKNOWN:
        return unknown(entry, gave_up=chance.random() < 0.5)
    return replace(entry, **SENT) if state is ItemState.SENT else replace(entry, state=state)


@pytest.mark.parametrize("seed", range(12))
async def test_the_line_is_what_its_definition_says(store: Database, seed: int) -> None:
    chance = random.Random(seed)
    await add_instance(store)
    entries = await add_entries(store, *(_random_entry(number, chance) for number in range(chance.randint(1, 12))))
    heads = _heads(entries)
    wanted_at = [max(head.joined_at, head.next_attempt_at) for head in heads]
    assert await store.read(lambda tx: tx.line.next_attempt_at(SHOP)) == min(wanted_at, default=None)
    for now in (START - 1, START, START + 4, START + 25, START + 99):
        ready = [head for head in heads if may_claim(head, now) and head.joined_at <= now]
        ready.sort(key=lambda head: (head.priority is Priority.NORMAL, head.joined_at, head.position))
        assert await _due(store, now) == (ready[0].id if ready else None)
    assert all(entry.state in UNSETTLED for entry in await store.read(lambda tx: tx.line.unsettled(SHOP)))
