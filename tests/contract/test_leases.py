"""Terms: who gets one, what a stale one may not do, and that epochs never go back."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest
from tests.contract.makers import (
    OTHER_WORKER,
    SHOP,
    TTL,
    WORKER,
    HandClock,
    add_instance,
    claim_lease,
    make_entry,
    make_instance,
)

from wahub.adapters.sql.database import open_database
from wahub.domain.errors import StaleLeaseError
from wahub.domain.ids import InstanceId
from wahub.domain.lease import Lease
from wahub.ports.store import Database, Tx

EXPIRED = -1.0
"""As a term: over before it began, on any clock."""


async def test_one_holder_at_a_time(store: Database) -> None:
    lease = await claim_lease(store)
    assert lease == Lease(SHOP, WORKER, 1)
    assert await store.write(lambda tx: tx.leases.claim(SHOP, OTHER_WORKER, TTL)) is None
    await store.write(lambda tx: tx.fence(lease))


async def test_the_same_worker_gets_a_new_term(store: Database) -> None:
    first = await claim_lease(store)
    second = await claim_lease(store)
    assert second.epoch == first.epoch + 1
    await store.write(lambda tx: tx.fence(second))
    with pytest.raises(StaleLeaseError):
        await store.write(lambda tx: tx.fence(first))


async def test_a_term_that_ran_out_goes_to_whoever_asks(store: Database) -> None:
    old = await store.write(lambda tx: tx.leases.claim(SHOP, WORKER, EXPIRED))
    assert old is not None
    # Nobody took it yet, so its writes still harm nobody.
    await store.write(lambda tx: tx.fence(old))
    new = await claim_lease(store, OTHER_WORKER)
    assert new.epoch == old.epoch + 1
    with pytest.raises(StaleLeaseError):
        await store.write(lambda tx: tx.fence(old))


async def test_a_stale_holder_writes_nothing(store: Database) -> None:
    await add_instance(store)
    old = await store.write(lambda tx: tx.leases.claim(SHOP, WORKER, EXPIRED))
    assert old is not None
    await claim_lease(store, OTHER_WORKER)

    def work(tx: Tx) -> None:
        tx.outbox.add(make_entry(1))
        tx.fence(old)

    with pytest.raises(StaleLeaseError):
        await store.write(work)
    assert await store.read(lambda tx: tx.line.depth(SHOP)) == 0


async def test_release_gives_it_up_and_keeps_the_epoch(store: Database) -> None:
    lease = await claim_lease(store)
    await store.write(lambda tx: tx.leases.release(lease))
    await store.write(lambda tx: tx.leases.release(lease))
    with pytest.raises(StaleLeaseError):
        await store.write(lambda tx: tx.fence(lease))
    again = await claim_lease(store, OTHER_WORKER)
    assert again.epoch == lease.epoch + 1
    # Releasing what is no longer ours leaves the new holder alone.
    await store.write(lambda tx: tx.leases.release(lease))
    await store.write(lambda tx: tx.fence(again))


async def test_renew_tells_which_terms_are_still_ours(store: Database) -> None:
    def claim(tx: Tx, name: str, worker: str, ttl: float) -> Lease:
        lease = tx.leases.claim(InstanceId(name), worker, ttl)  # type: ignore[arg-type]
        assert lease is not None
        return lease

    kept = await store.write(lambda tx: claim(tx, "kept", WORKER, EXPIRED))
    lost = await store.write(lambda tx: claim(tx, "lost", WORKER, EXPIRED))
    await store.write(lambda tx: claim(tx, "lost", OTHER_WORKER, TTL))
    old = await store.write(lambda tx: claim(tx, "renewed-term", WORKER, TTL))
    await store.write(lambda tx: claim(tx, "renewed-term", WORKER, TTL))
    many = [kept, lost, old, *(Lease(InstanceId(f"none-{n}"), WORKER, 1) for n in range(900))]
    assert await store.write(lambda tx: tx.leases.renew(WORKER, many, TTL)) == {"kept"}
    # It really was lengthened: nobody else gets it now.
    assert await store.write(lambda tx: tx.leases.claim(InstanceId("kept"), OTHER_WORKER, TTL)) is None
    assert await store.write(lambda tx: tx.leases.renew(WORKER, [], TTL)) == frozenset()


async def test_epochs_go_on_after_the_instance_is_deleted(store: Database) -> None:
    await add_instance(store)
    lease = await claim_lease(store)
    await store.write(lambda tx: tx.instances.delete(SHOP))
    with pytest.raises(StaleLeaseError):
        await store.write(lambda tx: tx.fence(lease))
    await add_instance(store)
    assert (await claim_lease(store)).epoch == lease.epoch + 1


async def test_fence_needs_the_worker_too(store: Database) -> None:
    lease = await claim_lease(store)
    for stale in (
        replace(lease, worker=OTHER_WORKER),
        replace(lease, epoch=2),
        replace(lease, instance=InstanceId("x")),
    ):
        with pytest.raises(StaleLeaseError):
            await store.write(lambda tx, stale=stale: tx.fence(stale))  # type: ignore[misc]


async def test_a_takeover_waits_for_an_open_fenced_transaction(store: Database) -> None:
    """The holder's transaction is open when the term is taken: it commits first, and only then the new term begins."""
    await add_instance(store)
    old = await store.write(lambda tx: tx.leases.claim(SHOP, WORKER, EXPIRED))
    assert old is not None
    fenced, gate = threading.Event(), threading.Event()
    order: list[str] = []

    def settle(tx: Tx) -> None:
        tx.fence(old)
        fenced.set()
        assert gate.wait(10)
        tx.outbox.add(make_entry(1))
        order.append("old holder")

    def take(tx: Tx) -> Lease | None:
        lease = tx.leases.claim(SHOP, OTHER_WORKER, TTL)
        order.append("new holder")
        return lease

    holder = asyncio.create_task(store.write(settle))
    await asyncio.to_thread(fenced.wait, 10)
    taker = asyncio.create_task(store.write(take))
    done, _ = await asyncio.wait([taker], timeout=0.3)
    assert not done, "the takeover must wait"
    gate.set()
    await holder
    new = await taker
    assert new is not None
    assert new.epoch == old.epoch + 1
    assert order == ["old holder", "new holder"]
    with pytest.raises(StaleLeaseError):
        await store.write(lambda tx: tx.fence(old))


