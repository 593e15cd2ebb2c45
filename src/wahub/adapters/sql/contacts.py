"""Rows of what WhatsApp said about numbers."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from wahub.adapters.sql.runner import Runner, for_both
from wahub.adapters.sql.tables import contacts
from wahub.ports.store import Knowledge

_KNOWLEDGE = ("exists", "checked_at")
_GET = sa.select(*(contacts.c[name] for name in _KNOWLEDGE)).where(contacts.c.phone == bindparam("wanted"))


def _put(insert: Any) -> sa.Executable:
    row = insert(contacts).values({name: bindparam(name) for name in ("phone", *_KNOWLEDGE)})
    put: sa.Executable = row.on_conflict_do_update(
        index_elements=[contacts.c.phone], set_={name: row.excluded[name] for name in _KNOWLEDGE}
    )
    return put


_PUT = for_both(_put)


class SqlContacts:
    """ports.store.Contacts."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def get(self, phone: str) -> Knowledge | None:
        row = self._runner.run(_GET, {"wanted": phone}).one_or_none()
        return None if row is None else Knowledge(*row)

    def put(self, phone: str, knowledge: Knowledge) -> None:
        values = {"phone": phone, "exists": knowledge.exists, "checked_at": knowledge.checked_at}
        self._runner.run(_PUT[self._runner.dialect], values)
