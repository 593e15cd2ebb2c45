"""Positions in the log of all instances, and how far retention came in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam, literal_column

from wahub.adapters.sql.runner import ByDialect, Runner, for_both
from wahub.adapters.sql.tables import events, forgotten_events
from wahub.domain.ids import InstanceId

_OF = sa.select(events.c.position).where(
    events.c.instance == bindparam("instance"), events.c.sequence == bindparam("number")
)
_NEWEST = sa.select(sa.func.coalesce(sa.func.max(events.c.position), 0))
# The last event may be gone with its instance, so the rows do not say what was given out.
_GIVEN: Final[ByDialect[sa.Executable]] = {
    "sqlite": sa.select(literal_column("seq").label("given"))
    .select_from(sa.table("sqlite_sequence"))
    .where(literal_column("name") == literal_column("'events'")),
    "postgresql": sa.select(
        sa.func.pg_sequence_last_value(
            sa.func.pg_get_serial_sequence(literal_column("'events'"), literal_column("'position'"))
        )
    ),
}
_FORGOTTEN = sa.select(forgotten_events.c.position).where(forgotten_events.c.instance == bindparam("instance"))
_FORGOTTEN_BEYOND = (
    sa.select(forgotten_events.c.instance)
    .where(forgotten_events.c.position > bindparam("beyond"))
    .order_by(forgotten_events.c.instance)
)


def _noted(insert: Callable[[sa.Table], Any]) -> sa.Executable:
    row = insert(forgotten_events).values(instance=bindparam("instance"), position=bindparam("position"))
    noted: sa.Executable = row.on_conflict_do_update(
        index_elements=[forgotten_events.c.instance],
        set_={"position": row.excluded.position},
        where=forgotten_events.c.position < row.excluded.position,
    )
    return noted


_NOTE = for_both(_noted)


def note_forgotten(runner: Runner, last: Mapping[InstanceId, int]) -> None:
    """Retention is about to remove events up to these positions. In the order of ids, so that no two wait in a ring."""
    for instance, position in sorted(last.items()):
        runner.run(_NOTE[runner.dialect], {"instance": instance, "position": position})


class SqlPlaces:
    """ports.events.Places."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def of(self, instance: InstanceId, sequence: int) -> int | None:
        position: int | None = self._runner.run(_OF, {"instance": instance, "number": sequence}).scalar_one_or_none()
        return position

    def newest(self) -> int:
        position: int = self._runner.run(_NEWEST, {}).scalar_one()
        return position

    def given(self) -> int:
        position: int | None = self._runner.run(_GIVEN[self._runner.dialect], {}).scalar_one_or_none()
        return position or 0

    def forgotten(self, instance: InstanceId) -> int:
        position: int | None = self._runner.run(_FORGOTTEN, {"instance": instance}).scalar_one_or_none()
        return position or 0

    def forgotten_beyond(self, position: int) -> Sequence[InstanceId]:
        return [row.instance for row in self._runner.run(_FORGOTTEN_BEYOND, {"beyond": position})]
