"""What all tables share: the metadata with its names, columns that many have, rules and indexes of a kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, overload

import sqlalchemy as sa


@overload
def clean(text: str) -> str: ...
@overload
def clean(text: str | None) -> str | None: ...
def clean(text: str | None) -> str | None:
    """Text from outside as a column holds it: what UTF-8 cannot (NUL, half a surrogate pair) becomes U+FFFD."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.replace("\0", "�").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class CleanText(sa.types.TypeDecorator[str]):
    """A column of text from outside, written `clean`."""

    impl = sa.Text
    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[str | None], str | None]:  # noqa: ARG002
        # Not `process_bind_param`, which SQLAlchemy calls from a function of its own, for each value.
        return clean


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def one_of(column: str, values: type[StrEnum]) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} IN ({quoted(values)})", name=column)


def either(column: str, values: Iterable[str]) -> str:
    """That a column has one of these values, as comparisons: for a hot table.

    SQLite builds a set for each IN of more than two values, at every insert and update: 4 µs for the outbox.
    """
    return " OR ".join(f"{column} = '{value}'" for value in values)


def quoted(values: Iterable[StrEnum]) -> str:
    """Enum values as a list of SQL literals."""
    return ", ".join(f"'{value.value}'" for value in values)


def position() -> sa.Column[int]:
    # SQLite gives row numbers only to a primary key of type INTEGER.
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("position", number, primary_key=True, autoincrement=True)


def of_instance(**more: Any) -> sa.Column[str]:
    return sa.Column("instance", sa.Text, sa.ForeignKey("instances.id", ondelete="CASCADE"), nullable=False, **more)


def partial_index(name: str, *columns: str, where: str, unique: bool = False) -> sa.Index:
    condition = sa.text(where)
    return sa.Index(name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)
