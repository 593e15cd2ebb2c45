"""The tables. What must always hold is said here, as constraints, and not only in code that might be wrong.

- Times are Unix seconds (double precision). States are the words of the domain's enums.
- An outbox row is *open* while `settled_at` is null: it may still change by itself and holds back its chat. Indexes
  for the send loop cover open rows only, so their cost does not grow with the settled ones. A sent row whose
  `claimed_at` is null was sent by another gateway and imported.
- The audit outlives what it tells of; what WhatsApp said of a number belongs to no instance.
- `position` orders rows as they were accepted. On PostgreSQL two requests under way at the same moment may commit in
  either order; a request that began after another was answered always has the higher position.
- A lease row has no foreign key: it outlives its instance, so that an id that is created again goes on with a
  higher epoch.

Migrations repeat this by hand; a test compares the two on both databases.
"""

from __future__ import annotations

import sqlalchemy as sa

from wahub.adapters.sql.message_tables import chats, contacts, inbox, media_files, missed, people
from wahub.adapters.sql.schema import (
    CleanText,
    either,
    metadata,
    of_instance,
    one_of,
    partial_index,
    position,
    quoted,
)
from wahub.domain.endpoint import Held
from wahub.domain.instance import State
from wahub.domain.lifecycle import Ask
from wahub.domain.outbox import UNSETTLED, Audience, DeliveryMark, ItemState, KeyKind, Priority
from wahub.domain.webhook import DeliveryState

# Whoever reads `metadata` from here has all tables.
__all__ = [
    "audit",
    "chats",
    "contacts",
    "deliveries",
    "disconnects",
    "either",
    "events",
    "inbox",
    "incidents",
    "instances",
    "leases",
    "lifecycles",
    "media_files",
    "metadata",
    "missed",
    "outbox",
    "outbox_claims",
    "outbox_keys",
    "people",
    "quoted",
    "session_material",
    "webhook_endpoints",
    "webhook_secrets",
]


instances = sa.Table(
    "instances",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("deleting", sa.Boolean, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False, server_default="0"),
    # What callers set.
    sa.Column("name", CleanText, nullable=False),
    sa.Column("webhook_url", CleanText),
    sa.Column("webhook_events", sa.Text, nullable=False),
    sa.Column("typing_enabled", sa.Boolean, nullable=False),
    sa.Column("apply_typing_to", sa.Text, nullable=False),
    # What was last seen.
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("state_at", sa.Double, nullable=False),
    sa.Column("phone", CleanText),
    sa.Column("lid", CleanText),
    sa.Column("display_name", CleanText),
    sa.Column("qr", CleanText),
    sa.Column("qr_expires_at", sa.Double),
    sa.Column("last_event", CleanText),
    sa.Column("last_event_at", sa.Double),
    sa.Column("last_error", CleanText),
    sa.Column("last_disconnect_reason", CleanText),
    sa.Column("last_disconnect_at", sa.Double),
    sa.Column("authenticated_at", sa.Double),
    sa.Column("ready_at", sa.Double),
    sa.Column("last_ready_at", sa.Double),
    sa.Column("restart_attempts", sa.Integer, nullable=False),
    sa.Column("unlinking", sa.Boolean, nullable=False, server_default=sa.false()),
    # What callers set, too: a column that is added comes last.
    sa.Column("proxy", CleanText),
    sa.Column("engine", sa.Text, nullable=False, server_default="{}"),
    one_of("state", State),
)

lifecycles = sa.Table(
    "lifecycles",
    metadata,
    of_instance(primary_key=True),
    sa.Column("asked", sa.Text),
    sa.Column("record", sa.Text, nullable=False),
    one_of("asked", Ask),
    partial_index("ix_lifecycles_asked", "instance", where="asked IS NOT NULL"),
)

