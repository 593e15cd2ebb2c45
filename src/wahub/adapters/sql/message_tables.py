"""The tables of what was said, by whom and where; tables.py has the others and hands these on.

What WhatsApp said of a number (`contacts`) belongs to no instance; who people are (`people`) each instance knows for
itself.
"""

from __future__ import annotations

import sqlalchemy as sa

from wahub.adapters.sql.schema import CleanText, metadata, of_instance, partial_index, position

contacts = sa.Table(
    "contacts",
    metadata,
    sa.Column("phone", sa.Text, primary_key=True),
    sa.Column("exists", sa.Boolean, nullable=False),
    sa.Column("checked_at", sa.Double, nullable=False),
)

inbox = sa.Table(
    "inbox",
    metadata,
    position(),
    of_instance(),
    sa.Column("chat", CleanText, nullable=False),
    sa.Column("sender", CleanText, nullable=False),
    sa.Column("sender_phone", CleanText),
    sa.Column("message_id", CleanText, nullable=False),
    sa.Column("from_me", sa.Boolean, nullable=False),
    sa.Column("type", CleanText, nullable=False),
    sa.Column("text", CleanText, nullable=False),
    sa.Column("timestamp", sa.BigInteger, nullable=False),
    sa.Column("raw", CleanText),
    sa.Column("received_at", sa.Double, nullable=False),
    sa.Column(
        "chat_key", CleanText, nullable=False, server_default=sa.text("''"), comment="contact id, or JID of a group"
    ),
    sa.Column("author_key", CleanText, comment="contact id; null: ours"),
    sa.Column("sender_lid", CleanText),
    sa.Column("push_name", CleanText),
    sa.Column("target", CleanText, comment="the message that it is about"),
    sa.Column("details", CleanText, comment="JSON, in the words of callers"),
    sa.Column("listed", sa.Boolean, nullable=False, server_default=sa.false(), comment="a message, not about another"),
    sa.UniqueConstraint("instance", "chat", "sender", "message_id"),
    sa.Index(None, "instance", "received_at"),
    sa.Index(None, "instance", "message_id"),
    # With `listed` in front of the time, a page of a chat never walks over its votes and reactions.
    sa.Index(None, "instance", "chat_key", "listed", "timestamp", "position"),
    partial_index("ix_inbox_target", "instance", "target", where="target IS NOT NULL"),
)

# A person has one row per instance. One that was merged keeps its row, without addresses, for those who know its id.
people = sa.Table(
    "people",
    metadata,
    of_instance(primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("phone", CleanText),
    sa.Column("lid", CleanText),
    sa.Column("name", CleanText),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("merged_into", sa.Text),
    sa.UniqueConstraint("instance", "phone"),
    sa.UniqueConstraint("instance", "lid"),
    sa.CheckConstraint("(merged_into IS NULL) = (phone IS NOT NULL OR lid IS NOT NULL)", name="address"),
    partial_index("ix_people_merged", "instance", "merged_into", where="merged_into IS NOT NULL"),
)

chats = sa.Table(
    "chats",
    metadata,
    of_instance(primary_key=True),
    sa.Column("key", CleanText, primary_key=True, comment="contact id, or JID of a group"),
    sa.Column("title", CleanText),
    sa.Column("last_at", sa.BigInteger, nullable=False, comment="0: nothing was said yet"),
    sa.Column("last_message_id", CleanText),
    sa.Column("last_type", CleanText),
    sa.Column("last_text", CleanText),
    sa.Column("last_from_me", sa.Boolean),
    sa.Index(None, "instance", "last_at", "key"),
)

# Messages that could not be read when they came. One that came after all is in the inbox, too.
missed = sa.Table(
    "missed",
    metadata,
    of_instance(primary_key=True),
    sa.Column("message_id", CleanText, primary_key=True),
    sa.Column("chat", CleanText, primary_key=True),
    sa.Column("sender", CleanText, primary_key=True),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Index(None, "instance", "at"),
)

media_files = sa.Table(
    "media_files",
    metadata,
    of_instance(primary_key=True),
    sa.Column("message_id", CleanText, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("path", sa.Text, comment="below the media folder"),
    sa.Column("mime", sa.Text),
    sa.Column("size", sa.BigInteger),
    sa.Column("sha256", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_attempt_at", sa.Double),
    sa.Column("fetched_at", sa.Double),
    sa.Column("error", sa.Text),
    sa.CheckConstraint("state IN ('wanted', 'here', 'failed')", name="state"),
    partial_index("ix_media_files_wanted", "next_attempt_at", where="state = 'wanted'"),
    partial_index("ix_media_files_here", "fetched_at", where="state = 'here'"),
)
