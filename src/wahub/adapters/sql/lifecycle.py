"""Rows of lifecycle records and of incidents.

A record is one JSON text, so that a new field needs no migration: a field that has its default is left out, one that
this version does not know is ignored. Only what is searched for, what a caller asked, has a column of its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam, literal_column

from wahub.adapters.sql.runner import Runner, for_both, locked
from wahub.adapters.sql.tables import incidents, instances, lifecycles
from wahub.domain.ids import InstanceId
from wahub.domain.lifecycle import Ask, Incident, IncidentKind, Lifecycle

KEPT_INCIDENTS: Final = 100
"""Of each instance."""

_COLUMNS = ("instance", "asked", "record")
_ALL = sa.select(*(lifecycles.c[name] for name in _COLUMNS))
_GET = _ALL.where(lifecycles.c.instance == bindparam("instance"))
_LIST = _ALL.order_by(lifecycles.c.instance)
_ASKED = sa.select(lifecycles.c.instance).where(lifecycles.c.asked.is_not(None)).order_by(lifecycles.c.instance)
# There may be no record to lock yet, but its instance is there.
_LOCK = locked(sa.select(instances.c.id).where(instances.c.id == bindparam("instance")))


def _save(insert: Any) -> sa.Executable:
    row = insert(lifecycles).values({name: bindparam(name) for name in _COLUMNS})
    save: sa.Executable = row.on_conflict_do_update(
        index_elements=[lifecycles.c.instance], set_={name: row.excluded[name] for name in ("asked", "record")}
    )
    return save


_SAVE = for_both(_save)
_ADD_INCIDENT = sa.insert(incidents).values({name: bindparam(name) for name in ("instance", "kind", "details", "at")})
_NEWEST_FIRST = incidents.c.position.desc()
_OLDEST_KEPT = (
    sa.select(incidents.c.position)
    .where(incidents.c.instance == bindparam("of"))
    .order_by(_NEWEST_FIRST)
    .limit(literal_column("1"))
    .offset(literal_column(str(KEPT_INCIDENTS - 1)))
    .scalar_subquery()
)
_FORGET = sa.delete(incidents).where(incidents.c.instance == bindparam("of"), incidents.c.position < _OLDEST_KEPT)
_INCIDENTS = (
    sa.select(incidents.c.kind, incidents.c.details, incidents.c.at)
    .where(incidents.c.instance == bindparam("instance"))
    .order_by(_NEWEST_FIRST)
    .limit(bindparam("at_most"))
)


class SqlLifecycles:
    """ports.store.Lifecycles."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def get(self, instance: InstanceId, *, for_update: bool = False) -> Lifecycle:
        if for_update:
            self._runner.needs_write()
            if self._runner.may_wait_for_rows:
                # A statement of its own: the next one sees what the holder of the lock wrote.
                self._runner.run(_LOCK, {"instance": instance})
        row = self._runner.run(_GET, {"instance": instance}).one_or_none()
        return Lifecycle(instance) if row is None else self._read(row)

    def list(self) -> Sequence[Lifecycle]:
        return [self._read(row) for row in self._runner.run(_LIST, {})]

    def asked(self) -> Sequence[InstanceId]:
        return [InstanceId(name) for name in self._runner.run(_ASKED, {}).scalars()]

    def save(self, record: Lifecycle) -> None:
        values = {
            "instance": record.instance,
            "asked": None if record.asked is None else record.asked.value,
            "record": self._runner.codec.text_in(encode_record(record)),
        }
        self._runner.run(_SAVE[self._runner.dialect], values)

    def add_incident(self, instance: InstanceId, incident: Incident) -> None:
        self.save(self.get(instance, for_update=True).counting(incident.kind))
        values = {
            "instance": instance,
            "kind": incident.kind.value,
            "details": incident.details,
            "at": incident.at,
        }
        self._runner.run(_ADD_INCIDENT, values)
        self._runner.run(_FORGET, {"of": instance})

    def incidents(self, instance: InstanceId, limit: int) -> Sequence[Incident]:
        rows = self._runner.run(_INCIDENTS, {"instance": instance, "at_most": limit})
        return [Incident(IncidentKind(row.kind), row.details, row.at) for row in rows if row.kind in _KINDS]

    def _read(self, row: Sequence[Any]) -> Lifecycle:
        instance, asked, record = row
        return Lifecycle(
            InstanceId(instance),
            asked=None if asked is None else Ask(asked),
            **decode_record(self._runner.codec.text_out(record)),
        )


_KINDS: Final = frozenset(IncidentKind)
"""A kind that a later version wrote down is left out."""
_BLANK: Final = Lifecycle(InstanceId(""))
_DEFAULTS: Final[dict[str, Any]] = {
    field.name: getattr(_BLANK, field.name) for field in fields(Lifecycle) if field.name not in ("instance", "asked")
}
_to_json: Final = json.JSONEncoder(separators=(",", ":")).encode


def encode_record(record: Lifecycle) -> str:
    """What the record's own columns do not hold and is not its default, as compact ASCII JSON `{field: value}`."""
    stored = {}
    for name, default in _DEFAULTS.items():
        value = getattr(record, name)
        if value != default:
            stored[name] = value
    return _to_json(stored)


def decode_record(column: str) -> dict[str, Any]:
    """The reverse: arguments of `Lifecycle`."""
    return {name: _frozen(value) for name, value in json.loads(column).items() if name in _DEFAULTS}


def _frozen(value: Any) -> Any:
    """Fields hold no lists, so a JSON list was a tuple."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
