"""What the database says when it refuses, without the values: a message text or a phone number must not get into an
error.

Drivers put rows and parameters into their messages, so their exceptions never leave this package.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError, IntegrityError

from wahub.domain.errors import IllegalTransitionError, InstanceNotFoundError, WahubError

if TYPE_CHECKING:
    import psycopg

_FOREIGN_KEY = ("23503", "SQLITE_CONSTRAINT_FOREIGNKEY")
_CONFLICTS = ("40001", "40P01")
"""PostgreSQL: serialization failure, deadlock detected. Running the function again is the remedy."""


class StoreFailedError(WahubError):
    """The database could not do it: disk full, connection gone, read-only, newer schema.

    Nothing of the function is kept, unless the text says that the outcome is not known.
    """


def error_code(error: BaseException | None) -> str:
    """The driver's code: an SQLSTATE or the name of an SQLite result code."""
    if (refusal := _by_postgres(error)) is not None:
        return refusal.sqlstate or type(refusal).__name__
    if isinstance(error, sqlite3.Error):
        return str(getattr(error, "sqlite_errorname", type(error).__name__))
    return type(error).__name__


def _by_postgres(error: BaseException | None) -> psycopg.Error | None:
    """The error if PostgreSQL's driver raised it. Loading it takes 150 ms; who has not has none of its errors."""
    driver = sys.modules.get("psycopg")
    return error if driver is not None and isinstance(error, driver.Error) else None


def refused(error: IntegrityError, table: str, instance: str | None) -> WahubError:
    """The domain's word for a broken rule. Every foreign key leads to an instance; all else is a bug."""
    code = error_code(error.orig)
    if code in _FOREIGN_KEY and instance is not None:
        return InstanceNotFoundError(instance)
    return IllegalTransitionError(f"a row of {table} breaks the rule {_rule(error)} ({code})")


def _rule(error: IntegrityError) -> str:
    if (refusal := _by_postgres(error.orig)) is not None:
        return refusal.diag.constraint_name or "?"
    # SQLite names columns or the constraint, never values.
    return str(error.orig).rpartition(": ")[2]


def is_conflict(error: DBAPIError) -> bool:
    """Whether the function lost against another transaction and may simply be run again."""
    return error_code(error.orig) in _CONFLICTS


def without_values(error: BaseException) -> BaseException:
    """The error as it may leave this package."""
    if isinstance(error, DBAPIError):
        return StoreFailedError(f"the store failed ({error_code(error.orig)})")
    if isinstance(error, sqlite3.Error):
        return StoreFailedError(f"the store failed ({error_code(error)})")
    if isinstance(error, StopIteration):
        # A future cannot carry it.
        return RuntimeError("a transaction function raised StopIteration")
    return error


@contextmanager
def values_hidden() -> Iterator[None]:
    """Turn what the driver raises into what may leave this package."""
    try:
        yield
        return
    except (DBAPIError, sqlite3.Error) as error:
        failure = without_values(error)
    raise failure


def instance_of(values: Mapping[str, Any]) -> str | None:
    """The instance that a statement's values name."""
    found = values.get("instance")
    return found if isinstance(found, str) else None
