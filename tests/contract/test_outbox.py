"""Entries: round trip, what is found by what is known, and the rules that the schema itself keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

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

from wahub.adapters.sql.codec import Codec
from wahub.adapters.sql.database import open_database
from wahub.adapters.sql.failure import StoreFailedError
from wahub.domain.errors import IllegalTransitionError, RequestNotFoundError
from wahub.domain.ids import InstanceId, MessageId, QueueId
from wahub.domain.message import Content, Poll, Text
from wahub.domain.outbox import (
    Audience,
    DeliveryMark,
    Entry,
    IdempotencyKey,
    ItemState,
    KeyKind,
    Moment,
    Priority,
    expire,
    settle,
)
from wahub.ports.store import Database, KeyRecord, Tx

SENT = {"state": ItemState.SENT, "settled_at": START, "delivery": DeliveryMark.SERVER}
ANNA, BELA, CARL = "4915551230001", "4915551230002", "123456-789@g.us"


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
        joined_at=START + 5,
        scheduled=True,
        expires_at=START + 6.5,
        timeline=(Moment(START, "accepted"), Moment(START + 0.25, "refused", "nul \0 half \ud83d")),
    )
    await store.write(lambda tx: tx.outbox.save(full))

    def look(tx: Tx) -> list[Entry | None]:
        return [tx.outbox.get(SHOP, entry.id) for entry in entries]

    assert await store.read(look) == [full, *entries[1:]]
    assert await store.read(lambda tx: tx.outbox.find_message(SHOP, full.message_id)) == full
    assert await store.read(lambda tx: tx.outbox.find_message(SHOP, MessageId("other"))) is None
    assert await store.read(lambda tx: tx.outbox.get(InstanceId("other"), full.id)) is None


async def test_what_a_caller_chose_comes_back(store: Database) -> None:
    await add_instance(store)
    chosen = make_entry(
        1,
        content=Poll("Which \0 one?", ("Confirm ✅", "half \ud83d", ""), True, bytes(range(224, 256))),
        priority=Priority.HIGH,
        audience=Audience.MERCHANT,
        joined_at=START + 60,
        scheduled=True,
        expires_at=START + 120,
        typing=False,
        timeline=(Moment(START, "accepted"),),
    )
    # It never expires unless somebody says so.
    plain = make_entry(2, expires_at=float("inf"))
    added = await add_entries(store, chosen, plain)
    assert [replace(entry, position=0) for entry in added] == [chosen, plain]
    assert await store.read(lambda tx: [tx.outbox.get(SHOP, entry.id) for entry in added]) == added


async def test_content_of_a_newer_version_is_refused(store_url: str, clock: HandClock) -> None:
    store = open_database(store_url, clock, codec=_FromTheFuture())
    await add_instance(store)
    (entry,) = await add_entries(store, make_entry(1))
    with pytest.raises(StoreFailedError, match=r"'hologram'.*newer version"):
        await store.read(lambda tx: tx.outbox.get(SHOP, entry.id))
    await store.close()


class _FromTheFuture(Codec):
    def content_in(self, content: Content) -> str:
        return '{"type":"hologram"}'


async def test_entries_are_listed_newest_first(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    failed = settle(make_entry(2), ItemState.FAILED, START, "no")
    added = await add_entries(store, make_entry(1), failed, make_entry(3, instance=InstanceId("other")), make_entry(4))
    one, two, three, four = added

    def listed(instance: InstanceId | None, state: ItemState | None, limit: int = 10) -> Callable[[Tx], list[Entry]]:
        return lambda tx: list(tx.outbox.list(instance, state, limit))

    assert await store.read(listed(None, None)) == [four, three, two, one]
    assert await store.read(listed(None, None, 2)) == [four, three]
    assert await store.read(listed(SHOP, None)) == [four, two, one]
    assert await store.read(listed(SHOP, None, 1)) == [four]
    assert await store.read(listed(None, ItemState.QUEUED)) == [four, three, one]
    assert await store.read(listed(SHOP, ItemState.QUEUED)) == [four, one]
    assert await store.read(listed(SHOP, ItemState.FAILED)) == [two]
    assert await store.read(listed(SHOP, ItemState.SENT)) == []


async def test_what_expires_is_what_waits_and_never_was_on_the_wire(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    soon = {"expires_at": START + 10}
    _, later, queued, held, elsewhere, *_ = await add_entries(
        store,
        make_entry(1),
        make_entry(2, expires_at=START + 10.5),
        make_entry(3, **soon),
        make_entry(4, state=ItemState.HELD, expires_at=START + 5),
        make_entry(5, instance=InstanceId("other"), **soon),
        unknown(make_entry(6, **soon)),
        unknown(make_entry(7, **soon), gave_up=True),
        sending(make_entry(8, **soon)),
        make_entry(9, on_wire=True, **soon),
        settle(make_entry(10, **soon), ItemState.EXPIRED, START),
        settle(make_entry(11, **soon), ItemState.CANCELLED, START),
    )
    assert await store.read(lambda tx: tx.outbox.expired(START + 4.9, 10)) == []
    assert await store.read(lambda tx: tx.outbox.expired(START + 10, 10)) == [held, queued, elsewhere]
    assert await store.write(lambda tx: tx.outbox.expired(START + 10, 10)) == [held, queued, elsewhere]
    assert await store.write(lambda tx: tx.outbox.expired(START + 10, 2)) == [held, queued]
    await store.write(lambda tx: tx.outbox.save(replace(queued, expires_at=START + 99)))
    await store.write(lambda tx: tx.outbox.save(expire(held, START + 10)))
    assert await store.read(lambda tx: tx.outbox.expired(START + 11, 10)) == [elsewhere, later]


async def test_positions_are_the_order_of_acceptance(store: Database) -> None:
    await add_instance(store)
    added = await add_entries(store, *(make_entry(number) for number in range(5)))
    positions = [entry.position for entry in added]
    assert positions == sorted(set(positions))
    assert await store.read(lambda tx: tx.line.unsettled(SHOP)) == added


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


async def test_an_open_entry_may_change_its_place(store: Database) -> None:
    """What the indexes of the line are made of is written, too, alone or with the rest."""
    await add_instance(store)
    (entry,) = await add_entries(store, make_entry(1))
    changes: list[dict[str, Any]] = [
        {"attempts": 1},
        {"next_attempt_at": START + 1},
        {"joined_at": START + 2, "attempts": 2},
        {"scheduled": True},
        {"expires_at": START + 3},
        {"state": ItemState.CANCELLED, "settled_at": START + 4},
        {"last_error": "why"},
        {"state": ItemState.QUEUED, "settled_at": None},
        {"expires_at": float("inf"), "timeline": (Moment(START, "retried"),)},
    ]
    for change in changes:
        entry = replace(entry, **change)
        await store.write(lambda tx, entry=entry: tx.outbox.save(entry))  # type: ignore[misc]
        assert await store.read(lambda tx: tx.outbox.get(SHOP, QueueId(make_entry(1).id))) == entry


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
    assert await store.read(lambda tx: tx.line.unsettled(SHOP)) == entries
    await store.close()