async def test_a_fence_that_meets_a_takeover_is_refused(store: Database) -> None:
    """The takeover has not committed yet when the old holder asks: the fence waits and then sees the new term."""
    old = await store.write(lambda tx: tx.leases.claim(SHOP, WORKER, EXPIRED))
    assert old is not None
    taken, gate = threading.Event(), threading.Event()

    def take(tx: Tx) -> None:
        assert tx.leases.claim(SHOP, OTHER_WORKER, TTL) is not None
        taken.set()
        assert gate.wait(10)

    taker = asyncio.create_task(store.write(take))
    await asyncio.to_thread(taken.wait, 10)
    fencing = asyncio.create_task(store.write(lambda tx: tx.fence(old)))
    done, _ = await asyncio.wait([fencing], timeout=0.3)
    assert not done, "the fence must wait"
    gate.set()
    await taker
    with pytest.raises(StaleLeaseError):
        await fencing


async def test_of_many_that_ask_at_once_one_gets_it(store: Database) -> None:
    await store.write(lambda tx: tx.leases.claim(SHOP, WORKER, EXPIRED))
    asked = [store.write(lambda tx, n=n: tx.leases.claim(SHOP, f"worker-{n}", TTL)) for n in range(12)]  # type: ignore[misc, arg-type]
    got = [lease for lease in await asyncio.gather(*asked) if lease is not None]
    assert len(got) == 1
    assert got[0].epoch == 2


async def test_postgres_measures_terms_by_its_own_clock(shared_postgres_url: str, clock: HandClock) -> None:
    store = open_database(shared_postgres_url, clock)
    await claim_lease(store)
    clock.at += 10 * TTL
    assert await store.write(lambda tx: tx.leases.claim(SHOP, OTHER_WORKER, TTL)) is None
    await store.write(lambda tx: tx.instances.add(make_instance()))
    await store.close()
