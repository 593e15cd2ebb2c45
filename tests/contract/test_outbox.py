"""Entries: round trip, what may be claimed when, and the rules that the schema itself keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.contract.makers import (
    SHOP,
    START,
    HandClock,
    add_entries,
    add_instance,
    make_entry,
    sending,
    unknown,
)

from wahub.adapters.sql.database import open_database
from wahub.domain.errors import IllegalTransitionError, RequestNotFoundError
from wahub.domain.ids import InstanceId, MessageId, QueueId
from wahub.domain.message import Text
from wahub.domain.outbox import DeliveryMark, Entry, IdempotencyKey, ItemState, KeyKind, settle
from wahub.ports.store import Database, KeyRecord, Tx

SENT = {"state": ItemState.SENT, "settled_at": START, "delivery": DeliveryMark.SERVER}
ANNA, BELA, CARL = "4915551230001", "4915551230002", "123456-789@g.us"


async def _due(store: Database, now: float = START) -> QueueId | None:
    entry = await store.write(lambda tx: tx.outbox.next_due(SHOP, now))
    seen_by_a_read = await store.read(lambda tx: tx.outbox.next_due(SHOP, now))
    assert entry == seen_by_a_read
    return None if entry is None else entry.id


async def test_an_entry_comes_back_as_it_was_stored(store: Database) -> None:
    await add_instance(store)
    texts = ["plain", "مرحبا 👋🏽", "x" * 4000, "nul \0 and half \ud83d pair", "'; DROP TABLE outbox; --", ""]
    entries = await add_entries(store, *(make_entry(number, content=Text(text)) for number, text in enumerate(texts)))
    full = replace(
        entries[0],
        state=ItemState.SENT,
        next_attempt_at=START + 0.125,
        attempts=2,
        on_wire=True,
        resends=1,
        deferrals=3,
        claimed_at=START + 1,
        settled_at=START + 2,
        delivery=DeliveryMark.READ,
        last_error="why",
    )
    await store.write(lambda tx: tx.outbox.save(full))

    def look(tx: Tx) -> list[Entry | None]:
        return [tx.outbox.get(SHOP, entry.id) for entry in entries]

    assert await store.read(look) == [full, *entries[1:]]
    assert await store.read(lambda tx: tx.outbox.find_message(SHOP, full.message_id)) == full
    assert await store.read(lambda tx: tx.outbox.find_message(SHOP, MessageId("other"))) is None
    assert await store.read(lambda tx: tx.outbox.get(InstanceId("other"), full.id)) is None


async def test_positions_are_the_order_of_acceptance(store: Database) -> None:
    await add_instance(store)
    added = await add_entries(store, *(make_entry(number) for number in range(5)))
    positions = [entry.position for entry in added]
    assert positions == sorted(set(positions))
    assert await store.read(lambda tx: tx.outbox.unsettled(SHOP)) == added


async def test_the_first_entry_is_due_first(store: Database) -> None:
    await add_instance(store)
    first, second = await add_entries(store, make_entry(1, ANNA), make_entry(2, BELA))
    assert await _due(store) == first.id
    await store.write(lambda tx: tx.outbox.save(replace(first, **SENT)))
    assert await _due(store) == second.id
    await store.write(lambda tx: tx.outbox.save(replace(second, **SENT)))
    assert await _due(store) is None
    assert await store.read(lambda tx: tx.outbox.next_attempt_at(SHOP)) is None


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
    assert await store.read(lambda tx: tx.outbox.next_attempt_at(SHOP)) == expected


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
    assert await store.read(lambda tx: tx.outbox.next_attempt_at(SHOP)) == START + 10
    assert await _due(store, START + 10) == first.id


async def test_instances_do_not_see_each_other(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    await add_entries(store, make_entry(1, instance=InstanceId("other")))
    assert await _due(store) is None
    assert await store.read(lambda tx: tx.outbox.depth(SHOP)) == 0
    # The same WhatsApp id may occur in two accounts.
    await add_entries(store, make_entry(1))
    assert await store.read(lambda tx: tx.outbox.depth(SHOP)) == 1


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
    assert await store.read(lambda tx: tx.outbox.depth(SHOP)) == 4
    assert await store.read(lambda tx: tx.outbox.unsettled(SHOP)) == entries[:5]
    assert await store.write(lambda tx: tx.outbox.unsettled(SHOP)) == entries[:5]


async def test_only_one_entry_of_an_instance_is_on_the_wire(store: Database) -> None:
    await add_instance(store)
    first, second = await add_entries(store, sending(make_entry(1, ANNA)), make_entry(2, BELA))
    with pytest.raises(IllegalTransitionError, match=r"one_sending|outbox\.instance"):
        await store.write(lambda tx: tx.outbox.save(sending(second)))
    await store.write(lambda tx: tx.outbox.save(settle(first, ItemState.SENT, START)))
    await store.write(lambda tx: tx.outbox.save(sending(second)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": ItemState.SENDING, "claimed_at": START},
        {"state": ItemState.SENDING, "claimed_epoch": 1},
        {"claimed_epoch": 1},
        {"state": ItemState.SENT, "delivery": DeliveryMark.SERVER},
        {"state": ItemState.SENT, "settled_at": START},
        {"state": ItemState.FAILED},
        {"state": ItemState.EXPIRED},
        {"state": ItemState.CANCELLED},
        {"settled_at": START},
        {"state": ItemState.HELD, "settled_at": START},
        {"state": ItemState.UNKNOWN},
    ],
    ids=lambda wrong: " ".join(map(str, wrong)),
)
async def test_states_and_their_times_must_agree(store: Database, wrong: dict[str, object]) -> None:
    await add_instance(store)
    (entry,) = await add_entries(store, make_entry(1))
    with pytest.raises(IllegalTransitionError, match="ck_outbox"):
        await store.write(lambda tx: tx.outbox.save(replace(entry, **wrong)))  # type: ignore[arg-type]
    assert await store.read(lambda tx: tx.outbox.get(SHOP, entry.id)) == entry


async def test_message_ids_and_queue_ids_are_unique(store: Database) -> None:
    await add_instance(store)
    await add_entries(store, make_entry(1))
    for twin in (
        replace(make_entry(2), message_id=make_entry(1).message_id),
        replace(make_entry(2), id=make_entry(1).id),
    ):
        with pytest.raises(IllegalTransitionError):
            await add_entries(store, twin)


async def test_saving_what_is_gone(store: Database) -> None:
    await add_instance(store)
    with pytest.raises(RequestNotFoundError):
        await store.write(lambda tx: tx.outbox.save(make_entry(1)))


async def test_keys_are_one_per_instance_and_may_be_pointed_elsewhere(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    first = KeyRecord(IdempotencyKey("k\0'é", KeyKind.DERIVED, "h1"), QueueId("q1"), START)
    second = KeyRecord(IdempotencyKey("k\0'é", KeyKind.ORDER, "h2"), QueueId("q2"), START + 1)
    assert await store.read(lambda tx: tx.keys.get(SHOP, "k\0'é")) is None
    await store.write(lambda tx: tx.keys.put(SHOP, first))
    assert await store.read(lambda tx: tx.keys.get(SHOP, "k\0'é")) == first
    await store.write(lambda tx: tx.keys.put(SHOP, second))
    assert await store.read(lambda tx: tx.keys.get(SHOP, "k\0'é")) == second
    assert await store.read(lambda tx: tx.keys.get(InstanceId("other"), "k\0'é")) is None


async def test_claims_are_counted_and_forgotten(store: Database) -> None:
    await add_instance(store)
    for at in (START, START + 20, START + 10, START + 10):
        await store.write(lambda tx, at=at: tx.keys.add_claim(SHOP, at, forget_before=START))  # type: ignore[misc]
    assert await store.read(lambda tx: tx.keys.claims_since(SHOP, START)) == [START + 10, START + 10, START + 20]
    await store.write(lambda tx: tx.keys.add_claim(SHOP, START + 30, forget_before=START + 20))
    assert await store.read(lambda tx: tx.keys.claims_since(SHOP, 0)) == [START + 20, START + 30]
    assert await store.read(lambda tx: tx.keys.claims_since(InstanceId("other"), 0)) == []


async def test_everything_survives_reopening(store_url: str, clock: HandClock) -> None:
    store = open_database(store_url, clock)
    await add_instance(store)
    entries = await add_entries(store, sending(make_entry(1)), unknown(make_entry(2)), make_entry(3))
    await store.close()
    store = open_database(store_url, clock)
    assert await store.read(lambda tx: tx.outbox.unsettled(SHOP)) == entries
    await store.close()
