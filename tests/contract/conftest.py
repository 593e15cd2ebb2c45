"""One suite, every store: each test that asks for `store` runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from tests.contract.makers import HandClock
from tests.support.postgres import PostgresServer

from wahub.adapters.sql.database import migrate, open_database
from wahub.ports.store import Database

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=BOTH)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, for tests of opening and migrating."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'wahub.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database to copy, which is quicker than migrating again."""
    file = tmp_path_factory.mktemp("migrated") / "wahub.db"
    migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: PostgresServer) -> Iterator[str]:
    """One migrated database that tests empty and use again."""
    url = postgres_server.new_database()
    migrate(url)
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def sqlite_url(migrated_file: Path, tmp_path: Path) -> str:
    """A migrated SQLite database without rows."""
    file = tmp_path / "store.db"
    shutil.copyfile(migrated_file, file)
    return f"sqlite:///{file}"


@pytest.fixture
def shared_postgres_url(migrated_postgres: str) -> str:
    """A migrated PostgreSQL database without rows."""
    with psycopg.connect(migrated_postgres, autocommit=True) as connection:
        connection.execute("TRUNCATE instances, leases, contacts, audit RESTART IDENTITY CASCADE")
    return migrated_postgres


@pytest.fixture(params=BOTH)
async def store(request: pytest.FixtureRequest, clock: HandClock) -> AsyncIterator[Database]:
    """A store without rows."""
    fixture = "sqlite_url" if request.param == "sqlite" else "shared_postgres_url"
    database = open_database(request.getfixturevalue(fixture), clock)
    yield database
    await database.close()
