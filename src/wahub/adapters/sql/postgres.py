"""The store on PostgreSQL, for any number of workers.

Each write is a transaction of its own in a small pool of threads, READ COMMITTED: whoever decides on a row locks it
first (FOR UPDATE, and FOR SHARE for the lease). The server tells the loser of a deadlock, and the function is run
again; so it is when the connection broke before the commit was sent. If it breaks during the commit, nobody knows
whether it counted, and the caller is told so: fenced, idempotent functions may simply be called again.

A worker that freezes inside a transaction would hold its locks for ever, so the server ends transactions that idle.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from wahub.adapters.sql import migrate
from wahub.adapters.sql.codec import Codec
from wahub.adapters.sql.failure import StoreFailedError, is_conflict, values_hidden, without_values
from wahub.adapters.sql.runner import Runner
from wahub.adapters.sql.transaction import SqlTx
from wahub.ports.clock import Clock
from wahub.ports.store import Tx

T = TypeVar("T")

_THREADS: Final = 6
_MAX_RUNS: Final = 6
_PAUSE_S: Final = 0.01
"""Before the second run; doubled before each further one."""
_SETTINGS: Final = (
    "SET idle_in_transaction_session_timeout = '10s'",
    "SET lock_timeout = '20s'",
    "SET application_name = 'wahub'",
)


class PostgresDatabase:
    """ports.store.Database on a server. Use `open_database`. Opening applies migrations and blocks while it does."""

    def __init__(self, parsed: sa.URL, clock: Clock, *, codec: Codec | None = None) -> None:
        self._clock = clock
        self._codec = codec or Codec()
        self._closed: asyncio.Future[None] | None = None
        self._engine = make_engine(parsed)
        # One consistent snapshot for all of a read.
        self._snapshots = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        try:
            with values_hidden():
                migrate.upgrade(self._engine)
        except BaseException:
            self._engine.dispose()
            raise
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="store")

    async def write(self, work: Callable[[Tx], T]) -> T:
        return await self._hand_over(self._run, self._engine, work, True)

    async def read(self, work: Callable[[Tx], T]) -> T:
        return await self._hand_over(self._run, self._snapshots, work, False)

    async def close(self) -> None:
        if self._closed is None:
            self._closed = asyncio.ensure_future(asyncio.to_thread(self._shut_down))
        await asyncio.shield(self._closed)

    async def _hand_over(self, call: Callable[..., T], *arguments: Any) -> T:
        if self._closed is not None:
            raise StoreFailedError("the store is closed")
        running = asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)
        # A cancelled caller must not cancel what waits for a thread, and nobody may then ask for its error.
        running.add_done_callback(lambda future: future.cancelled() or future.exception())
        return await asyncio.shield(running)

    def _shut_down(self) -> None:
        self._threads.shutdown(wait=True)
        self._engine.dispose()

    def _run(self, engine: sa.Engine, work: Callable[[Tx], T], writable: bool) -> T:
        """Run until it commits, fails for good, or lost too often."""
        for run in range(1, _MAX_RUNS + 1):
            if run > 1:
                time.sleep(_PAUSE_S * 2 ** (run - 2))
            try:
                return self._run_once(engine, work, writable)
            except DBAPIError as error:
                again = run < _MAX_RUNS and (is_conflict(error) or error.connection_invalidated)
                failure = without_values(error)
            if not again:
                raise failure
        raise AssertionError("unreachable")

    def _run_once(self, engine: sa.Engine, work: Callable[[Tx], T], writable: bool) -> T:
        with engine.connect() as connection:
            tx = SqlTx(Runner(connection, self._clock, self._codec, writable=writable))
            try:
                # Leaving the `with` without a commit rolls back.
                result = work(tx)
            except StopIteration as error:
                raise without_values(error) from None
            finally:
                tx.end()
            try:
                connection.commit()
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            else:
                return result
        raise StoreFailedError("the connection broke during the commit: it is not known whether it counted")


def make_engine(parsed: sa.URL) -> sa.Engine:
    """An engine with as many connections as threads."""
    engine = sa.create_engine(
        parsed,
        pool_size=_THREADS,
        max_overflow=0,
        isolation_level="READ COMMITTED",
        # Error texts would quote the values otherwise.
        hide_parameters=True,
        connect_args={"connect_timeout": 10},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: psycopg.Connection[Any], _record: object) -> None:
        connection.autocommit = True
        for setting in _SETTINGS:
            connection.execute(setting.encode())
        connection.autocommit = False

    return engine
