"""Transactions per second of the store alone: `python -m bench.store [DATABASE_URL] [--busy]`.

Each line is one kind of transaction as the services run it, with one caller that waits for each commit and with 32 at
once (which on SQLite share commits). `--busy` keeps the event loop at work all the time, in pieces of 0.2 ms: then the
store's threads have to win the interpreter from it for every statement. CPU time is that of the whole process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvloop
from tests.contract.makers import START, WORKER, HandClock, make_entry, make_instance, make_received

from wahub.adapters.sql.database import open_database
from wahub.domain.ids import InstanceId
from wahub.domain.instance import Config
from wahub.domain.lease import Lease
from wahub.domain.outbox import ItemState, claim, settle
from wahub.domain.session import KeyChanges, KeyName
from wahub.ports.store import Database, KeyRecord, Tx
from wahub.services import inbox

INSTANCES = 10
PIECE_S = 0.0002
_SESSION = os.urandom(700)
_HOOK = "http://127.0.0.1:9/hook"


@dataclass
class Bench:
    """Numbered transactions over a few instances."""

    leases: list[Lease]
    offset: int

    def accept(self, tx: Tx, number: int) -> None:
        instance = self.leases[number % INSTANCES].instance
        tx.instances.get(instance, for_update=True)
        tx.keys.get(instance, f"key-{self.offset + number}")
        tx.line.depth(instance)
        joined_at = max(START, tx.line.last_joined_at(instance))
        entry = make_entry(self.offset + number, str(1000 + number % 50), instance, joined_at=joined_at)
        entry = tx.outbox.add(entry.noted(START, "accepted"))
        tx.keys.put(instance, KeyRecord(entry.key, entry.id, START))

    def claim(self, tx: Tx, number: int) -> None:
        """Claim and settle in one, so that any number may run at once."""
        lease = self.leases[number % INSTANCES]
        tx.fence(lease)
        tx.instances.get(lease.instance)
        entry = tx.line.next_due(lease.instance, START)
        assert entry is not None
        claimed = claim(entry, lease.epoch, START)
        tx.outbox.save(claimed)
        tx.outbox.get(lease.instance, entry.id)
        tx.outbox.save(settle(claimed, ItemState.SENT, START))

    def ingest(self, tx: Tx, number: int) -> None:
        """A received message of an instance with a webhook."""
        self._ingest(tx, self.leases[INSTANCES + number % INSTANCES], number)

    def ingest_unheard(self, tx: Tx, number: int) -> None:
        """A received message of an instance without one."""
        self._ingest(tx, self.leases[number % INSTANCES], number)

    def _ingest(self, tx: Tx, lease: Lease, number: int) -> None:
        name = f"{lease.instance}-{self.offset + number}"
        received = make_received(name, instance=lease.instance, chat=f"{1000 + number % 50}@s.whatsapp.net")
        inbox.ingest(tx, lease, received, START, name)

    def write_session(self, tx: Tx, number: int) -> None:
        lease = self.leases[number % INSTANCES]
        tx.fence(lease)
        tx.sessions.write(lease.instance, KeyChanges({KeyName("session", str(number % 60)): _SESSION}))

    def read_session(self, tx: Tx, number: int) -> None:
        tx.sessions.read(self.leases[number % INSTANCES].instance, [KeyName("session", "1")])


async def measure(url: str, busy: bool, count: int) -> None:
    store = open_database(url, HandClock())
    names = [(f"bench-{n}", None) for n in range(INSTANCES)] + [(f"heard-{n}", _HOOK) for n in range(INSTANCES)]
    leases = [await store.write(partial(_prepare, name=name, url=hook)) for name, hook in names]
    hog = asyncio.create_task(_keep_busy()) if busy else None
    for at_once in (1, 32):
        bench = Bench(leases, at_once * 1_000_000)
        for name in ("accept", "claim", "ingest", "ingest_unheard", "write_session", "read_session"):
            work = getattr(bench, name)
            await _timed(store, name, work, at_once, count)
    if hog is not None:
        hog.cancel()
    await store.close()


def _prepare(tx: Tx, name: str, url: str | None) -> Lease:
    tx.instances.add(make_instance(name, config=Config(name, url)))
    lease = tx.leases.claim(InstanceId(name), WORKER, 3600.0)
    assert lease is not None
    return lease


async def _keep_busy() -> None:
    while True:
        until = time.perf_counter() + PIECE_S
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0)


async def _timed(store: Database, name: str, work: Callable[[Tx, int], None], at_once: int, count: int) -> None:
    run = store.read if name.startswith("read") else store.write

    async def caller(first: int) -> None:
        for number in range(first, count, at_once):
            await run(lambda tx: work(tx, number))  # noqa: B023  awaited before the next round

    cpu, started = time.process_time(), time.perf_counter()
    await asyncio.gather(*(caller(first) for first in range(at_once)))
    elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
    print(
        f"{name:14} {at_once:3} at once  {count / elapsed:8.0f} tx/s  {cpu / count * 1e6:6.0f} us CPU each", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", help="an empty database; a temporary SQLite file if left out")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--count", type=int, default=3000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        url = chosen.url or f"sqlite:///{Path(directory) / 'bench.db'}"
        uvloop.run(measure(url, chosen.busy, chosen.count))


if __name__ == "__main__":
    main()
