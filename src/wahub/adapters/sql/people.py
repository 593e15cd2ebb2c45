"""Rows of contacts."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from wahub.adapters.sql.chats import SqlChats
from wahub.adapters.sql.runner import Runner, for_both
from wahub.adapters.sql.tables import inbox, people
from wahub.domain.contact import Contact
from wahub.domain.ids import InstanceId

_COLUMNS = ("id", "phone", "lid", "name", "created_at", "merged_into")
_ALL = sa.select(*(people.c[name] for name in _COLUMNS)).where(people.c.instance == bindparam("instance"))
_BY = {name: _ALL.where(people.c[name] == bindparam("wanted")) for name in ("id", "phone", "lid")}


def _save(insert: Any) -> sa.Executable:
    row = insert(people).values({name: bindparam(name) for name in ("instance", *_COLUMNS)})
    saved: sa.Executable = row.on_conflict_do_update(
        index_elements=[people.c.instance, people.c.id], set_={name: row.excluded[name] for name in _COLUMNS[1:]}
    )
    return saved


_SAVE = for_both(_save)
_OF: sa.BindParameter[str] = bindparam("of")
_MOVE_MESSAGES = (
    sa.update(inbox)
    .where(inbox.c.instance == _OF, inbox.c.chat_key == bindparam("gone"))
    .values(chat_key=bindparam("kept"))
)
_MOVE_MERGED = (
    sa.update(people)
    .where(people.c.instance == _OF, people.c.merged_into == bindparam("gone"))
    .values(merged_into=bindparam("kept"))
)


class SqlPeople:
    """ports.messages.People."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def get(self, instance: InstanceId, contact: str) -> Contact | None:
        return self._by("id", instance, contact)

    def by_phone(self, instance: InstanceId, phone: str) -> Contact | None:
        return self._by("phone", instance, phone)

    def by_lid(self, instance: InstanceId, lid: str) -> Contact | None:
        return self._by("lid", instance, lid)

    def save(self, instance: InstanceId, contact: Contact) -> None:
        values = {name: getattr(contact, name) for name in _COLUMNS}
        self._runner.run(_SAVE[self._runner.dialect], {"instance": instance, **values})

    def redirect(self, instance: InstanceId, gone: str, kept: str) -> None:
        values = {"of": instance, "gone": gone, "kept": kept}
        self._runner.run(_MOVE_MESSAGES, values)
        self._runner.run(_MOVE_MERGED, values)
        SqlChats(self._runner).merge(instance, gone, kept)

    def _by(self, column: str, instance: InstanceId, wanted: str) -> Contact | None:
        row = self._runner.run(_BY[column], {"instance": instance, "wanted": wanted}).one_or_none()
        return None if row is None else Contact(*row)
