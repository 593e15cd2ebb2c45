"""The event log: order, numbers that never come back, secrets that end, and what is forgotten."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from tests.contract.makers import SHOP, START, HandClock, add_delivery, add_instance, make_delivery

from wahub.adapters.sql.event import SqlEvents
from wahub.domain.endpoint import Held, Trouble
from wahub.domain.errors import IllegalTransitionError, InstanceNotFoundError
from wahub.domain.event import LoggedEvent, Span, without_secret
from wahub.domain.ids import InstanceId
from wahub.domain.webhook import DeliveryState
from wahub.ports.store import Database, Tx

OTHER = InstanceId("other")


def log(tx: Tx, instance: InstanceId, event_id: str, event: str = "message", at: float = START, **more: object) -> int:
    number = tx.instances.next_sequences(instance, 1)
    body = f'{{"event":"{event}","instanceId":"{instance}","data":{{"n":{number}}}}}'
    return tx.events.add_all([LoggedEvent(event_id, instance, event, body, number, at, **more)])[0]  # type: ignore[arg-type]


async def numbers(store: Database, instance: InstanceId = SHOP, after: int = 0, limit: int = 100) -> list[int]:
    return [event.sequence for event in await store.read(lambda tx: tx.events.after(instance, after, limit))]


async def test_each_instance_has_its_own_numbers_and_all_share_one_order(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    for number, instance in enumerate((SHOP, OTHER, SHOP, SHOP, OTHER)):
        await store.write(partial(log, instance=instance, event_id=f"e{number}"))
    assert await numbers(store) == [1, 2, 3]
    assert await numbers(store, after=1) == [2, 3]
    assert await numbers(store, after=1, limit=1) == [2]
    assert await numbers(store, OTHER) == [1, 2]
    everything = await store.read(lambda tx: tx.events.since(0, 100))
    assert [(event.instance, event.sequence) for event in everything] == [
        (SHOP, 1),
        (OTHER, 1),
        (SHOP, 2),
        (SHOP, 3),
        (OTHER, 2),
    ]
    third = everything[2].position
    assert [event.event_id for event in await store.read(lambda tx: tx.events.since(third, 1))] == ["e3"]
    assert await store.read(lambda tx: tx.places.of(SHOP, 2)) == third
    assert await store.read(lambda tx: tx.places.of(SHOP, 9)) is None
    assert await store.read(lambda tx: tx.places.newest()) == everything[-1].position
    assert await store.read(lambda tx: tx.events.span(SHOP)) == Span(1, 3)


async def test_an_event_comes_back_as_it_was_logged(store: Database) -> None:
    await add_instance(store)
    event = LoggedEvent("e1", SHOP, "qr", '{"data":"مرحبا 👋"}', 1, START + 0.25, START + 60)
    position = await store.write(lambda tx: tx.events.add_all([event])[0])
    (found,) = await store.read(lambda tx: tx.events.after(SHOP, 0, 10))
    assert found.position == position
    assert (found.event_id, found.event, found.body, found.sequence) == ("e1", "qr", event.body, 1)
    assert (found.created_at, found.secret_until) == (START + 0.25, START + 60)


async def test_several_events_get_rising_positions_in_their_order(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    everything: list[LoggedEvent] = []
    positions: list[int] = []
    # Ids that fall while positions rise, and numbers of which one event in three has none.
    for count in (1, 2, 17, 200):
        await store.write(partial(log, instance=OTHER, event_id=f"between-{count}"))
        first = len(everything) + 1
        batch = [
            LoggedEvent(f"e{999 - n}", SHOP, "message", f'{{"n":{n}}}', 0 if n % 3 == 0 else n, START + n)
            for n in range(first, first + count)
        ]
        positions += await store.write(lambda tx, batch=batch: tx.events.add_all(batch))  # type: ignore[misc]
        everything += batch
    assert positions == sorted(positions)
    placed = [replace(event, position=at) for event, at in zip(everything, positions, strict=True)]
    found = [event for event in await store.read(lambda tx: tx.events.since(0, 1000)) if event.instance == SHOP]
    assert found == placed
    assert await store.write(lambda tx: tx.events.add_all([])) == []


async def test_of_several_events_all_are_logged_or_none(store: Database) -> None:
    await add_instance(store)
    await store.write(partial(log, instance=SHOP, event_id="e1"))
    fresh, taken = (LoggedEvent(name, SHOP, "message", "{}", number, START) for name, number in (("e2", 2), ("e1", 3)))
    with pytest.raises(IllegalTransitionError, match="events breaks the rule"):
        await store.write(lambda tx: tx.events.add_all([fresh, taken]))
    with pytest.raises(InstanceNotFoundError):
        await store.write(lambda tx: tx.events.add_all([fresh, replace(taken, instance=OTHER, event_id="e3")]))
    assert await numbers(store) == [1]


async def test_an_instance_without_events(store: Database) -> None:
    await add_instance(store)
    assert await store.read(lambda tx: tx.events.span(SHOP)) == Span(1, 0)
    assert await store.read(lambda tx: tx.places.newest()) == 0
    with pytest.raises(InstanceNotFoundError):
        await store.read(lambda tx: tx.events.span(OTHER))


async def test_what_is_old_is_forgotten_unless_a_delivery_waits_and_numbers_never_restart(store: Database) -> None:
    await add_instance(store)
    waiting = await store.write(lambda tx: add_delivery(tx, make_delivery(1, created_at=START - 100)))
    taken = make_delivery(2, created_at=START - 90, state=DeliveryState.DELIVERED)
    await store.write(lambda tx: add_delivery(tx, taken))
    await store.write(lambda tx: [tx.instances.next_sequences(SHOP, 1) for _ in range(2)])
    for number in range(5):
        await store.write(partial(log, instance=SHOP, event_id=f"e{number}", at=START - 80 + number * 20))
    assert await numbers(store) == [1, 2, 3, 4, 5, 6, 7]
    position: int | None = 0
    looks = 0
    while position is not None:
        position = await store.write(partial(forget, position=position))
        looks += 1
    assert looks == 3, "two at a time, until one is not old"
    assert await numbers(store) == [1, 6, 7]
    assert await store.read(lambda tx: tx.events.span(SHOP)) == Span(1, 7)
    newest = await store.read(lambda tx: tx.places.newest())
    await store.write(lambda tx: tx.webhooks.save_all([replace(waiting, state=DeliveryState.DEAD)]))
    await store.write(lambda tx: tx.events.forget(START + 1_000, 0, 100))
    assert await numbers(store) == []
    assert await store.read(lambda tx: tx.events.span(SHOP)) == Span(8, 7)
    placed = await store.write(partial(log, instance=SHOP, event_id="later"))
    assert await numbers(store) == [8]
    assert placed > newest, "nor do positions, by which everything is followed"


async def test_how_far_retention_came_is_kept_for_each_instance(store: Database) -> None:
    for name in ("shop", "other", "third"):
        await add_instance(store, name)
    waiting = await store.write(lambda tx: add_delivery(tx, make_delivery(1, created_at=START - 100)))
    await store.write(lambda tx: tx.instances.next_sequences(SHOP, 1))
    for number, (instance, age) in enumerate(((SHOP, 90), (OTHER, 80), (SHOP, 70), (OTHER, 10), (SHOP, 5))):
        await store.write(partial(log, instance=instance, event_id=f"e{number}", at=START - age))
    # Not in the log, so nobody misses it.
    placed = await store.write(
        lambda tx: tx.events.add_all([LoggedEvent("p", OTHER, "presence", "{}", 0, START - 95)])[0]
    )
    positions = {n: await store.read(lambda tx, n=n: tx.places.of(SHOP, n)) for n in (1, 2, 3, 4)}  # type: ignore[misc]
    first_of_other = await store.read(lambda tx: tx.places.of(OTHER, 1))
    assert await store.read(lambda tx: tx.places.forgotten_beyond(0)) == []
    await store.write(lambda tx: tx.events.forget(START - 30, 0, 100))
    forgotten = [await store.read(lambda tx, i=i: tx.places.forgotten(i)) for i in (SHOP, OTHER, InstanceId("third"))]  # type: ignore[misc]
    assert forgotten == [positions[3], first_of_other, 0]
    assert await store.read(lambda tx: tx.places.forgotten_beyond(0)) == [OTHER, SHOP]
    assert await store.read(lambda tx: tx.places.forgotten_beyond(first_of_other or 0)) == [SHOP]
    assert await store.read(lambda tx: tx.places.forgotten_beyond(positions[3] or 0)) == []
    # What waited is removed later, and is before that: it takes nothing back.
    await store.write(lambda tx: tx.webhooks.save_all([replace(waiting, state=DeliveryState.DELIVERED)]))
    await store.write(lambda tx: tx.events.forget(START - 30, 0, 100))
    assert await numbers(store) == [4]
    assert await store.read(lambda tx: tx.places.forgotten(SHOP)) == positions[3]
    await store.write(lambda tx: tx.instances.delete(SHOP))
    assert await store.read(lambda tx: tx.places.forgotten_beyond(0)) == [OTHER]
    assert await store.read(lambda tx: tx.places.newest()) < placed
    assert await store.read(lambda tx: tx.places.given()) == placed


def forget(tx: Tx, position: int) -> int | None:
    return tx.events.forget(START - 30, position, 2)


async def test_positions_do_not_restart_when_an_instance_goes(store: Database) -> None:
    await add_instance(store)
    before = await store.write(partial(log, instance=SHOP, event_id="e1"))
    await store.write(lambda tx: tx.instances.delete(SHOP))
    await add_instance(store, "other")
    assert await store.write(partial(log, instance=OTHER, event_id="e2")) > before


async def test_secrets_end_with_their_time_or_with_the_next(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    for number, (instance, until) in enumerate(((SHOP, 10.0), (SHOP, 30.0), (OTHER, 10.0), (OTHER, 30.0))):
        await store.write(
            partial(log, instance=instance, event_id=f"e{number}", event="qr", secret_until=START + until)
        )
    await store.write(partial(log, instance=SHOP, event_id="e9"))
    assert await store.write(lambda tx: tx.events.end_secrets(START + 10)) == 2
    assert await store.write(lambda tx: tx.events.end_secrets(START + 10)) == 0
    assert await store.write(lambda tx: tx.events.end_secrets(START, SHOP)) == 1
    mine = await store.read(lambda tx: tx.events.after(SHOP, 0, 10))
    assert [event.body for event in mine[:2]] == [without_secret("qr", SHOP)] * 2
    assert '"n":3' in mine[2].body
    (ended, alive) = await store.read(lambda tx: tx.events.after(OTHER, 0, 10))
    assert (ended.secret_until, alive.secret_until) == (None, START + 30)
    assert '"n":2' in alive.body
    assert alive.at(START + 29) is alive
    assert alive.at(START + 30).body == without_secret("qr", OTHER)


async def test_what_is_not_in_the_log_is_gone_once_it_was_posted(store: Database) -> None:
    await add_instance(store)
    placed = await store.write(lambda tx: add_delivery(tx, make_delivery(1, event="presence", sequence=0)))
    twin = await store.write(lambda tx: add_delivery(tx, make_delivery(2, "b", event="presence", sequence=0)))
    assert await numbers(store) == []
    (due, _) = await store.read(lambda tx: tx.webhooks.due(START, 10))
    assert (due.event_id, due.sequence) == ("event-1", 0)
    for delivery, state in ((placed, DeliveryState.DELIVERED), (twin, DeliveryState.DEAD)):
        await store.write(lambda tx, d=delivery, s=state: tx.webhooks.save_all([replace(d, state=s)]))  # type: ignore[misc]
    assert await store.read(lambda tx: tx.events.since(0, 10)) == []
    assert await store.read(lambda tx: tx.dead.count(SHOP)) == 0


async def test_what_is_not_in_the_log_is_no_dead_letter_of_a_held_endpoint(store: Database) -> None:
    await add_instance(store)
    held = Trouble(SHOP, "http://localhost/hook", 20, START, "HTTP 500", Held.PAUSED, START, held_until=START + 600)
    await store.write(lambda tx: tx.endpoints.note(held))
    await store.write(lambda tx: add_delivery(tx, make_delivery(1, expires_at=START + 10)))
    for number, expires_at in ((2, START + 10), (3, START + 30)):
        seen = make_delivery(number, event="presence", sequence=0, expires_at=expires_at)
        await store.write(lambda tx, d=seen: add_delivery(tx, d))  # type: ignore[misc]
    assert await store.write(lambda tx: tx.dead.bury_overdue(START + 20, "held")) == 1
    await store.write(lambda tx: tx.endpoints.recover(SHOP, held.url))
    left = await store.read(lambda tx: tx.webhooks.due(START + 20, 10))
    assert [delivery.event_id for delivery in left] == ["event-3"]
    assert [dead.event_id for dead in await store.read(lambda tx: tx.dead.list(SHOP, 10))] == ["event-1"]


def test_a_missing_position_is_waited_for_on_a_server_with_many_writers() -> None:
    """Its transaction may be under way; only when it can be no more is it a hole."""
    clock = HandClock()

    class Rows:
        dialect = "postgresql"

        class codec:  # noqa: N801
            @staticmethod
            def text_out(text: str) -> str:
                return text

        def __init__(self) -> None:
            self.clock = clock

        def run(self, _statement: object, values: dict[str, int]) -> list[tuple[object, ...]]:
            found = [(p, START) for p in (1, 2, 4, 5)]
            return [(f"e{p}", SHOP, "message", "{}", p, at, None, p) for p, at in found if p > values["beyond"]]

    events = SqlEvents(Rows())  # type: ignore[arg-type]
    assert [event.position for event in events.since(0, 10)] == [1, 2]
    assert events.since(2, 10) == []
    clock.at = START + 60
    assert [event.position for event in events.since(2, 10)] == [4, 5]
