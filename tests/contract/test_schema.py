"""Migrations and models say the same, an empty database gets the newest schema, and only one worker opens SQLite."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from tests.contract.makers import HandClock, add_instance

from wahub.adapters.sql import postgres, sqlite, url
from wahub.adapters.sql.database import migrate, open_database
from wahub.adapters.sql.failure import StoreFailedError
from wahub.adapters.sql.tables import metadata
from wahub.domain.errors import StoreBusyError


@pytest.fixture
def engine(store_url: str) -> Iterator[sa.Engine]:
    parsed = url.parse(store_url)
    made = sqlite.make_engine(parsed) if parsed.get_backend_name() == "sqlite" else postgres.make_engine(parsed)
    yield made
    made.dispose()


def test_autogenerate_finds_nothing_to_do(store_url: str, engine: sa.Engine) -> None:
    migrate(store_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() is not None


def test_rules_and_indexes_equal_those_of_the_models(store_url: str, engine: sa.Engine) -> None:
    """What autogenerate does not compare: CHECKs, conditions of indexes, cascades."""
    migrate(store_url)
    with engine.connect() as connection:
        migrated = _definitions(connection)
        metadata.drop_all(connection)
        assert _definitions(connection) == []
        metadata.create_all(connection)
        created = _definitions(connection)
    assert len(migrated) > 40
    assert migrated == created


def _definitions(connection: sa.Connection) -> list[str]:
    """One line per rule or index, as the database understood it."""
    if connection.dialect.name == "sqlite":
        statements = connection.execute(
            sa.text(
                "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"
                " AND tbl_name NOT IN ('alembic_version', 'sqlite_sequence')"
            )
        ).scalars()
        # The order of constraints in a CREATE TABLE differs, so compare line by line.
        # SQLite writes a column that was added into the line of the last one.
        parts = [part for sql in statements for part in re.split(r"\n|, (?=\w+ [A-Z]+\b)", sql)]
        lines = [re.sub(r",$", "", part.strip()) for part in parts]
        return sorted(" ".join(line.split()) for line in lines if line)
    constraints = connection.execute(
        sa.text(
            "SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace AND conrelid <> 'alembic_version'::regclass"
        )
    ).scalars()
    indexes = connection.execute(
        sa.text("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'")
    ).scalars()
    return sorted([*constraints, *indexes])


def test_migrating_again_changes_nothing(store_url: str, engine: sa.Engine) -> None:
    migrate(store_url)
    with engine.connect() as connection:
        before = _definitions(connection)
    migrate(store_url)
    with engine.connect() as connection:
        assert _definitions(connection) == before


async def test_a_schema_from_the_future_is_refused(store_url: str, engine: sa.Engine, clock: HandClock) -> None:
    migrate(store_url)
    with engine.connect() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        connection.commit()
    with pytest.raises(StoreFailedError, match="newer version"):
        open_database(store_url, clock)


async def test_what_was_written_is_there_after_reopening(store_url: str, clock: HandClock) -> None:
    first = open_database(store_url, clock)
    await add_instance(first)
    await first.close()
    second = open_database(store_url, clock)
    assert [found.id for found in await second.read(lambda tx: tx.instances.list())] == ["shop"]
    await second.close()


async def test_workers_that_start_together_migrate_once(postgres_url: str, clock: HandClock) -> None:
    stores = await asyncio.gather(*(asyncio.to_thread(open_database, postgres_url, clock) for _ in range(3)))
    await add_instance(stores[0])
    assert len(await stores[2].read(lambda tx: tx.instances.list())) == 1
    for store in stores:
        await store.close()


# --- SQLite serves one worker -----------------------------------------------------------------------------------------

_OPENER = """
import sys
from tests.contract.makers import HandClock
from wahub.adapters.sql.database import open_database
from wahub.domain.errors import StoreBusyError
try:
    open_database(sys.argv[1], HandClock())
except StoreBusyError as error:
    print("busy", error)
else:
    print("opened")
"""


def _open_elsewhere(store_url: str) -> str:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _OPENER, store_url],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_second_opener_of_sqlite_is_refused(tmp_path: Path, clock: HandClock) -> None:
    store_url = f"sqlite:///{tmp_path / 'wahub.db'}"
    store = open_database(store_url, clock)
    with pytest.raises(StoreBusyError):
        open_database(store_url, clock)
    with pytest.raises(StoreBusyError):
        migrate(store_url)
    refusal = _open_elsewhere(store_url)
    assert refusal.startswith("busy")
    assert f"pid {os.getpid()}" in refusal
    await store.close()
    await open_database(store_url, clock).close()


async def test_a_program_that_we_start_does_not_keep_the_lock(tmp_path: Path, clock: HandClock) -> None:
    store_url = f"sqlite:///{tmp_path / 'wahub.db'}"
    store = open_database(store_url, clock)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as child:  # noqa: ASYNC220
        await store.close()
        again = open_database(store_url, clock)
        await again.close()
        assert child.poll() is None
        assert child.stdin is not None
        child.stdin.close()


async def test_nobody_else_may_read_the_files(tmp_path: Path, clock: HandClock) -> None:
    file = tmp_path / "wahub.db"
    file.touch(0o644)
    store = open_database(f"sqlite:///{file}", clock)
    await add_instance(store)
    modes = {found.name: stat.S_IMODE(found.stat().st_mode) for found in tmp_path.iterdir()}  # noqa: ASYNC240
    await store.close()
    assert modes == dict.fromkeys(["wahub.db", "wahub.db-wal", "wahub.db-shm", "wahub.db.lock"], 0o600)


@pytest.mark.parametrize(
    "bad",
    ["", "nonsense", "mysql://user:hunter2@host/name", "sqlite://", "sqlite:///:memory:", "postgres+x://hunter2@h"],
)
async def test_a_bad_url_names_the_setting_and_no_password(bad: str, clock: HandClock) -> None:
    with pytest.raises(ValueError, match="DATABASE_URL") as caught:
        open_database(bad, clock)
    assert "hunter2" not in str(caught.value)


async def test_an_unreachable_server_is_told_without_the_password(clock: HandClock) -> None:
    with pytest.raises(StoreFailedError) as caught:
        open_database("postgresql://user:hunter2@/name?host=/nonexistent", clock)
    assert "hunter2" not in str(caught.value)
