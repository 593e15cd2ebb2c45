"""The store on SQLite, for one worker.

One thread owns the only connection that writes. It takes everything that waits, runs each function inside one
transaction, commits once, and only then answers all of them (group commit). A function that raises takes back its own
part only: if it had written, all are run again, each inside its own savepoint. If the commit fails, all of them get
that error. Reads have connections of their own and see the last commit, so they wait for no writer.

Promised: what `write` returned is in the file. With `synchronous=NORMAL` (the default) it survives the death of any
process at any instruction; when the machine itself loses power the last commits may be missing, but the file is
never corrupt. With `FULL` each commit also waits for the disk. Not promised: more than one worker; a lock beside
the file sees to that.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from wahub.adapters.sql import migrate, url
from wahub.adapters.sql.codec import Codec
from wahub.adapters.sql.failure import StoreFailedError, values_hidden, without_values
from wahub.adapters.sql.lease import END_ALL_TERMS
from wahub.adapters.sql.lock import StoreLock
from wahub.adapters.sql.runner import Runner
from wahub.adapters.sql.transaction import SqlTx
from wahub.ports.clock import Clock
from wahub.ports.store import Tx

T = TypeVar("T")
Synchronous = Literal["NORMAL", "FULL"]

_MAX_GROUP: Final = 128
"""Functions per commit: bounds what the first of a group waits for the last."""
_READERS: Final = 2
_BUSY_MS: Final = 5_000
"""Only foreign tools (a backup, a shell) can hold the file against us."""


@dataclass(slots=True)
class _Job:
    """A function that waits, and where its result goes."""

    work: Callable[[Tx], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class _Connection:
    """A connection whose transactions are ours: SQLAlchemy and sqlite3 start and end none by themselves."""

    def __init__(self, engine: sa.Engine, clock: Clock, codec: Codec, *, writable: bool) -> None:
        self._sa = engine.connect()
        self._driver = cast(sqlite3.Connection, self._sa.connection.driver_connection)
        self._clock = clock
        self._codec = codec
        self._writable = writable
        if not writable:
            self.execute("PRAGMA query_only=ON")

    @property
    def in_transaction(self) -> bool:
        return self._driver.in_transaction

    @property
    def rows_written(self) -> int:
        """Rows inserted, changed or deleted since it was opened, also by those who were rolled back."""
        return self._driver.total_changes

    def execute(self, sql: str) -> None:
        self._driver.execute(sql)

    def call(self, work: Callable[[Tx], T]) -> T:
        """Run a function inside the transaction that is open."""
        tx = SqlTx(Runner(self._sa, self._clock, self._codec, writable=self._writable, driver=self._driver))
        try:
            return work(tx)
        finally:
            tx.end()

    def rollback(self) -> None:
        # SQLite has already rolled back by itself after some errors (disk full, I/O).
        if self._driver.in_transaction:
            self._driver.execute("ROLLBACK")

    def close(self) -> None:
        self._sa.close()


class _Desk(Protocol):
    """What a thread does with the jobs it took; it never raises."""

    def __call__(self, jobs: Sequence[_Job]) -> None: ...


class SqliteDatabase:
    """ports.store.Database on a file. Use `open_database`.

    Opening takes the store's lock (StoreBusyError), applies migrations and starts the threads; it blocks for some
    100 ms.
    """

    def __init__(
        self, parsed: sa.URL, clock: Clock, *, synchronous: Synchronous = "NORMAL", codec: Codec | None = None
    ) -> None:
        self._closed: asyncio.Future[None] | None = None
        self._file = url.sqlite_file(parsed)
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = StoreLock(self._file)
        self._connections: list[_Connection] = []
        try:
            with values_hidden():
                _make_private(self._file)
                self._engine = make_engine(parsed, synchronous)
                migrate.upgrade(self._engine)
                _end_terms_of_the_dead(self._engine)
                for number in range(1 + _READERS):
                    opened = _Connection(self._engine, clock, codec or Codec(), writable=number == 0)
                    self._connections.append(opened)
        except BaseException:
            self._let_go()
            raise
        self._writes: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        writer, *readers = self._connections
        self._threads = [_serve("store-writer", self._writes, _MAX_GROUP, lambda jobs: _commit_together(writer, jobs))]
        for reader in readers:
            # One job at a time, so that the other reader gets its share.
            self._threads.append(_serve("store-reader", self._reads, 1, _snapshot_of(reader)))

    async def write(self, work: Callable[[Tx], T]) -> T:
        return await self._hand_over(self._writes, work)

    async def read(self, work: Callable[[Tx], T]) -> T:
        return await self._hand_over(self._reads, work)

    async def close(self) -> None:
        if self._closed is None:
            self._closed = asyncio.ensure_future(asyncio.to_thread(self._shut_down))
        await asyncio.shield(self._closed)

    async def _hand_over(self, jobs: queue.SimpleQueue[_Job | None], work: Callable[[Tx], T]) -> T:
        if self._closed is not None:
            raise StoreFailedError("the store is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        jobs.put(_Job(work, loop, future))
        # A cancelled caller cancels this future only; the job runs all the same.
        return await future

    def _shut_down(self) -> None:
        self._writes.put(None)
        for _ in range(_READERS):
            self._reads.put(None)
        for thread in self._threads:
            thread.join()
        self._let_go()

    def _let_go(self) -> None:
        for connection in self._connections:
            connection.close()
        self._lock.release()


def _end_terms_of_the_dead(engine: sa.Engine) -> None:
    """Whoever held leases in this file is dead, for we hold its lock; after a kill nobody should wait for their end."""
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.execute(END_ALL_TERMS)
        connection.exec_driver_sql("COMMIT")


def make_engine(parsed: sa.URL, synchronous: Synchronous = "NORMAL") -> sa.Engine:
    """An engine on the file. Nothing begins a transaction on it by itself: whoever wants one says BEGIN."""
    engine = sa.create_engine(
        parsed,
        poolclass=NullPool,
        # Error texts would quote the values otherwise.
        hide_parameters=True,
        connect_args={"check_same_thread": False, "timeout": _BUSY_MS / 1000, "cached_statements": 256},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            f"synchronous={synchronous}",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "cache_size=-8192",
            "journal_size_limit=67108864",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    return engine


def _make_private(file: Any) -> None:
    """Mode 0600 before the first byte; SQLite gives its -wal and -shm files the mode of the database."""
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    file.chmod(0o600)


# --- threads --------------------------------------------------------------------------------------------------------


def _serve(name: str, jobs: queue.SimpleQueue[_Job | None], at_once: int, desk: _Desk) -> threading.Thread:
    """Start a thread that takes up to `at_once` jobs, has them done and answers, until it takes None."""

    def run() -> None:
        open_for_work = True
        while open_for_work:
            taken = _take(jobs, at_once)
            open_for_work = None not in taken
            group = [job for job in taken if job is not None]
            if group:
                desk(group)
                _answer(group)

    # A daemon: if the loop is gone without `close()`, ending between two commits is as good as any other death.
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def _take(jobs: queue.SimpleQueue[_Job | None], at_once: int) -> list[_Job | None]:
    """Wait for a job, then take along what else is there; None is always the last one taken."""
    taken = [jobs.get()]
    while taken[-1] is not None and len(taken) < at_once:
        try:
            taken.append(jobs.get_nowait())
        except queue.Empty:
            break
    return taken


def _commit_together(connection: _Connection, jobs: Sequence[_Job]) -> None:
    """Run all in one transaction. Whatever happens, every job ends with a result or an error."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        if not _run_plainly(connection, jobs):
            connection.rollback()
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                job.result = job.error = None
                if not _in_savepoint(connection, job):
                    raise StoreFailedError("the error of another function rolled back the transaction")
        connection.execute("COMMIT")
    except BaseException as error:  # noqa: BLE001  the thread must live, and the caller gets it
        _roll_back(connection)
        lost = without_values(error)
        for job in jobs:
            # Those not begun are not run on their own: after such an error the next group finds out whether it lasts.
            job.error = job.error or lost


