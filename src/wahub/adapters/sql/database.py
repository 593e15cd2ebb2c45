"""The way in: the store that DATABASE_URL names."""

from __future__ import annotations

import sys
from typing import Final, Literal

from wahub.adapters.sql import migrate as migrations
from wahub.adapters.sql import sqlite, url
from wahub.adapters.sql.codec import Codec
from wahub.adapters.sql.failure import values_hidden
from wahub.adapters.sql.lock import StoreLock
from wahub.ports.clock import Clock
from wahub.ports.store import Database

_SWITCH_INTERVAL_S: Final = 0.0005
"""How long a busy thread may keep the interpreter from another one that wants it (Python's default: 5 ms).

A store thread gives the interpreter away in every statement. Measured beside a loop that is never idle, accepting a
send took up to 150 ms with the default and 1 to 4 ms with this.
"""


def open_database(
    database_url: str,
    clock: Clock,
    *,
    synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
    codec: Codec | None = None,
) -> Database:
    """Open the store, bringing its schema up to date first. Blocks for some 100 ms: call it before traffic starts.

    `synchronous` is SQLite's setting (see sqlite.py); PostgreSQL has its own. Errors: ValueError (the URL; names
    the remedy), StoreBusyError (another worker has the SQLite file), StoreFailedError (unreachable, unwritable, or
    a newer schema).
    """
    parsed = url.parse(database_url)
    sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL_S))
    if parsed.get_backend_name() == "sqlite":
        return sqlite.SqliteDatabase(parsed, clock, synchronous=synchronous, codec=codec)
    # Not at the top: its driver costs 150 ms that a gateway on SQLite need not pay.
    from wahub.adapters.sql import postgres

    return postgres.PostgresDatabase(parsed, clock, codec=codec)


def migrate(database_url: str) -> None:
    """Only bring the schema up to date, as `open_database` does. Same errors."""
    parsed = url.parse(database_url)
    if parsed.get_backend_name() != "sqlite":
        from wahub.adapters.sql import postgres

        engine, lock = postgres.make_engine(parsed), None
    else:
        engine, lock = sqlite.make_engine(parsed), StoreLock(url.sqlite_file(parsed))
    try:
        with values_hidden():
            migrations.upgrade(engine)
    finally:
        engine.dispose()
        if lock is not None:
            lock.release()
