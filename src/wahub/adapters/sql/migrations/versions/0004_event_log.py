"""The event log, and what is known of webhook endpoints.

Deliveries of earlier versions become events: each with its number, time and body, except the pictures of pairing codes,
which are dead by now. Numbers of codes that were superseded are missing among them. A delivery then refers to its event
by position and has no body of its own; SQLite cannot drop columns that rules name, so the table is made anew.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_DEAD_CODE = """'{"event":"qr","instanceId":"' || instance || '","data":{"error":"expired"}}'"""
_KEPT = "position, instance, url, lane, expires_at, next_attempt_at, state, attempts, last_error, attempted_at"


def upgrade() -> None:
    _add_events()
    op.execute(
        "INSERT INTO events (position, instance, sequence, event_id, event, body, created_at)"
        " SELECT position, instance, sequence, event_id, event,"
        f" CASE WHEN event = 'qr' THEN {_DEAD_CODE} ELSE body END, created_at FROM deliveries ORDER BY position"
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SELECT setval(pg_get_serial_sequence('events', 'position'), max(position)) FROM events")
    op.execute(
        f"CREATE TABLE deliveries_before AS SELECT {_KEPT} FROM deliveries"
        " WHERE NOT (event = 'qr' AND state = 'pending')"
    )
    op.drop_table("deliveries")
    _add_deliveries()
    op.execute(f"INSERT INTO deliveries ({_KEPT}) SELECT {_KEPT} FROM deliveries_before")
    op.drop_table("deliveries_before")
    _add_endpoints()


def _index(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=False, sqlite_where=condition, postgresql_where=condition)


def _number() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _add_events() -> None:
    op.create_table(
        "events",
        sa.Column("position", _number(), autoincrement=True, nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=True),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("secret_until", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["instance"], ["instances.id"], name=op.f("fk_events_instance"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_events")),
        sa.UniqueConstraint("event_id", name=op.f("uq_events_event_id")),
        sa.UniqueConstraint("instance", "sequence", name=op.f("uq_events_instance_sequence")),
        sqlite_autoincrement=True,
    )
    _index("ix_events_secret", "events", ["instance", "secret_until"], "secret_until IS NOT NULL")


def _add_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("position", _number(), autoincrement=False, nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("next_attempt_at", sa.Double(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("attempted_at", sa.Double(), nullable=True),
        sa.Column("failed_at", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "state = 'pending' OR state = 'delivered' OR state = 'dead'", name=op.f("ck_deliveries_state")
        ),
        sa.ForeignKeyConstraint(
            ["position"], ["events.position"], name=op.f("fk_deliveries_position"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_deliveries")),
    )
    _index("ix_deliveries_attempted", "deliveries", ["instance", "attempted_at"], "attempted_at IS NOT NULL")
    _index("ix_deliveries_lane", "deliveries", ["instance", "url", "lane", "position"], "state = 'pending'")
    _index("ix_deliveries_done", "deliveries", ["attempted_at"], "state = 'delivered'")
    _index("ix_deliveries_dead", "deliveries", ["instance", "position"], "state = 'dead'")


def _add_endpoints() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", sa.Double(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("held", sa.Text(), nullable=True),
        sa.Column("held_at", sa.Double(), nullable=True),
        sa.Column("held_until", sa.Double(), nullable=True),
        sa.Column("probes", sa.Integer(), nullable=False),
        sa.CheckConstraint("held IN ('paused', 'disabled')", name=op.f("ck_webhook_endpoints_held")),
        sa.CheckConstraint("(held IS NULL) = (held_until IS NULL)", name=op.f("ck_webhook_endpoints_held_until")),
        sa.ForeignKeyConstraint(
            ["instance"], ["instances.id"], name=op.f("fk_webhook_endpoints_instance"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("instance", "url", name=op.f("pk_webhook_endpoints")),
    )
    op.create_table(
        "webhook_secrets",
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("current", sa.Text(), nullable=True),
        sa.Column("previous", sa.Text(), nullable=True),
        sa.Column("previous_until", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["instance"], ["instances.id"], name=op.f("fk_webhook_secrets_instance"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("instance", name=op.f("pk_webhook_secrets")),
    )
