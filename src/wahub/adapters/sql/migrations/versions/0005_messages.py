"""People, chats, files of messages, and what is known of each received message beside its text.

Messages of earlier versions get the contact of their sender and their place in a chat from their addresses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_DIRECT = ("@s.whatsapp.net", "@lid")
_ABOUT_OTHERS = ("reaction", "edit", "delete", "vote")


def upgrade() -> None:
    _add_people()
    _add_chats()
    _add_missed()
    _add_media_files()
    for column in (
        sa.Column(
            "chat_key", sa.Text(), nullable=False, server_default=sa.text("''"), comment="contact id, or JID of a group"
        ),
        sa.Column("author_key", sa.Text(), comment="contact id; null: ours"),
        sa.Column("sender_lid", sa.Text()),
        sa.Column("push_name", sa.Text()),
        sa.Column("target", sa.Text(), comment="the message that it is about"),
        sa.Column("details", sa.Text(), comment="JSON, in the words of callers"),
        sa.Column(
            "listed", sa.Boolean(), nullable=False, server_default=sa.false(), comment="a message, not about another"
        ),
    ):
        op.add_column("inbox", column)
    _place_messages(op.get_bind())
    op.create_index("ix_inbox_instance_message_id", "inbox", ["instance", "message_id"])
    op.create_index(
        "ix_inbox_instance_chat_key_listed_timestamp_position",
        "inbox",
        ["instance", "chat_key", "listed", "timestamp", "position"],
    )
    _index("ix_inbox_target", "inbox", ["instance", "target"], "target IS NOT NULL")


def _index(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=False, sqlite_where=condition, postgresql_where=condition)


def _of_instance(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["instance"], ["instances.id"], name=f"fk_{table}_instance", ondelete="CASCADE")


def _add_people() -> None:
    op.create_table(
        "people",
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text()),
        sa.Column("lid", sa.Text()),
        sa.Column("name", sa.Text()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("merged_into", sa.Text()),
        _of_instance("people"),
        sa.PrimaryKeyConstraint("instance", "id", name="pk_people"),
        sa.UniqueConstraint("instance", "phone", name="uq_people_instance_phone"),
        sa.UniqueConstraint("instance", "lid", name="uq_people_instance_lid"),
        sa.CheckConstraint(
            "(merged_into IS NULL) = (phone IS NOT NULL OR lid IS NOT NULL)", name=op.f("ck_people_address")
        ),
    )
    _index("ix_people_merged", "people", ["instance", "merged_into"], "merged_into IS NOT NULL")


def _add_chats() -> None:
    op.create_table(
        "chats",
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="contact id, or JID of a group"),
        sa.Column("title", sa.Text()),
        sa.Column("last_at", sa.BigInteger(), nullable=False, comment="0: nothing was said yet"),
        sa.Column("last_message_id", sa.Text()),
        sa.Column("last_type", sa.Text()),
        sa.Column("last_text", sa.Text()),
        sa.Column("last_from_me", sa.Boolean()),
        _of_instance("chats"),
        sa.PrimaryKeyConstraint("instance", "key", name="pk_chats"),
    )
    op.create_index("ix_chats_instance_last_at_key", "chats", ["instance", "last_at", "key"])


def _add_missed() -> None:
    op.create_table(
        "missed",
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("chat", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        _of_instance("missed"),
        sa.PrimaryKeyConstraint("instance", "message_id", "chat", "sender", name="pk_missed"),
    )
    op.create_index("ix_missed_instance_at", "missed", ["instance", "at"])


def _add_media_files() -> None:
    op.create_table(
        "media_files",
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), comment="below the media folder"),
        sa.Column("mime", sa.Text()),
        sa.Column("size", sa.BigInteger()),
        sa.Column("sha256", sa.Text()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.Double()),
        sa.Column("fetched_at", sa.Double()),
        sa.Column("error", sa.Text()),
        _of_instance("media_files"),
        sa.PrimaryKeyConstraint("instance", "message_id", name="pk_media_files"),
        sa.CheckConstraint("state IN ('wanted', 'here', 'failed')", name=op.f("ck_media_files_state")),
    )
    _index("ix_media_files_wanted", "media_files", ["next_attempt_at"], "state = 'wanted'")
    _index("ix_media_files_here", "media_files", ["fetched_at"], "state = 'here'")


# --- the messages that are there already ------------------------------------------------------------------------------

_inbox = sa.table(
    "inbox",
    *(
        sa.column(name)
        for name in (
            *("position", "instance", "chat", "sender", "sender_phone", "message_id", "from_me", "type", "text"),
            *("timestamp", "received_at", "chat_key", "author_key", "listed"),
        )
    ),
)
_people = sa.table("people", *(sa.column(name) for name in ("instance", "id", "phone", "lid", "created_at")))
_chats = sa.table(
    "chats",
    *(
        sa.column(name)
        for name in ("instance", "key", "last_at", "last_message_id", "last_type", "last_text", "last_from_me")
    ),
)


def _place_messages(connection: sa.Connection) -> None:
    known: dict[tuple[str, str], str] = {}
    for instance, jid, phone, first in _addresses(connection):
        user, lid = jid.partition("@")[0].partition(":")[0], jid.endswith("@lid")
        number = phone if lid else user
        person = known.get((instance, f"{number}@s.whatsapp.net")) or known.get((instance, jid))
        if person is None:
            person = "c_" + hashlib.sha256(f"{instance}:{jid}".encode()).hexdigest()[:20]
            row = {"instance": instance, "id": person, "phone": number, "lid": user if lid else None}
            connection.execute(_people.insert().values(**row, created_at=first))
        known[instance, jid] = person
        if number:
            known[instance, f"{number}@s.whatsapp.net"] = person
    of = _inbox.c
    for (instance, jid), person in known.items():
        mine = of.instance == instance
        connection.execute(_inbox.update().where(mine, of.chat == jid).values(chat_key=person))
        theirs = (mine, of.sender == jid, of.from_me == sa.false())
        connection.execute(_inbox.update().where(*theirs).values(author_key=person))
    connection.execute(_inbox.update().where(of.chat_key == "").values(chat_key=of.chat))
    connection.execute(_inbox.update().where(of.type.not_in(_ABOUT_OTHERS)).values(listed=sa.true()))
    _begin_chats(connection)


def _addresses(connection: sa.Connection) -> Iterator[tuple[str, str, str | None, float]]:
    """Instance, JID, number beside it, first seen. LIDs with a number first: they tell who the others are."""
    of, found = _inbox.c, dict[tuple[str, str], tuple[str | None, float]]()
    senders = sa.select(of.instance, of.sender, of.sender_phone, of.received_at).where(of.from_me == sa.false())
    chats = sa.select(of.instance, of.chat, sa.null(), of.received_at)
    for instance, jid, phone, at in [*connection.execute(senders), *connection.execute(chats)]:
        if jid.endswith(_DIRECT):
            before = found.get((instance, jid), (None, at))
            found[instance, jid] = (before[0] or phone, min(before[1], at))
    taken: set[tuple[str, str]] = set()
    for (instance, jid), (phone, at) in sorted(found.items(), key=lambda item: not item[0][1].endswith("@lid")):
        # Two LIDs with one number: the number stays with the first.
        alone = phone if phone and (instance, phone) not in taken else None
        taken.add((instance, alone or ""))
        yield instance, jid, alone, at


def _begin_chats(connection: sa.Connection) -> None:
    of = _inbox.c
    latest = sa.select(sa.func.max(of.position)).group_by(of.instance, of.chat_key)
    told: Any = of.type.not_in(_ABOUT_OTHERS)
    rows = sa.select(of.instance, of.chat_key, of.timestamp, of.message_id, of.type, of.text, of.from_me).where(
        of.position.in_(latest.where(told)), of.chat != "status@broadcast"
    )
    connection.execute(_chats.insert().from_select([column.name for column in _chats.c], rows))
