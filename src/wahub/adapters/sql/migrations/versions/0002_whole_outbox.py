"""The whole outbox: priority, schedule, expiry, timeline; what is counted, audited and known of numbers.

Rows that exist join the line as they were accepted, and live a week from then. SQLite cannot add rules to a table, so
there the outbox is copied into a new one; foreign keys are off and nothing refers to it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_OPEN = "settled_at IS NULL"
_SENT_BY_US = "state = 'sent' AND claimed_at IS NOT NULL"
_KEPT = (
    "position, id, instance, chat, content, message_id, key, key_kind, payload_hash, created_at, state,"
    " next_attempt_at, attempts, on_wire, resends, deferrals, claimed_epoch, claimed_at, settled_at, delivery,"
    " last_error"
)
_LIFE_S = 168 * 3600
_OLD_RULES = {
    "ck_outbox_claimed_epoch": "(state = 'sending') = (claimed_epoch IS NOT NULL)",
    "ck_outbox_claimed_at": "state <> 'sending' OR claimed_at IS NOT NULL",
    "ck_outbox_sent_has_mark": "state <> 'sent' OR delivery IS NOT NULL",
    "ck_outbox_unknown_was_out": "state <> 'unknown' OR on_wire",
}
_NEW_RULES = {
    "ck_outbox_key_kind": "key_kind = 'explicit' OR key_kind = 'order' OR key_kind = 'derived'",
    "ck_outbox_priority": "priority = 'normal' OR priority = 'high'",
    "ck_outbox_audience": "audience = 'customer' OR audience = 'merchant'",
    "ck_outbox_delivery": (
        "delivery IS NULL OR delivery = 'server' OR delivery = 'delivered' OR delivery = 'read' OR delivery = 'played'"
    ),
    "ck_outbox_settled_at": (
        "CASE WHEN settled_at IS NULL THEN state = 'held' OR state = 'queued' OR state = 'sending' OR state = 'unknown'"
        " ELSE state = 'cancelled' OR state = 'expired' OR state = 'failed' OR state = 'sent' OR state = 'unknown' END"
    ),
}
"""Those that were there say the same in a quicker way; the rule on `state` is part of the last one."""


def upgrade() -> None:
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    op.add_column("instances", sa.Column("unlinking", sa.Boolean(), server_default=sa.false(), nullable=False))
    for old in ("ix_outbox_open", "ix_outbox_open_chat", "ix_outbox_given_up"):
        op.drop_index(old, table_name="outbox")
    if on_sqlite:
        op.drop_index("uq_outbox_one_sending", table_name="outbox")
        _copy_outbox()
        _index("uq_outbox_one_sending", ["instance"], "state = 'sending'", unique=True)
    else:
        _extend_outbox()
    line = ["instance", "priority", "scheduled", "joined_at", "position", "settled_at", "next_attempt_at"]
    _index("ix_outbox_line", line, _OPEN)
    _index("ix_outbox_line_of_chat", ["instance", "chat", "priority", "joined_at", "position"], _OPEN)
    _index("ix_outbox_expires", ["expires_at"], _OPEN)
    _index("ix_outbox_sent", ["instance", "settled_at", "chat"], _SENT_BY_US)
    _index("ix_outbox_sent_to", ["instance", "chat", "settled_at"], _SENT_BY_US)
    _index("ix_outbox_failed", ["instance", "settled_at"], "state = 'failed'")
    _index("ix_outbox_unknown", ["instance", "position"], "state = 'unknown'")
    _add_tables()


def _index(name: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, "outbox", columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


def _extend_outbox() -> None:
    """PostgreSQL: new columns, filled, then their rules."""
    for name, kind in (
        ("priority", sa.Text()),
        ("audience", sa.Text()),
        ("joined_at", sa.Double()),
        ("scheduled", sa.Boolean()),
        ("expires_at", sa.Double()),
        ("typing", sa.Boolean()),
        ("timeline", sa.Text()),
    ):
        comment = "null: never" if name == "expires_at" else None
        op.add_column("outbox", sa.Column(name, kind, nullable=True, comment=comment))
    op.execute(
        "UPDATE outbox SET priority = 'normal', audience = 'customer', joined_at = created_at, scheduled = false,"
        f" expires_at = created_at + {_LIFE_S}, typing = true, timeline = '[]'"
    )
    for name in ("priority", "audience", "joined_at", "scheduled", "typing", "timeline"):
        op.alter_column("outbox", name, nullable=False)
    for name in ("state", "key_kind", "delivery", "settled_at"):
        op.drop_constraint(op.f(f"ck_outbox_{name}"), "outbox", type_="check")
    for rule_name, rule in _NEW_RULES.items():
        op.create_check_constraint(op.f(rule_name), "outbox", rule)


def _copy_outbox() -> None:
    """SQLite: a new table, filled from the old one."""
    op.rename_table("outbox", "outbox_before")
    _create_outbox()
    op.execute(
        f"INSERT INTO outbox ({_KEPT}, priority, audience, joined_at, scheduled, expires_at, typing, timeline)"
        f" SELECT {_KEPT}, 'normal', 'customer', created_at, 0, created_at + {_LIFE_S}, 1, '[]' FROM outbox_before"
        " ORDER BY position"
    )
    op.drop_table("outbox_before")


def _create_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("chat", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("key_kind", sa.Text(), nullable=False),
        sa.Column("payload_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("next_attempt_at", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("on_wire", sa.Boolean(), nullable=False),
        sa.Column("resends", sa.Integer(), nullable=False),
        sa.Column("deferrals", sa.Integer(), nullable=False),
        sa.Column("claimed_epoch", sa.BigInteger(), nullable=True),
        sa.Column("claimed_at", sa.Double(), nullable=True),
        sa.Column("settled_at", sa.Double(), nullable=True),
        sa.Column("delivery", sa.Text(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("priority", sa.Text(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("joined_at", sa.Double(), nullable=False),
        sa.Column("scheduled", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("typing", sa.Boolean(), nullable=False),
        sa.Column("timeline", sa.Text(), nullable=False),
        *(sa.CheckConstraint(rule, name=op.f(name)) for name, rule in {**_NEW_RULES, **_OLD_RULES}.items()),
        sa.ForeignKeyConstraint(["instance"], ["instances.id"], name=op.f("fk_outbox_instance"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_outbox")),
        sa.UniqueConstraint("id", name=op.f("uq_outbox_id")),
        sa.UniqueConstraint("instance", "message_id", name=op.f("uq_outbox_instance_message_id")),
    )


def _add_tables() -> None:
    op.create_table(
        "disconnects",
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance"], ["instances.id"], name=op.f("fk_disconnects_instance"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_disconnects")),
    )
    op.create_index("ix_disconnects_instance_at", "disconnects", ["instance", "at"], unique=False)
    op.create_table(
        "audit",
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False, comment="SHA-256 in hex"),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_audit")),
    )
    op.create_table(
        "contacts",
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("exists", sa.Boolean(), nullable=False),
        sa.Column("checked_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("phone", name=op.f("pk_contacts")),
    )