# No rule on the kind: kinds will be added, and those that a version does not know it leaves out.
incidents = sa.Table(
    "incidents",
    metadata,
    position(),
    of_instance(),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("details", CleanText, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Index(None, "instance", "position"),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("instance", sa.Text, primary_key=True),
    sa.Column("worker", sa.Text, comment="null: given up"),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.CheckConstraint("epoch >= 1", name="epoch"),
)

_OPEN = "settled_at IS NULL"
_SENT_BY_US = "state = 'sent' AND claimed_at IS NOT NULL"

outbox = sa.Table(
    "outbox",
    metadata,
    position(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    of_instance(),
    sa.Column("chat", CleanText, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("message_id", CleanText, nullable=False),
    sa.Column("key", CleanText, nullable=False),
    sa.Column("key_kind", sa.Text, nullable=False),
    sa.Column("payload_hash", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("next_attempt_at", sa.Double, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("on_wire", sa.Boolean, nullable=False),
    sa.Column("resends", sa.Integer, nullable=False),
    sa.Column("deferrals", sa.Integer, nullable=False),
    sa.Column("claimed_epoch", sa.BigInteger),
    sa.Column("claimed_at", sa.Double),
    sa.Column("settled_at", sa.Double),
    sa.Column("delivery", sa.Text),
    sa.Column("last_error", CleanText),
    sa.Column("priority", sa.Text, nullable=False),
    sa.Column("audience", sa.Text, nullable=False),
    sa.Column("joined_at", sa.Double, nullable=False),
    sa.Column("scheduled", sa.Boolean, nullable=False),
    sa.Column("expires_at", sa.Double, comment="null: never"),
    sa.Column("typing", sa.Boolean, nullable=False),
    sa.Column("timeline", sa.Text, nullable=False),
    sa.UniqueConstraint("instance", "message_id"),
    sa.CheckConstraint(either("key_kind", KeyKind), name="key_kind"),
    sa.CheckConstraint(either("priority", Priority), name="priority"),
    sa.CheckConstraint(either("audience", Audience), name="audience"),
    sa.CheckConstraint(f"delivery IS NULL OR {either('delivery', DeliveryMark)}", name="delivery"),
    sa.CheckConstraint("(state = 'sending') = (claimed_epoch IS NOT NULL)", name="claimed_epoch"),
    sa.CheckConstraint("state <> 'sending' OR claimed_at IS NOT NULL", name="claimed_at"),
    # This also says which states there are.
    sa.CheckConstraint(
        f"CASE WHEN settled_at IS NULL THEN {either('state', sorted(UNSETTLED))}"
        f" ELSE {either('state', [*sorted(set(ItemState) - UNSETTLED), ItemState.UNKNOWN])} END",
        name="settled_at",
    ),
    sa.CheckConstraint("state <> 'unknown' OR on_wire", name="unknown_was_out"),
    sa.CheckConstraint("state <> 'sent' OR delivery IS NOT NULL", name="sent_has_mark"),
    # The last two spare the walk along the line a look at each row.
    partial_index(
        "ix_outbox_line",
        *("instance", "priority", "scheduled", "joined_at", "position", "settled_at", "next_attempt_at"),
        where=_OPEN,
    ),
    partial_index("ix_outbox_line_of_chat", "instance", "chat", "priority", "joined_at", "position", where=_OPEN),
    partial_index("ix_outbox_expires", "expires_at", where=_OPEN),
    partial_index("ix_outbox_unknown", "instance", "position", where="state = 'unknown'"),
    partial_index("ix_outbox_sent", "instance", "settled_at", "chat", where=_SENT_BY_US),
    partial_index("ix_outbox_sent_to", "instance", "chat", "settled_at", where=_SENT_BY_US),
    partial_index("ix_outbox_failed", "instance", "settled_at", where="state = 'failed'"),
    partial_index("uq_outbox_one_sending", "instance", where="state = 'sending'", unique=True),
)

outbox_keys = sa.Table(
    "outbox_keys",
    metadata,
    of_instance(primary_key=True),
    sa.Column("key", CleanText, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("payload_hash", sa.Text, nullable=False),
    sa.Column("queue_id", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    one_of("kind", KeyKind),
)

outbox_claims = sa.Table(
    "outbox_claims",
    metadata,
    position(),
    of_instance(),
    sa.Column("at", sa.Double, nullable=False),
    sa.Index(None, "instance", "at"),
)

disconnects = sa.Table(
    "disconnects",
    metadata,
    position(),
    of_instance(),
    sa.Column("at", sa.Double, nullable=False),
    sa.Index(None, "instance", "at"),
)

audit = sa.Table(
    "audit",
    metadata,
    position(),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False, comment="SHA-256 in hex"),
)

# AUTOINCREMENT, because whoever follows the log must never see a position twice, also after all was removed.
events = sa.Table(
    "events",
    metadata,
    position(),
    of_instance(),
    sa.Column("sequence", sa.BigInteger),
    sa.Column("event_id", sa.Text, nullable=False, unique=True),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("body", CleanText, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("secret_until", sa.Double),
    sa.UniqueConstraint("instance", "sequence"),
    partial_index("ix_events_secret", "instance", "secret_until", where="secret_until IS NOT NULL"),
    sqlite_autoincrement=True,
)

# How far retention came in each log: the position of the last event that it removed.
forgotten_events = sa.Table(
    "forgotten_events",
    metadata,
    of_instance(primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
)

# One per event at most, so it has the event's position.
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column(
        "position",
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        sa.ForeignKey("events.position", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("instance", sa.Text, nullable=False),
    sa.Column("url", CleanText, nullable=False),
    sa.Column("lane", CleanText, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Column("next_attempt_at", sa.Double, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("last_error", CleanText),
    sa.Column("attempted_at", sa.Double),
    sa.Column("failed_at", sa.Double),
    sa.CheckConstraint(either("state", DeliveryState), name="state"),
    partial_index("ix_deliveries_attempted", "instance", "attempted_at", where="attempted_at IS NOT NULL"),
    partial_index("ix_deliveries_lane", "instance", "url", "lane", "position", where="state = 'pending'"),
    partial_index("ix_deliveries_done", "attempted_at", where="state = 'delivered'"),
    partial_index("ix_deliveries_dead", "instance", "position", where="state = 'dead'"),
)

# A row is there only while an endpoint is in trouble.
webhook_endpoints = sa.Table(
    "webhook_endpoints",
    metadata,
    of_instance(primary_key=True),
    sa.Column("url", CleanText, primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("failing_since", sa.Double, nullable=False),
    sa.Column("last_error", CleanText, nullable=False),
    sa.Column("held", sa.Text),
    sa.Column("held_at", sa.Double),
    sa.Column("held_until", sa.Double),
    sa.Column("probes", sa.Integer, nullable=False),
    one_of("held", Held),
    sa.CheckConstraint("(held IS NULL) = (held_until IS NULL)", name="held_until"),
)

webhook_secrets = sa.Table(
    "webhook_secrets",
    metadata,
    of_instance(primary_key=True),
    sa.Column("current", sa.Text),
    sa.Column("previous", sa.Text),
    sa.Column("previous_until", sa.Double),
)

session_material = sa.Table(
    "session_material",
    metadata,
    of_instance(primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("id", CleanText, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)
