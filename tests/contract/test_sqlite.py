"""What only SQLite has: kill -9 beside a file, group commit, and the plans of hot questions."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.contract.makers import OTHER_WORKER, SHOP, TTL, HandClock, add_instance, claim_lease, make_instance
from tests.contract.plans import plan_of

from wahub.adapters.sql import dead, endpoint, inbox, lifecycle, line, outbox, sqlite, tally, webhook
from wahub.adapters.sql import event as event_log
from wahub.adapters.sql.database import open_database
from wahub.adapters.sql.failure import StoreFailedError
from wahub.ports.store import Database, Tx


@pytest.fixture
async def store(sqlite_url: str, clock: HandClock) -> AsyncIterator[Database]:
    database = open_database(sqlite_url, clock)
    yield database
    await database.close()


_WRITES_AND_SAYS_SO = """
import asyncio, sys
from tests.contract.makers import HandClock, make_instance
from wahub.adapters.sql.database import open_database

async def main():
    store = open_database(sys.argv[1], HandClock())
    async def add(number):
        await store.write(lambda tx: tx.instances.add(make_instance(f"i{number}")))
        print(f"i{number}", flush=True)
    number = 0
    while True:
        await asyncio.gather(*(add(number + step) for step in range(8)))
        number += 8

asyncio.run(main())
"""


def test_what_write_returned_survives_kill_9(sqlite_url: str, clock: HandClock) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", _WRITES_AND_SAYS_SO, sqlite_url],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"},
    ) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline().strip() for _ in range(100)]
        writer.send_signal(signal.SIGKILL)
        said += writer.stdout.read().split("\n")[:-1]
    assert writer.returncode == -signal.SIGKILL

    async def look() -> set[str]:
        store = open_database(sqlite_url, clock)
        found = await store.read(lambda tx: {instance.id for instance in tx.instances.list()})
        await store.close()
        return {str(name) for name in found}

    assert set(said) <= asyncio.run(look())


async def test_functions_that_wait_together_share_a_commit(sqlite_url: str, clock: HandClock) -> None:
    database = open_database(sqlite_url, clock)
    assert isinstance(database, sqlite.SqliteDatabase)
    statements: list[str] = []
    driver = database._connections[0]._driver
    await database.write(lambda tx: driver.set_trace_callback(statements.append))
    statements.clear()
    entered, gate = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        entered.set()
        assert gate.wait(10)

    holder = asyncio.create_task(database.write(hold))
    await asyncio.to_thread(entered.wait, 10)
    tasks = [asyncio.create_task(add_instance(database, f"i{number}")) for number in range(50)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(holder, *tasks)
    await database.close()
    # One of the holder, one of the fifty.
    assert statements.count("COMMIT") == 2


async def test_a_commit_that_fails_is_told_to_all(sqlite_url: str, clock: HandClock) -> None:
    database = open_database(sqlite_url, clock)
    assert isinstance(database, sqlite.SqliteDatabase)
    connection = database._connections[0]
    execute = connection.execute

    def fail_to_commit(sql: str) -> None:
        if sql == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        execute(sql)

    connection.execute = fail_to_commit  # type: ignore[method-assign]
    results = await asyncio.gather(*(add_instance(database, f"i{n}") for n in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [StoreFailedError] * 5
    connection.execute = execute  # type: ignore[method-assign]
    await add_instance(database, "later")
    assert [found.id for found in await database.read(lambda tx: tx.instances.list())] == ["later"]
    await database.close()


async def test_an_error_that_rolls_everything_back_is_told_to_all(sqlite_url: str, clock: HandClock) -> None:
    """As SQLite does by itself when the disk is full."""
    database = open_database(sqlite_url, clock)
    assert isinstance(database, sqlite.SqliteDatabase)
    driver = database._connections[0]._driver
    entered, gate = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        entered.set()
        assert gate.wait(10)

    def lose_all(tx: Tx) -> None:
        driver.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    holder = asyncio.create_task(database.write(hold))
    await asyncio.to_thread(entered.wait, 10)
    group = [
        asyncio.create_task(add_instance(database, "before")),
        asyncio.create_task(database.write(lose_all)),
        asyncio.create_task(add_instance(database, "after")),
    ]
    await asyncio.sleep(0)
    gate.set()
    await holder
    results = await asyncio.gather(*group, return_exceptions=True)
    assert [type(result) for result in results] == [StoreFailedError] * 3
    await add_instance(database, "later")
    assert [found.id for found in await database.read(lambda tx: tx.instances.list())] == ["later"]
    await database.close()


@pytest.mark.parametrize(("asked", "stored"), [("NORMAL", 1), ("FULL", 2)])
async def test_settings_of_the_connection(sqlite_url: str, clock: HandClock, asked: str, stored: int) -> None:
    database = open_database(sqlite_url, clock, synchronous=asked)  # type: ignore[arg-type]
    assert isinstance(database, sqlite.SqliteDatabase)
    driver = database._connections[0]._driver

    def pragmas(tx: Tx) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return [driver.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await database.write(pragmas) == ["wal", stored, 1, 5000]
    await database.close()


async def test_a_reader_does_not_wait_for_the_writer(store: Database) -> None:
    entered, gate = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        tx.instances.add(make_instance())
        entered.set()
        assert gate.wait(10)

    holder = asyncio.create_task(store.write(hold))
    await asyncio.to_thread(entered.wait, 10)
    assert await store.read(lambda tx: tx.instances.list()) == []
    gate.set()
    await holder
    assert len(await store.read(lambda tx: tx.instances.list())) == 1


async def test_terms_are_measured_by_the_clock_that_was_given(store: Database, clock: HandClock) -> None:
    await claim_lease(store)
    clock.at += TTL - 0.1
    assert await store.write(lambda tx: tx.leases.claim(SHOP, OTHER_WORKER, TTL)) is None
    clock.at += 0.1
    assert await store.write(lambda tx: tx.leases.claim(SHOP, OTHER_WORKER, TTL)) is not None


# --- cost does not grow with what is settled --------------------------------------------------------------------------


_LINE = ["ix_outbox_line ", "ix_outbox_line_of_chat "]


@pytest.mark.parametrize(
    ("statement", "indexes"),
    [
        (line._NEXT_POSITION, _LINE),
        (line._NEXT_AT, _LINE),
        (line._LAST_JOINED, ["ix_outbox_line "]),
        (line._DEPTH, ["ix_outbox_line "]),
        (line._DEPTHS, ["ix_outbox_line"]),
        (line._OPEN_ONES.reading, ["ix_outbox_line "]),
        (line._GIVEN_UP.reading, ["ix_outbox_unknown "]),
        (line._IN_DOUBT.reading, ["ix_outbox_unknown "]),
        (line._SENDING.reading, ["uq_outbox_one_sending "]),
        (outbox._EXPIRED.reading, ["ix_outbox_expires "]),
        (
            tally._COUNTERS,
            ["ix_outbox_sent ", "ix_outbox_sent_to ", "ix_outbox_failed ", "ix_disconnects_instance_at "],
        ),
        (webhook._DUE["sqlite"], ["ix_deliveries_lane"]),
        (webhook._NEXT_AT, ["ix_deliveries_lane"]),
        (webhook._LAST_ATTEMPT, ["ix_deliveries_attempted "]),
        (webhook._SUPERSEDE, ["ix_events_secret "]),
        (endpoint._TOOK, ["ix_deliveries_attempted "]),
        (endpoint._WAKE, ["ix_deliveries_lane "]),
        (dead._LIST, ["ix_deliveries_dead "]),
        (dead._COUNT, ["ix_deliveries_dead "]),
        (dead._COUNT_ALL, ["ix_deliveries_dead"]),
        (dead._REVIVE_ALL, ["ix_deliveries_dead "]),
        (event_log._DEAD_SECRETS, ["ix_events_secret"]),
        (event_log._SECRETS_OF, ["ix_events_secret "]),
        (inbox._LAST_RECEIVED, ["ix_inbox_instance_received_at "]),
        (lifecycle._ASKED, ["ix_lifecycles_asked"]),
        (lifecycle._INCIDENTS, ["ix_incidents_instance_position "]),
        (lifecycle._FORGET, ["ix_incidents_instance_position "]),
    ],
    ids=[
        *(
            "next_due",
            "next_attempt_at",
            "last_joined_at",
            "depth",
            "depths",
            "open",
            "given up",
            "in doubt",
            "sending",
            "expired",
            "counters",
        ),
        *(
            "webhooks due",
            "webhooks next",
            "last attempt",
            "supersede",
            "took since",
            "wake",
            "dead letters",
            "dead count",
            "all dead",
        ),
        *("revive", "dead secrets", "secrets of", "last received", "asked", "incidents", "forget incidents"),
    ],
)
def test_hot_questions_use_the_small_indexes(sqlite_url: str, statement: sa.Executable, indexes: list[str]) -> None:
    values = {
        name: SHOP if name in ("instance", "of", "url", "at") else 10
        for name in statement.compile().params
        if "param" not in name
    }
    plan = plan_of(sqlite_url, statement, values)
    for index in indexes:
        assert index in plan, plan
    for table in ("outbox", "waiting", "before", "earlier", "deliveries", "events", "inbox", "incidents", "lifecycles"):
        assert f"SCAN {table}\n" not in f"{plan}\n", plan
    # The keys of two small tables, by which rows of a delivery's endpoint are looked up, have no name of their own.
    assert "autoindex" not in plan.replace("sqlite_autoindex_webhook_", ""), plan


@pytest.mark.parametrize(
    "statement",
    [webhook._LAST_ATTEMPT, lifecycle._INCIDENTS, lifecycle._FORGET],
    ids=["last attempt", "incidents", "forget incidents"],
)
def test_the_latest_is_found_without_sorting(sqlite_url: str, statement: sa.Executable) -> None:
    values: dict[str, object] = {"instance": SHOP, "of": SHOP, "at_most": 10}
    asked = statement.compile().params
    plan = plan_of(sqlite_url, statement, {name: value for name, value in values.items() if name in asked})
    assert "SEARCH" in plan
    assert "TEMP B-TREE" not in plan, plan
