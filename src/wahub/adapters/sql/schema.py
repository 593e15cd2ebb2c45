"""What all tables share: the metadata with its names, columns that many have, rules and indexes of a kind."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import sqlalchemy as sa


class CleanText(sa.types.TypeDecorator[str]):
    """Text from outside. What UTF-8 columns cannot hold (NUL, half a surrogate pair) becomes U+FFFD."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        if value is None or (value.isascii() and "\0" not in value):
            return value
        return value.replace("\0", "�").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


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
