"""Reads DATABASE_URL."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

_POSTGRES = frozenset({"postgres", "postgresql", "postgresql+psycopg"})
_REMEDY = "use sqlite:////path/to/wahub.db or postgresql://user@host/name"


def parse(url: str) -> sa.URL:
    """The URL with the driver that we use.

    ValueError for anything else, without the URL: it may hold a password.
    """
    if url.startswith("postgres://"):
        url = "postgresql" + url.removeprefix("postgres")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(f"DATABASE_URL is not a URL: {_REMEDY}") from None
    if parsed.drivername in _POSTGRES:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise ValueError(f"DATABASE_URL names the database {parsed.drivername}, which is not supported: {_REMEDY}")
    if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
        raise ValueError(f"DATABASE_URL must name a file: {_REMEDY}")
    return parsed.set(drivername="sqlite+pysqlite")


def sqlite_file(url: sa.URL) -> Path:
    """The database file of a parsed SQLite URL."""
    return Path(url.database or "")
