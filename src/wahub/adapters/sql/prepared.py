"""Statements on SQLite without SQLAlchemy's execution: compiled once, then handed to the driver.

SQLAlchemy's `Connection.execute` takes 14 to 27 µs of bookkeeping per statement, SQLite itself 1 to 4 µs, and a message
takes some 25 statements on its way. The statements stay SQLAlchemy's: their text, the order of their parameters and
the conversions of their column types come from its compiler. A statement with an expanding parameter (a list for IN)
has no fixed text and goes the long way, as do all on PostgreSQL, where the server's round trip is what costs.

Statements are built at import and live as long as the process; so does their prepared form.
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

_Convert = Callable[[Any], Any]


class Rows:
    """What this package uses of SQLAlchemy's result. All rows are fetched; columns are attributes, too."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: list[Any], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def one_or_none(self) -> Any:
        """The only row, or None; RuntimeError if there are more."""
        if len(self._rows) > 1:
            raise RuntimeError("more than one row, where one was expected")
        return self._rows[0] if self._rows else None

    def scalars(self) -> Iterator[Any]:
        """The first column."""
        return (row[0] for row in self._rows)

    def scalar_one_or_none(self) -> Any:
        """The first column of the only row, or None."""
        row = self.one_or_none()
        return None if row is None else row[0]

    def scalar_one(self) -> Any:
        """The first column of the only row; RuntimeError if there is none."""
        row = self.one_or_none()
        if row is None:
            raise RuntimeError("no row, where one was expected")
        return row[0]


class Prepared:
    """One statement: its text, how its parameters are put in order, and how its rows are read."""

    __slots__ = ("_binds", "_columns", "_row", "_text")

    def __init__(self, statement: Any, compiled: Any, dialect: sa.Dialect) -> None:
        self._text = str(compiled)
        self._binds = [_bind(name, compiled, dialect) for name in compiled.positiontup]
        columns = list(statement.exported_columns)
        names = [column.key or "" for column in columns]
        self._row: Any = namedtuple("Row", names, rename=True) if columns else None
        self._columns = [
            (at, convert)
            for at, column in enumerate(columns)
            if (convert := column.type.dialect_impl(dialect).result_processor(dialect, None)) is not None
        ]

    def run(self, driver: sqlite3.Connection, given: Mapping[str, Any]) -> Rows:
        """Execute. KeyError if a parameter is missing; the driver's errors as they are."""
        values = []
        for name, required, default, convert in self._binds:
            value = given[name] if required else given.get(name, default)
            values.append(value if convert is None else convert(value))
        cursor = driver.execute(self._text, values)
        if self._row is None:
            return Rows([], cursor.rowcount)
        return Rows([self._read(row) for row in cursor.fetchall()], cursor.rowcount)

    def _read(self, row: Sequence[Any]) -> Any:
        if self._columns:
            changed = list(row)
            for at, convert in self._columns:
                changed[at] = convert(row[at])
            row = changed
        return self._row._make(row)


def _bind(name: str, compiled: Any, dialect: sa.Dialect) -> tuple[str, bool, Any, _Convert | None]:
    bind = compiled.binds[name]
    convert = bind.type.dialect_impl(dialect).bind_processor(dialect)
    return name, bind.required, compiled.params[name], convert


_PREPARED: dict[sa.Executable, Prepared | None] = {}


def prepared(statement: sa.Executable, dialect: sa.Dialect) -> Prepared | None:
    """The statement's prepared form, made at its first use; None if it has none."""
    try:
        return _PREPARED[statement]
    except KeyError:
        compiled: Any = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        fixed = not any(bind.expanding for bind in compiled.binds.values())
        return _PREPARED.setdefault(statement, Prepared(statement, compiled, dialect) if fixed else None)
