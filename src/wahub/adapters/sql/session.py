"""Rows of session material. The hottest table: every message that goes out or comes in moves a key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from wahub.adapters.sql.runner import Runner, for_both
from wahub.adapters.sql.tables import session_material as table
from wahub.domain.ids import InstanceId
from wahub.domain.session import KeyChanges, KeyName

_FEW: Final = 8
_CHUNK: Final = 400

_READ = sa.select(table.c.value).where(
    table.c.instance == bindparam("instance"), table.c.kind == bindparam("kind"), table.c.id == bindparam("id")
)
_READ_MANY = sa.select(table.c.id, table.c.value).where(
    table.c.instance == bindparam("instance"),
    table.c.kind == bindparam("kind"),
    table.c.id.in_(bindparam("ids", expanding=True)),
)


def _put(insert: Any) -> sa.Executable:
    row = insert(table).values({name: bindparam(name) for name in ("instance", "kind", "id", "value")})
    put: sa.Executable = row.on_conflict_do_update(
        index_elements=[table.c.instance, table.c.kind, table.c.id], set_={"value": row.excluded.value}
    )
    return put


_PUT = for_both(_put)
_REMOVE = sa.delete(table).where(
    table.c.instance == bindparam("instance"), table.c.kind == bindparam("kind"), table.c.id == bindparam("id")
)
_PURGE = sa.delete(table).where(table.c.instance == bindparam("instance"))


class SqlSessions:
    """ports.store.Sessions."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def read(self, instance: InstanceId, names: Iterable[KeyName]) -> Mapping[KeyName, bytes]:
        wanted = list(names)
        found = self._read_few(instance, wanted) if len(wanted) <= _FEW else self._read_many(instance, wanted)
        opened = self._runner.codec.bytes_out
        return {name: opened(value) for name, value in found.items()}

    def write(self, instance: InstanceId, changes: KeyChanges) -> None:
        codec = self._runner.codec
        # Sorted, so that two writers of the same keys take PostgreSQL's row locks in the same order.
        values = sorted(changes.values.items(), key=lambda item: (item[0].kind, item[0].id))
        puts, removals = [], []
        for name, value in values:
            row = {"instance": instance, "kind": name.kind, "id": name.id}
            if value is None:
                removals.append(row)
            else:
                puts.append({**row, "value": codec.bytes_in(value)})
        if puts:
            self._runner.run_many(_PUT[self._runner.dialect], puts)
        if removals:
            self._runner.run_many(_REMOVE, removals)

    def purge(self, instance: InstanceId) -> int:
        return self._runner.run(_PURGE, {"instance": instance}).rowcount

    def _read_few(self, instance: InstanceId, names: list[KeyName]) -> dict[KeyName, bytes]:
        found: dict[KeyName, bytes] = {}
        for name in names:
            values = {"instance": instance, "kind": name.kind, "id": name.id}
            value = self._runner.run(_READ, values).scalar_one_or_none()
            if value is not None:
                found[name] = value
        return found

    def _read_many(self, instance: InstanceId, names: list[KeyName]) -> dict[KeyName, bytes]:
        ids_of: dict[str, list[str]] = {}
        for name in names:
            ids_of.setdefault(name.kind, []).append(name.id)
        found: dict[KeyName, bytes] = {}
        for kind, ids in ids_of.items():
            for start in range(0, len(ids), _CHUNK):
                values = {"instance": instance, "kind": kind, "ids": ids[start : start + _CHUNK]}
                for row in self._runner.run(_READ_MANY, values):
                    found[KeyName(kind, row.id)] = row.value
        return found
