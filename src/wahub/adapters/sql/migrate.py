"""Brings a database to the newest schema, at start, from the package's own migrations.

All of an upgrade is one transaction on both databases: a crash leaves the old schema. On PostgreSQL several workers
may start at once; an advisory lock lets one upgrade and the others find the work done. On SQLite the caller holds
the store's lock. There is no way down: take a copy of the database before an upgrade that you may want to undo.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Final

import sqlalchemy as sa

from wahub.adapters.sql.failure import StoreFailedError

_MIGRATING: Final = 0x77616875
"""The key of the advisory lock: "wahu"."""
_VERSION: Final = sa.table("alembic_version", sa.column("version_num"))


def upgrade(engine: sa.Engine, to: str = "head") -> None:
    """Apply what is missing up to the revision `to`. StoreFailedError if a newer version wrote the database."""
    if to == "head" and _is_newest(engine):
        return
    # Not at the top: this costs 150 ms that hardly any start need pay.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    with as_file(files("wahub.adapters.sql") / "migrations") as directory, engine.begin() as connection:
        config.set_main_option("script_location", str(directory).replace("%", "%%"))
        config.attributes["connection"] = connection
        _begin_alone(connection)
        try:
            command.upgrade(config, to)
        except CommandError:
            raise StoreFailedError(
                "the database has a schema that this version of wahub does not know: use the newer version, or a copy"
                " from before its upgrade"
            ) from None


def newest() -> str:
    """The revision that this version of wahub writes: its file's name begins with it."""
    versions = files("wahub.adapters.sql") / "migrations" / "versions"
    return max(name.partition("_")[0] for file in versions.iterdir() if (name := file.name)[0].isdigit())


def _is_newest(engine: sa.Engine) -> bool:
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(_VERSION.name):
            return False
        return list(connection.execute(sa.select(_VERSION.c.version_num)).scalars()) == [newest()]


def _begin_alone(connection: sa.Connection) -> None:
    """Open the one transaction and keep other upgrades out of it."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATING)))
        return
    # Alembic changes a table of SQLite by copying and dropping it; with foreign keys on, the drop would delete what
    # refers to its rows. The setting ends with this connection.
    connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
