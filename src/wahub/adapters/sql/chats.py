"""Rows of chats."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from wahub.adapters.sql.runner import Runner, for_both
from wahub.adapters.sql.tables import chats
from wahub.domain.ids import InstanceId
from wahub.ports.messages import ChatNews

_LAST = ("last_at", "last_message_id", "last_type", "last_text", "last_from_me")
_KEY = (chats.c.instance, chats.c.key)


def _note(insert: Any) -> sa.Executable:
    row = insert(chats).values({name: bindparam(name) for name in ("instance", "key", *_LAST)})
    noted: sa.Executable = row.on_conflict_do_update(
        index_elements=_KEY,
        set_={name: row.excluded[name] for name in _LAST},
        where=row.excluded.last_at >= chats.c.last_at,
    )
    return noted


def _set_title(insert: Any) -> sa.Executable:
    row = insert(chats).values(
        instance=bindparam("instance"), key=bindparam("key"), title=bindparam("title"), last_at=0
    )
    titled: sa.Executable = row.on_conflict_do_update(index_elements=_KEY, set_={"title": row.excluded.title})
    return titled


_NOTE, _SET_TITLE = for_both(_note), for_both(_set_title)
_ONE = sa.select(*(chats.c[name] for name in _LAST)).where(
    chats.c.instance == bindparam("instance"), chats.c.key == bindparam("key")
)
_REMOVE = sa.delete(chats).where(chats.c.instance == bindparam("instance"), chats.c.key == bindparam("key"))


class SqlChats:
    """ports.messages.Chats."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def note(self, instance: InstanceId, key: str, news: ChatNews) -> None:
        self.note_all(instance, {key: news})

    def note_all(self, instance: InstanceId, latest: Mapping[str, ChatNews]) -> None:
        text_in = self._runner.codec.text_in
        # Sorted, so that two writers of the same chats take PostgreSQL's row locks in the same order.
        rows = [
            _row(instance, key, (news.at, news.message_id, news.type, text_in(news.text), news.from_me))
            for key, news in sorted(latest.items(), key=itemgetter(0))
        ]
        if rows:
            self._runner.run_many(_NOTE[self._runner.dialect], rows)

    def set_title(self, instance: InstanceId, key: str, title: str | None) -> None:
        values = {"instance": instance, "key": key, "title": title}
        self._runner.run(_SET_TITLE[self._runner.dialect], values)

    def merge(self, instance: InstanceId, gone: str, kept: str) -> None:
        """What is known of one chat is known of the other, which may not be there yet."""
        place = {"instance": instance, "key": gone}
        row = self._runner.run(_ONE, place).one_or_none()
        if row is not None:
            self._runner.run(_NOTE[self._runner.dialect], _row(instance, kept, tuple(row)))
            self._runner.run(_REMOVE, place)


def _row(instance: InstanceId, key: str, last: tuple[Any, ...]) -> dict[str, Any]:
    return {"instance": instance, "key": key, **dict(zip(_LAST, last, strict=True))}
