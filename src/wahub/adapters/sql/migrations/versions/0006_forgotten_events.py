"""How far retention came in the event log of each instance.

Of what was removed before, the positions are not known. They are taken to be as late as they can be: just before the
first event that follows a missing number, or at the end of the log when the newest is missing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "forgotten_events",
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance"], ["instances.id"], name=op.f("fk_forgotten_events_instance"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("instance", name=op.f("pk_forgotten_events")),
    )
    op.execute(
        "INSERT INTO forgotten_events (instance, position)"
        " SELECT id, (SELECT COALESCE(MAX(position), 0) FROM events) FROM instances"
        " WHERE sequence > 0 AND NOT EXISTS"
        " (SELECT 1 FROM events WHERE events.instance = instances.id AND events.sequence = instances.sequence)"
    )
    op.execute(
        "INSERT INTO forgotten_events (instance, position)"
        " SELECT events.instance, MAX(events.position) - 1 FROM events"
        " WHERE events.sequence > 1 AND NOT EXISTS (SELECT 1 FROM events AS before"
        " WHERE before.instance = events.instance AND before.sequence = events.sequence - 1)"
        " AND NOT EXISTS (SELECT 1 FROM forgotten_events AS done WHERE done.instance = events.instance)"
        " GROUP BY events.instance"
    )
