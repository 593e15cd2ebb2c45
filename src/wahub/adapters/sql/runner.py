"""Runs statements of one transaction for the topic files, and knows what differs between the two databases.

Statements are built once, at import. On SQLite they run prepared (prepared.py), on PostgreSQL through SQLAlchemy, whose
own cost of about 20 µs is small beside the round trip.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from wahub.adapters.sql.codec import Codec
from wahub.adapters.sql.failure import StoreFailedError, instance_of, refused
from wahub.adapters.sql.prepared import Rows, prepared
from wahub.ports.clock import Clock

S = TypeVar("S")
ByDialect = Mapping[str, S]
"""One statement per dialect name."""

INSERT: ByDialect[Callable[[sa.Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""Both have the same ON CONFLICT methods, but no common type."""


def for_both(build: Callable[[Callable[[sa.Table], Any]], S]) -> ByDialect[S]:
    """Build a statement that needs ON CONFLICT once per database."""
    return {dialect: build(insert) for dialect, insert in INSERT.items()}


class Runner:
    """The open transaction. `end()` makes it and everything that holds it unusable."""

    __slots__ = ("_connection", "_driver", "clock", "codec", "dialect", "writable")

    def __init__(
        self,
        connection: sa.Connection,
        clock: Clock,
        codec: Codec,
        *,
        writable: bool,
        driver: sqlite3.Connection | None = None,
    ) -> None:
        """`driver` is what SQLite's connection runs on."""
        self._connection: sa.Connection | None = connection
        self._driver = driver
        self.dialect = connection.dialect.name
        self.clock = clock
        self.codec = codec
        self.writable = writable

    def end(self) -> None:
        self._connection = None

    def run(self, statement: sa.Executable, values: Mapping[str, Any]) -> sa.CursorResult[Any] | Rows:
        """Execute; a broken rule comes back as the domain's error, without values."""
        connection = self._open()
        quick = None if self._driver is None else prepared(statement, connection.dialect)
        try:
            if quick is not None and self._driver is not None:
                return quick.run(self._driver, values)
            return connection.execute(statement, values)
        except IntegrityError as error:
            failure = refused(error, _table(statement), instance_of(values))
        except sqlite3.IntegrityError as error:
            failure = refused(IntegrityError(None, None, error), _table(statement), instance_of(values))
        # Raised outside, so that the driver's error, which quotes the row, is not even its context.
        raise failure

    def run_many(self, statement: sa.Executable, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute once per row; there must be at least one."""
        connection = self._open()
        quick = None if self._driver is None else prepared(statement, connection.dialect)
        try:
            if quick is not None and self._driver is not None:
                quick.run_many(self._driver, rows)
            else:
                connection.execute(statement, rows)
            return
        except IntegrityError as error:
            failure = refused(error, _table(statement), instance_of(rows[0]))
        except sqlite3.IntegrityError as error:
            failure = refused(IntegrityError(None, None, error), _table(statement), instance_of(rows[0]))
        raise failure

    def insert_returning(self, statement: sa.Insert, rows: Sequence[Mapping[str, Any]]) -> sa.CursorResult[Any]:
        """Insert all rows by one statement, on PostgreSQL; what it returns is in no order but the statement's own."""
        connection = self._open()
        try:
            return connection.execute(statement, rows)
        except IntegrityError as error:
            failure = refused(error, _table(statement), instance_of(rows[0]))
        raise failure

    @property
    def may_wait_for_rows(self) -> bool:
        """Whether a question may wait for another transaction's lock on a row, and then find the row changed."""
        return self.writable and self.dialect == "postgresql"

    def needs_write(self) -> None:
        """StoreFailedError in a read: locks belong to writes."""
        if not self.writable:
            raise StoreFailedError("this needs a write transaction")

    def _open(self) -> sa.Connection:
        if self._connection is None:
            raise RuntimeError("the transaction is over: use tx only inside its function")
        return self._connection


def _table(statement: sa.Executable) -> str:
    return str(getattr(getattr(statement, "table", None), "name", "?"))


def locked(statement: sa.Select[Any]) -> sa.Select[Any]:
    """The same rows, kept from other writers until commit. SQLite's one writer needs no such words and gets none.

    The weaker of PostgreSQL's two row locks: inserting a row that refers to a locked one does not wait for it.
    """
    return statement.with_for_update(key_share=True)