def _run_plainly(connection: _Connection, jobs: Sequence[_Job]) -> bool:
    """Run all jobs without savepoints, which cost two statements each; False if that will not do.

    Few fail, and most of those refuse before they write, so there is nothing to take back. After any other failure all
    are to be run again, which functions of transactions allow (docs/adr/0006).
    """
    for job in jobs:
        written = connection.rows_written
        try:
            job.result = connection.call(job.work)
        except BaseException as error:
            if len(jobs) == 1:
                raise
            job.error = without_values(error)
            if connection.rows_written != written or not connection.in_transaction:
                return False
    return True


def _in_savepoint(connection: _Connection, job: _Job) -> bool:
    """Run one job of a group; False if its error took the whole transaction with it."""
    connection.execute("SAVEPOINT job")
    try:
        job.result = connection.call(job.work)
    except BaseException as error:  # noqa: BLE001  it belongs to this job's caller
        job.error = without_values(error)
        if not connection.in_transaction:
            return False
        connection.execute("ROLLBACK TO job")
    connection.execute("RELEASE job")
    return True


def _snapshot_of(connection: _Connection) -> _Desk:
    def read(jobs: Sequence[_Job]) -> None:
        for job in jobs:
            try:
                connection.execute("BEGIN")
                job.result = connection.call(job.work)
            except BaseException as error:  # noqa: BLE001  the thread must live, and the caller gets it
                job.error = without_values(error)
            _roll_back(connection)

    return read


def _roll_back(connection: _Connection) -> None:
    try:
        connection.rollback()
    except sqlite3.Error:
        # The next BEGIN will say what is wrong.
        return


def _answer(jobs: Sequence[_Job]) -> None:
    """Hand all results to the loop in one go."""
    try:
        jobs[0].loop.call_soon_threadsafe(_resolve, jobs)
    except RuntimeError:
        # The loop is closed: nobody waits any more.
        return


def _resolve(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
