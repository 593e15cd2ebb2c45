"""The lifecycle: its records and incidents, proxies and engine settings of instances, when a delivery was tried.

`authenticated_at` now says whether an account is linked. A report of a pairing that a crash swallowed left it empty
though the account was ready later; a code that was shown after a logout may have left it set. Columns are only added,
which SQLite can do without copying a table that others refer to.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_DEAD = "last_disconnect_reason IN ('logged_out', 'multidevice_mismatch')"
_ASKED = "asked IS NOT NULL"
_ATTEMPTED = "attempted_at IS NOT NULL"


def upgrade() -> None:
    op.add_column("instances", sa.Column("proxy", sa.Text(), nullable=True))
    op.add_column("instances", sa.Column("engine", sa.Text(), server_default="{}", nullable=False))
    op.add_column("deliveries", sa.Column("attempted_at", sa.Double(), nullable=True))
    _index("ix_deliveries_attempted", "deliveries", ["instance", "attempted_at"], _ATTEMPTED)
    op.create_index("ix_inbox_instance_received_at", "inbox", ["instance", "received_at"], unique=False)
    _add_tables()
    op.execute(
        "UPDATE instances SET authenticated_at = coalesce(last_ready_at, created_at)"
        " WHERE authenticated_at IS NULL AND phone IS NOT NULL AND last_ready_at IS NOT NULL"
        " AND state NOT IN ('needs_qr', 'failed_qr_timeout')"
        f" AND (last_disconnect_reason IS NULL OR NOT ({_DEAD}) OR last_ready_at > last_disconnect_at)"
    )
    op.execute(
        "UPDATE instances SET authenticated_at = NULL"
        f" WHERE state = 'needs_qr' AND authenticated_at IS NOT NULL AND {_DEAD}"
    )


def _index(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=False, sqlite_where=condition, postgresql_where=condition)


def _add_tables() -> None:
    op.create_table(
        "lifecycles",
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("asked", sa.Text(), nullable=True),
        sa.Column("record", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "asked IN ('soft_restart', 'hard_restart', 'retry', 'pairing_code')",
            name=op.f("ck_lifecycles_asked"),
        ),
        sa.ForeignKeyConstraint(
            ["instance"], ["instances.id"], name=op.f("fk_lifecycles_instance"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("instance", name=op.f("pk_lifecycles")),
    )
    _index("ix_lifecycles_asked", "lifecycles", ["instance"], _ASKED)
    op.create_table(
        "incidents",
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["instance"], ["instances.id"], name=op.f("fk_incidents_instance"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_incidents")),
    )
    op.create_index("ix_incidents_instance_position", "incidents", ["instance", "position"], unique=False)
