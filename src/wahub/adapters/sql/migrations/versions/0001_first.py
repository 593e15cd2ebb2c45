"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "instances",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("deleting", sa.Boolean(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("webhook_url", sa.Text(), nullable=True),
        sa.Column("webhook_events", sa.Text(), nullable=False),
        sa.Column("typing_enabled", sa.Boolean(), nullable=False),
        sa.Column("apply_typing_to", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_at", sa.Double(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=True),
        sa.Column("lid", sa.Text(), nullable=True),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("qr", sa.Text(), nullable=True),
        sa.Column("qr_expires_at", sa.Double(), nullable=True),
        sa.Column("last_event", sa.Text(), nullable=True),
        sa.Column("last_event_at", sa.Double(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("last_disconnect_reason", sa.Text(), nullable=True),
        sa.Column("last_disconnect_at", sa.Double(), nullable=True),
        sa.Column("authenticated_at", sa.Double(), nullable=True),
        sa.Column("ready_at", sa.Double(), nullable=True),
        sa.Column("last_ready_at", sa.Double(), nullable=True),
        sa.Column("restart_attempts", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "state IN ('connecting', 'needs_qr', 'ready', 'disconnected', 'paused', 'restricted', 'error',"
            " 'failed_qr_timeout')",
            name=op.f("ck_instances_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instances")),
    )
    op.create_table(
        "leases",
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True, comment="null: given up"),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.CheckConstraint("epoch >= 1", name=op.f("ck_leases_epoch")),
        sa.PrimaryKeyConstraint("instance", name=op.f("pk_leases")),
    )
    op.create_table(
        "deliveries",
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("next_attempt_at", sa.Double(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('pending', 'delivered', 'dead')", name=op.f("ck_deliveries_state")),
        sa.ForeignKeyConstraint(
            ["instance"], ["instances.id"], name=op.f("fk_deliveries_instance"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("event_id", name=op.f("uq_deliveries_event_id")),
    )
    op.create_index(
        "ix_deliveries_done",
        "deliveries",
        ["created_at"],
        unique=False,
        sqlite_where=sa.text("state = 'delivered'"),
        postgresql_where=sa.text("state = 'delivered'"),
    )
    op.create_index("ix_deliveries_instance_sequence", "deliveries", ["instance", "sequence"], unique=False)
    op.create_index(
        "ix_deliveries_lane",
        "deliveries",
        ["instance", "url", "lane", "position"],
        unique=False,
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "inbox",
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("chat", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("sender_phone", sa.Text(), nullable=True),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("from_me", sa.Boolean(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.Column("raw", sa.Text(), nullable=True),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["instance"], ["instances.id"], name=op.f("fk_inbox_instance"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_inbox")),
        sa.UniqueConstraint(
            "instance", "chat", "sender", "message_id", name=op.f("uq_inbox_instance_chat_sender_message_id")
        ),
    )
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
        sa.CheckConstraint("(state = 'sending') = (claimed_epoch IS NOT NULL)", name=op.f("ck_outbox_claimed_epoch")),
        sa.CheckConstraint(
            "CASE WHEN settled_at IS NULL THEN state IN ('queued', 'sending', 'held', 'unknown')"
            " ELSE state IN ('sent', 'failed', 'expired', 'cancelled', 'unknown') END",
            name=op.f("ck_outbox_settled_at"),
        ),
        sa.CheckConstraint(
            "delivery IS NULL OR delivery IN ('server', 'delivered', 'read', 'played')", name=op.f("ck_outbox_delivery")
        ),
        sa.CheckConstraint("key_kind IN ('explicit', 'order', 'derived')", name=op.f("ck_outbox_key_kind")),
        sa.CheckConstraint("state <> 'sending' OR claimed_at IS NOT NULL", name=op.f("ck_outbox_claimed_at")),
        sa.CheckConstraint("state <> 'sent' OR delivery IS NOT NULL", name=op.f("ck_outbox_sent_has_mark")),
        sa.CheckConstraint("state <> 'unknown' OR on_wire", name=op.f("ck_outbox_unknown_was_out")),
        sa.CheckConstraint(
            "state IN ('queued', 'sending', 'unknown', 'sent', 'failed', 'expired', 'cancelled', 'held')",
            name=op.f("ck_outbox_state"),
        ),
        sa.ForeignKeyConstraint(["instance"], ["instances.id"], name=op.f("fk_outbox_instance"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_outbox")),
        sa.UniqueConstraint("id", name=op.f("uq_outbox_id")),
        sa.UniqueConstraint("instance", "message_id", name=op.f("uq_outbox_instance_message_id")),
    )
    op.create_index(
        "ix_outbox_given_up",
        "outbox",
        ["instance", "position"],
        unique=False,
        sqlite_where=sa.text("state = 'unknown' AND settled_at IS NOT NULL"),
        postgresql_where=sa.text("state = 'unknown' AND settled_at IS NOT NULL"),
    )
    op.create_index(
        "ix_outbox_open",
        "outbox",
        ["instance", "position"],
        unique=False,
        sqlite_where=sa.text("settled_at IS NULL"),
        postgresql_where=sa.text("settled_at IS NULL"),
    )
    op.create_index(
        "ix_outbox_open_chat",
        "outbox",
        ["instance", "chat", "position"],
        unique=False,
        sqlite_where=sa.text("settled_at IS NULL"),
        postgresql_where=sa.text("settled_at IS NULL"),
    )
    op.create_index(
        "uq_outbox_one_sending",
        "outbox",
        ["instance"],
        unique=True,
        sqlite_where=sa.text("state = 'sending'"),
        postgresql_where=sa.text("state = 'sending'"),
    )
    op.create_table(
        "outbox_claims",
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance"], ["instances.id"], name=op.f("fk_outbox_claims_instance"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_outbox_claims")),
    )
    op.create_index("ix_outbox_claims_instance_at", "outbox_claims", ["instance", "at"], unique=False)
    op.create_table(
        "outbox_keys",
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payload_hash", sa.Text(), nullable=False),
        sa.Column("queue_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint("kind IN ('explicit', 'order', 'derived')", name=op.f("ck_outbox_keys_kind")),
        sa.ForeignKeyConstraint(
            ["instance"], ["instances.id"], name=op.f("fk_outbox_keys_instance"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("instance", "key", name=op.f("pk_outbox_keys")),
    )
    op.create_table(
        "session_material",
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance"], ["instances.id"], name=op.f("fk_session_material_instance"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("instance", "kind", "id", name=op.f("pk_session_material")),
    )
