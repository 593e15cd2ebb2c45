"""Deliveries: lanes, due times, and what is dropped."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from tests.contract.makers import SHOP, START, add_delivery, add_instance, logged, make_delivery

from wahub.domain.endpoint import Held, Trouble
from wahub.domain.errors import IllegalTransitionError, InstanceNotFoundError
from wahub.domain.ids import InstanceId
from wahub.domain.webhook import Delivery, DeliveryState, aside
from wahub.ports.store import Attempted, Database, Tx

URL, OTHER_URL = "http://localhost/hook", "http://localhost/other"


async def _add(store: Database, *deliveries: Delivery) -> list[Delivery]:
    return [await store.write(partial(add_delivery, delivery=delivery)) for delivery in deliveries]


async def _due(store: Database, now: float = START, limit: int = 100) -> list[str]:
    return [delivery.event_id for delivery in await store.read(lambda tx: tx.webhooks.due(now, limit))]


async def _last_attempt(store: Database) -> Attempted | None:
    return await store.read(lambda tx: tx.webhooks.last_attempt(SHOP))


async def test_a_delivery_comes_back_as_it_was_stored(store: Database) -> None:
    await add_instance(store)
    delivery = make_delivery(1, lane="1@s.whatsapp.net", body='{"text":"مرحبا 👋"}', attempts=2, last_error="HTTP 500")
    delivery = replace(delivery, attempted_at=START - 0.25, failed_at=START - 0.5)
    (placed,) = await _add(store, delivery)
    (found,) = await store.read(lambda tx: tx.webhooks.due(START, 1))
    assert found == placed


@pytest.mark.parametrize("number", [0, 1, 2, 17, 200])
async def test_several_are_added_as_each_alone(store: Database, number: int) -> None:
    await add_instance(store)
    await add_instance(store, "other")

    def add(tx: Tx) -> list[Delivery]:
        made = [
            make_delivery(
                at,
                f"lane {at}",
                URL if at % 2 else OTHER_URL,
                instance=InstanceId("other") if at % 3 else SHOP,
                attempts=at,
                last_error=None if at % 5 else "HTTP 500",
            )
            for at in range(number)
        ]
        placed = [replace(one, position=tx.events.add_all([logged(one)])[0]) for one in made]
        tx.webhooks.add_all(placed)
        return placed

    placed = await store.write(add)
    assert await store.read(lambda tx: tx.webhooks.due(START, 1_000)) == placed


async def test_of_several_all_are_added_or_none(store: Database) -> None:
    await add_instance(store)
    (there,) = await _add(store, make_delivery(1))

    def add(tx: Tx) -> None:
        fresh = replace(make_delivery(2, "another lane"), position=tx.events.add_all([logged(make_delivery(2))])[0])
        tx.webhooks.add_all([fresh, there])

    with pytest.raises(IllegalTransitionError):
        await store.write(add)
    assert await _due(store) == ["event-1"]


async def test_only_the_first_of_each_lane_is_due(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    first, second, *_ = await _add(
        store,
        make_delivery(1, "a"),
        make_delivery(2, "b"),
        make_delivery(3, "a"),
        make_delivery(4, "a", OTHER_URL),
        make_delivery(5, "a", instance=InstanceId("other")),
        make_delivery(6, "b"),
    )
    assert await _due(store) == ["event-1", "event-2", "event-4", "event-5"]
    assert await _due(store, limit=2) == ["event-1", "event-2"]
    await store.write(lambda tx: tx.webhooks.save_all([replace(first, state=DeliveryState.DELIVERED)]))
    await store.write(lambda tx: tx.webhooks.save_all([replace(second, state=DeliveryState.DEAD)]))
    assert await _due(store) == ["event-3", "event-4", "event-5", "event-6"]


async def test_a_head_that_waits_holds_back_its_lane(store: Database) -> None:
    await add_instance(store)
    await _add(
        store,
        make_delivery(1, "a", next_attempt_at=START + 60),
        make_delivery(2, "a"),
        make_delivery(3, "b", next_attempt_at=START + 30),
    )
    assert await _due(store) == []
    assert await store.read(lambda tx: tx.webhooks.next_attempt_at()) == START + 30
    assert await store.read(lambda tx: tx.webhooks.next_attempt_at(START + 30)) == START + 60
    assert await store.read(lambda tx: tx.webhooks.next_attempt_at(START + 60)) is None
    assert await _due(store, START + 30) == ["event-3"]
    assert await _due(store, START + 60) == ["event-1", "event-3"]


async def test_full_endpoints_are_left_out(store: Database) -> None:
    await add_instance(store)
    await _add(
        store, *(make_delivery(number, f"lane-{number}") for number in range(5)), make_delivery(9, "a", OTHER_URL)
    )
    full = [(SHOP, URL), (InstanceId("other"), OTHER_URL)]
    found = await store.read(lambda tx: tx.webhooks.due(START, 3, full))
    assert [delivery.event_id for delivery in found] == ["event-9"]


@pytest.mark.parametrize("full", [[], [(SHOP, OTHER_URL)]])
async def test_what_is_known_is_left_out_and_still_holds_back_its_lane(
    store: Database, full: list[tuple[InstanceId, str]]
) -> None:
    await add_instance(store)
    first, _, third, fourth, _ = await _add(
        store,
        make_delivery(1, "a"),
        make_delivery(2, "a"),
        make_delivery(3, "b"),
        make_delivery(4, "c"),
        make_delivery(5, "d", OTHER_URL),
    )
    of_others = [] if full else ["event-5"]

    async def due(limit: int, *besides: int) -> list[str]:
        found = await store.read(lambda tx: tx.webhooks.due(START, limit, full, besides))
        return [delivery.event_id for delivery in found]

    assert await due(9, first.position, fourth.position) == ["event-3", *of_others]
    assert await due(1, first.position) == ["event-3"], "what is left out does not count"
    assert await due(9, first.position, third.position, fourth.position, *range(-3_000, 0)) == of_others
    await store.write(lambda tx: tx.webhooks.rename_lane(SHOP, "a", "b"))
    assert await due(9, first.position) == ["event-4", *of_others], "by its position, whatever its lane is called"


async def test_several_are_saved_as_each_alone(store: Database) -> None:
    await add_instance(store)
    taken, waits, leaves, unlogged, unlogged_waits, gone = await _add(
        store,
        *(make_delivery(number, f"lane {number}") for number in (1, 2, 3)),
        *(replace(make_delivery(number, f"lane {number}"), sequence=0) for number in (4, 5)),
        make_delivery(6, "lane 6", event="qr"),
    )
    await store.write(lambda tx: tx.webhooks.rename_lane(SHOP, "lane 2", "renamed"))
    await store.write(lambda tx: tx.webhooks.supersede(SHOP, "qr"))
    later = {"attempts": 1, "attempted_at": START, "failed_at": START, "last_error": "HTTP 500"}
    changed = [
        replace(taken, state=DeliveryState.DELIVERED, attempts=1, attempted_at=START),
        replace(waits, next_attempt_at=START + 1, **later),
        aside(replace(leaves, next_attempt_at=START + 2, **later)),
        replace(unlogged, state=DeliveryState.DEAD),
        replace(unlogged_waits, next_attempt_at=START + 3, **later),
        replace(gone, state=DeliveryState.DELIVERED),
    ]
    await store.write(lambda tx: tx.webhooks.save_all([]))
    await store.write(lambda tx: tx.webhooks.save_all(changed))
    renamed = replace(changed[1], lane="renamed")
    assert await store.read(lambda tx: tx.webhooks.due(START + 3, 9)) == [renamed, changed[2], changed[4]]
    assert await store.write(lambda tx: tx.webhooks.forget_settled(START + 1)) == 1, "the one that was taken"
    with pytest.raises(InstanceNotFoundError):
        await store.write(lambda tx: tx.webhooks.add_all([unlogged]))  # its event is gone


async def test_nothing_pending(store: Database) -> None:
    await add_instance(store)
    assert await _due(store) == []
    assert await store.read(lambda tx: tx.webhooks.next_attempt_at()) is None
    # Gone while it was posted: no error, nothing comes back.
    await store.write(lambda tx: tx.webhooks.save_all([make_delivery(1)]))
    assert await _due(store) == []


async def test_a_newer_event_supersedes_pending_ones_of_its_kind(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    await _add(
        store,
        make_delivery(1, event="qr", state=DeliveryState.DELIVERED),
        make_delivery(2, event="qr"),
        make_delivery(3, event="ready"),
        make_delivery(4, event="qr"),
        make_delivery(5, event="qr", instance=InstanceId("other")),
    )
    assert await store.write(lambda tx: tx.webhooks.supersede(SHOP, "qr")) == 2
    assert await _due(store) == ["event-3", "event-5"]


async def test_old_delivered_rows_are_forgotten(store: Database) -> None:
    await add_instance(store)
    await _add(
        store,
        make_delivery(1, state=DeliveryState.DELIVERED, attempted_at=START),
        make_delivery(2, state=DeliveryState.DELIVERED, attempted_at=START + 10),
        make_delivery(3, state=DeliveryState.DEAD),
        make_delivery(4),
    )
    assert await store.write(lambda tx: tx.webhooks.forget_settled(START + 10)) == 1
    assert await store.write(lambda tx: tx.webhooks.forget_settled(START + 10)) == 0
    assert await _due(store) == ["event-4"]


async def test_the_latest_attempt_is_told_whatever_became_of_it(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    waiting, taken, refused = make_delivery(1, "a"), make_delivery(2, "b", event="qr"), make_delivery(3, "c")
    waiting, taken, refused, _ = await _add(
        store, waiting, taken, refused, make_delivery(4, "d", instance=InstanceId("other"))
    )
    assert await _last_attempt(store) is None

    async def save(delivery: Delivery) -> None:
        await store.write(lambda tx: tx.webhooks.save_all([delivery]))

    await save(replace(waiting, attempts=1, attempted_at=START + 2, last_error="HTTP 500"))
    assert await _last_attempt(store) == Attempted("ready", START + 2, "HTTP 500")
    await save(replace(taken, attempts=2, attempted_at=START + 3, state=DeliveryState.DELIVERED, last_error="HTTP 503"))
    assert await _last_attempt(store) == Attempted("qr", START + 3, None)
    # Earlier, though of a later row.
    await save(replace(refused, attempts=1, attempted_at=START + 1, last_error="refused"))
    assert await _last_attempt(store) == Attempted("qr", START + 3, None)
    await save(replace(refused, attempts=2, attempted_at=START + 4, last_error="gone", state=DeliveryState.DEAD))
    assert await _last_attempt(store) == Attempted("ready", START + 4, "gone")
    await save(replace(taken, attempts=2, attempted_at=START + 4, last_error="late"))
    assert await _last_attempt(store) == Attempted("ready", START + 4, "gone"), "of two at once the later row"
    assert await store.read(lambda tx: tx.webhooks.last_attempt(InstanceId("other"))) is None


async def test_event_ids_are_unique(store: Database) -> None:
    await add_instance(store)
    await _add(store, make_delivery(1))
    with pytest.raises(IllegalTransitionError):
        await _add(store, make_delivery(1, "other lane"))


async def test_dead_letters_and_held_endpoints_are_counted(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    assert await store.read(lambda tx: tx.dead.count(None)) == 0
    assert await store.read(lambda tx: tx.endpoints.held()) == {}
    other = InstanceId("other")
    await _add(
        store,
        make_delivery(1, state=DeliveryState.DEAD),
        make_delivery(2, state=DeliveryState.DEAD, instance=other),
        make_delivery(3, state=DeliveryState.DEAD, instance=other),
        make_delivery(4),
        make_delivery(5, state=DeliveryState.DELIVERED, attempted_at=START),
    )
    assert await store.read(lambda tx: tx.dead.count(None)) == 3
    assert await store.read(lambda tx: tx.dead.count(other)) == 2

    def trouble(instance: InstanceId, url: str, held: Held | None) -> Trouble:
        return Trouble(instance, url, 20, START, "HTTP 500", held, held_until=None if held is None else START + 60)

    def hold(tx: Tx) -> None:
        tx.endpoints.note(trouble(SHOP, URL, Held.PAUSED))
        tx.endpoints.note(trouble(SHOP, OTHER_URL, None))
        tx.endpoints.note(trouble(other, URL, Held.PAUSED))
        tx.endpoints.note(trouble(other, OTHER_URL, Held.DISABLED))

    await store.write(hold)
    assert await store.read(lambda tx: tx.endpoints.held()) == {Held.PAUSED: 2, Held.DISABLED: 1}
    await store.write(lambda tx: tx.endpoints.recover(other, OTHER_URL))
    assert await store.read(lambda tx: tx.endpoints.held()) == {Held.PAUSED: 2}
