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
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any, Final

import sqlalchemy as sa

_Convert = Callable[[Any], Any]

_AT_ONCE: Final = 16
"""Rows of one INSERT. Each execution costs some 3 µs beside SQLite's work, and a turn of the interpreter's lock; with
more rows than this little is left to gain, and each number of rows is a statement that is kept prepared."""

_INTEGER_OF: Final = {True: 1, False: 0, None: None}
"""How a truth value is stored. KeyError for what is none."""


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

    __slots__ = ("_around", "_columns", "_converters", "_defaults", "_in_order", "_row", "_text", "_texts", "_values")

    def __init__(self, statement: Any, compiled: Any, dialect: sa.Dialect) -> None:
        names: list[str] = compiled.positiontup
        self._text = str(compiled)
        self._in_order = _picker(names)
        self._defaults = {name: compiled.params[name] for name in names if not compiled.binds[name].required}
        self._converters = [
            (at, convert) for at, name in enumerate(names) if (convert := _converter(compiled.binds[name], dialect))
        ]
        self._values = f"({', '.join('?' * len(names))})"
        self._around = self._text.split(f" VALUES {self._values}")
        self._texts: dict[int, str] = {}
        columns = list(statement.exported_columns)
        row = namedtuple("Row", [column.key or "" for column in columns], rename=True) if columns else None
        # Without a frame of Python for each row.
        self._row: Any = None if row is None else partial(tuple.__new__, row)
        self._columns = [
            (at, convert)
            for at, column in enumerate(columns)
            if (convert := column.type.dialect_impl(dialect).result_processor(dialect, None)) is not None
        ]

    def run(self, driver: sqlite3.Connection, given: Mapping[str, Any]) -> Rows:
        """Execute. KeyError if a parameter is missing; the driver's errors as they are."""
        cursor = driver.execute(self._text, self._parameters(given))
        if self._row is None:
            return Rows([], cursor.rowcount)
        rows = cursor.fetchall()
        if self._columns:
            rows = [self._converted(row) for row in rows]
        return Rows(list(map(self._row, rows)), cursor.rowcount)

    def run_many(self, driver: sqlite3.Connection, given: Sequence[Mapping[str, Any]]) -> None:
        """Execute once per row of parameters, an INSERT with as many rows at once as are good."""
        rows = [self._parameters(one) for one in given]
        if len(rows) == 1:
            driver.execute(self._text, rows[0])
            return
        if len(self._around) != 2:
            driver.executemany(self._text, rows)
            return
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            driver.execute(self._text_for(len(part)), list(chain.from_iterable(part)))

    def _parameters(self, given: Mapping[str, Any]) -> Sequence[Any]:
        values: tuple[Any, ...] = self._in_order({**self._defaults, **given} if self._defaults else given)
        if not self._converters:
            return values
        changed = list(values)
        for at, convert in self._converters:
            changed[at] = convert(changed[at])
        return changed

    def _converted(self, row: Sequence[Any]) -> Sequence[Any]:
        changed = list(row)
        for at, convert in self._columns:
            changed[at] = convert(changed[at])
        return changed

    def _text_for(self, rows: int) -> str:
        text = self._texts.get(rows)
        if text is None:
            before, after = self._around
            text = self._texts[rows] = f"{before} VALUES {', '.join([self._values] * rows)}{after}"
        return text


def _picker(names: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """What takes the values of these names out of a mapping, in this order."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda given: tuple(given[name] for name in names)


def _converter(bind: Any, dialect: sa.Dialect) -> _Convert | None:
    kind = bind.type.dialect_impl(dialect)
    if isinstance(kind, sa.Boolean):
        return _INTEGER_OF.__getitem__
    convert: _Convert | None = kind.bind_processor(dialect)
    return convert


_PREPARED: dict[sa.Executable, Prepared | None] = {}


def prepared(statement: sa.Executable, dialect: sa.Dialect) -> Prepared | None:
    """The statement's prepared form, made at its first use; None if it has none."""
    try:
        return _PREPARED[statement]
    except KeyError:
        compiled: Any = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        fixed = not any(bind.expanding for bind in compiled.binds.values())
        return _PREPARED.setdefault(statement, Prepared(statement, compiled, dialect) if fixed else None)
