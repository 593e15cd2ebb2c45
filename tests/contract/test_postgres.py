"""What only PostgreSQL has: transactions that really run side by side."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace

import psycopg
import pytest
from tests.contract.makers import SHOP, START, HandClock, add_entries, add_instance, make_entry, sending

from wahub.adapters.sql.database import open_database
from wahub.adapters.sql.failure import StoreFailedError
from wahub.domain.ids import InstanceId
from wahub.domain.lifecycle import Ask, Lifecycle
from wahub.domain.outbox import DeliveryMark, ItemState, SendPolicy, SendUncertain, next_step, note_evidence, settle
from wahub.ports.store import Database, Tx

pytestmark = pytest.mark.postgres


@pytest.fixture
async def store(shared_postgres_url: str, clock: HandClock) -> AsyncIterator[Database]:
    database = open_database(shared_postgres_url, clock)
    yield database
    await database.close()


async def test_a_deadlock_is_run_again(store: Database) -> None:
    """Two functions lock two instances in opposite order; both must commit in the end."""
    await add_instance(store, "a")
    await add_instance(store, "b")
    both_hold_one = threading.Barrier(2)
    runs: list[str] = []

    def cross(tx: Tx, first: str, second: str) -> None:
        runs.append(first)
        tx.instances.next_sequences(InstanceId(first), 1)
        if len(runs) <= 2:
            both_hold_one.wait(10)
        tx.instances.next_sequences(InstanceId(second), 1)

    await asyncio.gather(store.write(lambda tx: cross(tx, "a", "b")), store.write(lambda tx: cross(tx, "b", "a")))
    # Seldom more: if the winner sleeps on, the loser takes the row again before it, and loses again.
    assert len(runs) >= 3
    for name in ("a", "b"):
        assert await store.write(lambda tx, name=name: tx.instances.next_sequences(InstanceId(name), 1)) == 3  # type: ignore[misc]


async def test_proof_and_the_end_of_an_attempt_do_not_overwrite_each_other(store: Database) -> None:
    """A receipt arrives while the attempt is settled as uncertain: whoever comes second sees what the first wrote."""
    await add_instance(store)
    (entry,) = await add_entries(store, sending(make_entry(1)))
    read, gate = threading.Event(), threading.Event()

    def prove(tx: Tx) -> None:
        found = tx.outbox.find_message(SHOP, entry.message_id)
        assert found is not None
        read.set()
        assert gate.wait(10)
        tx.outbox.save(note_evidence(found, DeliveryMark.DELIVERED, START))

    def time_out(tx: Tx) -> None:
        found = tx.outbox.get(SHOP, entry.id)
        assert found is not None
        if found.state is ItemState.SENDING:
            tx.outbox.save(next_step(found, SendUncertain("no ack"), START, SendPolicy()))

    proving = asyncio.create_task(store.write(prove))
    await asyncio.to_thread(read.wait, 10)
    ending = asyncio.create_task(store.write(time_out))
    done, _ = await asyncio.wait([ending], timeout=0.3)
    assert not done, "the second must wait for the first"
    gate.set()
    await asyncio.gather(proving, ending)
    final = await store.read(lambda tx: tx.outbox.get(SHOP, entry.id))
    assert final is not None
    assert (final.state, final.delivery) == (ItemState.SENT, DeliveryMark.DELIVERED)


async def test_who_waits_for_a_row_that_settles_gets_the_next_one(store: Database) -> None:
    await add_instance(store)
    first, second = await add_entries(store, make_entry(1, expires_at=START + 1), make_entry(2, "4915551230002"))
    locked, gate = threading.Event(), threading.Event()

    def settle_first(tx: Tx) -> None:
        tx.outbox.save(settle(first, ItemState.CANCELLED, START))
        locked.set()
        assert gate.wait(10)

    settling = asyncio.create_task(store.write(settle_first))
    await asyncio.to_thread(locked.wait, 10)
    asking = asyncio.create_task(store.write(lambda tx: tx.line.next_due(SHOP, START)))
    done, _ = await asyncio.wait([asking], timeout=0.3)
    assert not done, "the question must wait for the row"
    # The sweep does not wait: it leaves the row to its next round.
    assert await store.write(lambda tx: tx.outbox.expired(START + 1e9, 10)) == []
    gate.set()
    await settling
    assert await asking == second


async def test_who_asks_for_a_record_waits_for_its_writer(store: Database) -> None:
    """There is none yet that could be locked."""
    await add_instance(store)
    written, gate = threading.Event(), threading.Event()

    def ask(tx: Tx) -> None:
        found = tx.lifecycles.get(SHOP, for_update=True)
        written.set()
        assert gate.wait(10)
        tx.lifecycles.save(replace(found, asked=Ask.RETRY))

    def count(tx: Tx) -> None:
        found = tx.lifecycles.get(SHOP, for_update=True)
        tx.lifecycles.save(replace(found, mutes=found.mutes + 1))

    asking = asyncio.create_task(store.write(ask))
    await asyncio.to_thread(written.wait, 10)
    counting = asyncio.create_task(store.write(count))
    done, _ = await asyncio.wait([counting], timeout=0.3)
    assert not done, "the second must wait for the first"
    # Sends are accepted meanwhile: a row that refers to the instance does not wait for it.
    await add_entries(store, make_entry(1))
    gate.set()
    await asyncio.gather(asking, counting)
    assert await store.read(lambda tx: tx.lifecycles.get(SHOP)) == Lifecycle(SHOP, asked=Ask.RETRY, mutes=1)


async def test_a_connection_that_broke_is_replaced(store: Database, shared_postgres_url: str) -> None:
    await add_instance(store)
    _cut_all(shared_postgres_url)
    assert len(await store.read(lambda tx: tx.instances.list())) == 1
    runs: list[int] = []

    def work(tx: Tx) -> int:
        taken = tx.instances.next_sequences(SHOP, 1)
        if not runs:
            _cut_all(shared_postgres_url)
        runs.append(taken)
        tx.instances.get(SHOP)
        return taken

    assert await store.write(work) == 1
    assert runs == [1, 1]


async def test_a_connection_that_breaks_during_the_commit_leaves_it_open(
    store: Database, shared_postgres_url: str
) -> None:
    await add_instance(store)

    def work(tx: Tx) -> None:
        tx.instances.next_sequences(SHOP, 1)
        _cut_all(shared_postgres_url)

    with pytest.raises(StoreFailedError, match="not known"):
        await store.write(work)
    assert await store.write(lambda tx: tx.instances.next_sequences(SHOP, 1)) == 1


def _cut_all(postgres_url: str) -> None:
    """End every other connection to the database, as a restart of the server would."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def test_writes_of_different_instances_run_side_by_side(store: Database) -> None:
    await add_instance(store, "a")
    await add_instance(store, "b")
    meeting = threading.Barrier(2)

    def work(tx: Tx, name: str) -> None:
        found = tx.instances.get(InstanceId(name), for_update=True)
        assert found is not None
        meeting.wait(10)
        tx.instances.save(replace(found, deleting=True))

    await asyncio.gather(store.write(lambda tx: work(tx, "a")), store.write(lambda tx: work(tx, "b")))
    assert all(found.deleting for found in await store.read(lambda tx: tx.instances.list()))
