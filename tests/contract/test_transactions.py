"""A transaction is a function: what is kept, what is not, and who is told."""

from __future__ import annotations

import asyncio
import threading

import pytest
from tests.contract.makers import SHOP, HandClock, add_instance, add_received, make_entry, make_instance, make_received

from wahub.adapters.sql.database import open_database
from wahub.adapters.sql.failure import StoreFailedError
from wahub.domain.errors import IllegalTransitionError, InstanceExistsError, InstanceNotFoundError
from wahub.domain.ids import InstanceId
from wahub.domain.session import KeyChanges, KeyName
from wahub.ports.store import Database, Tx


class OurError(Exception):
    pass


async def _names(store: Database) -> list[str]:
    return [found.id for found in await store.read(lambda tx: tx.instances.list())]


async def test_a_function_that_raises_leaves_nothing(store: Database) -> None:
    def work(tx: Tx) -> None:
        tx.instances.add(make_instance())
        tx.outbox.add(make_entry(1))
        raise OurError

    with pytest.raises(OurError):
        await store.write(work)
    assert await _names(store) == []


async def test_neighbours_of_a_failing_function_commit(store: Database) -> None:
    """Forty functions wait together while one holds the writer; every fourth raises after it wrote."""
    entered, gate = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        entered.set()
        assert gate.wait(10)

    def add(number: int, tx: Tx) -> int:
        tx.instances.add(make_instance(f"i{number:02}"))
        if number % 4 == 0:
            raise OurError
        return number

    holder = asyncio.create_task(store.write(hold))
    await asyncio.to_thread(entered.wait, 10)
    tasks = [asyncio.create_task(store.write(lambda tx, number=number: add(number, tx))) for number in range(40)]  # type: ignore[misc]
    await asyncio.sleep(0)
    gate.set()
    await holder
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for number, result in enumerate(results):
        assert isinstance(result, OurError) if number % 4 == 0 else result == number
    assert sorted(await _names(store)) == [f"i{number:02}" for number in range(40) if number % 4]


async def test_a_broken_rule_in_a_group_takes_back_its_own_function_only(store: Database) -> None:
    await add_instance(store)

    def twice(tx: Tx) -> None:
        tx.outbox.add(make_entry(1))
        tx.outbox.add(make_entry(1))

    results = await asyncio.gather(
        store.write(twice),
        store.write(lambda tx: tx.outbox.add(make_entry(2))),
        store.write(lambda tx: tx.outbox.add(make_entry(3))),
        return_exceptions=True,
    )
    assert isinstance(results[0], IllegalTransitionError)
    kept = await store.read(lambda tx: tx.line.unsettled(SHOP))
    assert {entry.id for entry in kept} == {make_entry(2).id, make_entry(3).id}


async def test_a_cancelled_caller_does_not_undo_the_work(store: Database) -> None:
    entered, gate = threading.Event(), threading.Event()

    def slow(tx: Tx) -> None:
        tx.instances.add(make_instance())
        entered.set()
        assert gate.wait(10)

    running = asyncio.create_task(store.write(slow))
    await asyncio.to_thread(entered.wait, 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await _names(store) == []
    gate.set()
    # Waits for the first, whose row it locks.
    with pytest.raises(InstanceExistsError):
        await add_instance(store)
    assert await _names(store) == ["shop"]


async def test_what_cancelled_callers_handed_over_is_committed(store_url: str, clock: HandClock) -> None:
    store = open_database(store_url, clock)
    tasks = [
        asyncio.create_task(store.write(lambda tx, n=n: tx.instances.add(make_instance(f"i{n:02}"))))  # type: ignore[misc]
        for n in range(20)
    ]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    await store.close()
    store = open_database(store_url, clock)
    assert await _names(store) == [f"i{n:02}" for n in range(20)]
    await store.close()


async def test_a_read_sees_one_snapshot(store: Database) -> None:
    await add_instance(store)
    entered, gate = threading.Event(), threading.Event()

    def look_twice(tx: Tx) -> tuple[int, int]:
        before = len(tx.instances.list())
        entered.set()
        assert gate.wait(10)
        return before, len(tx.instances.list())

    reading = asyncio.create_task(store.read(look_twice))
    await asyncio.to_thread(entered.wait, 10)
    await add_instance(store, "second")
    gate.set()
    assert await reading == (1, 1)
    assert len(await _names(store)) == 2


async def test_a_read_may_not_write(store: Database) -> None:
    await add_instance(store)
    with pytest.raises(StoreFailedError):
        await store.read(lambda tx: tx.instances.add(make_instance("other")))
    with pytest.raises(StoreFailedError):
        await store.read(lambda tx: tx.instances.get(SHOP, for_update=True))
    assert await _names(store) == ["shop"]


async def test_a_transaction_ends_with_its_function(store: Database) -> None:
    kept = await store.write(lambda tx: tx)
    with pytest.raises(RuntimeError, match="over"):
        kept.instances.list()


async def test_closing(store: Database) -> None:
    pending = asyncio.create_task(add_instance(store))
    await asyncio.sleep(0)
    await asyncio.gather(store.close(), store.close())
    assert (await pending).id == "shop"
    await store.close()
    with pytest.raises(StoreFailedError, match="closed"):
        await store.write(lambda tx: None)
    with pytest.raises(StoreFailedError, match="closed"):
        await store.read(lambda tx: None)


async def test_broken_rules_are_told_in_the_words_of_the_domain(store: Database) -> None:
    await add_instance(store)
    with pytest.raises(InstanceExistsError):
        await add_instance(store)
    with pytest.raises(InstanceNotFoundError):
        await store.write(lambda tx: tx.outbox.add(make_entry(1, instance=InstanceId("nobody"))))
    with pytest.raises(InstanceNotFoundError):
        await store.write(lambda tx: add_received(tx, make_received(instance=InstanceId("nobody")), 1.0))
    changes = KeyChanges({KeyName("session", "a"): b"x"})
    with pytest.raises(InstanceNotFoundError):
        await store.write(lambda tx: tx.sessions.write(InstanceId("nobody"), changes))
    with pytest.raises(InstanceNotFoundError):
        await store.write(lambda tx: tx.instances.save(make_instance("nobody")))


async def test_the_transaction_lives_on_after_an_instance_that_exists(store: Database) -> None:
    await add_instance(store)

    def work(tx: Tx) -> None:
        with pytest.raises(InstanceExistsError):
            tx.instances.add(make_instance())
        tx.instances.add(make_instance("second"))

    await store.write(work)
    assert await _names(store) == ["second", "shop"]


async def test_errors_quote_no_values(store: Database) -> None:
    """The text of a message must not get into a log by way of a driver's error."""
    await add_instance(store)
    secret = make_entry(1, chat="4917012345678")
    await store.write(lambda tx: tx.outbox.add(secret))
    with pytest.raises(IllegalTransitionError) as caught:
        await store.write(lambda tx: tx.outbox.add(secret))
    told: BaseException | None = caught.value
    while told is not None:
        assert "4917012345678" not in str(told)
        assert "text 1" not in str(told)
        assert secret.message_id not in str(told)
        told = told.__cause__ or told.__context__
