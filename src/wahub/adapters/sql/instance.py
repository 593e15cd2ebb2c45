"""Rows of instances."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from wahub.adapters.sql import lease
from wahub.adapters.sql.runner import Runner, for_both, locked
from wahub.adapters.sql.tables import instances
from wahub.domain.errors import InstanceExistsError, InstanceNotFoundError
from wahub.domain.ids import InstanceId
from wahub.domain.instance import Config, Instance, Observed, State

_CONFIG = ("name", "webhook_url", "webhook_events", "typing_enabled", "apply_typing_to")
_OBSERVED = (
    *("state", "state_at", "phone", "lid", "display_name", "qr", "qr_expires_at", "last_event", "last_event_at"),
    *("last_error", "last_disconnect_reason", "last_disconnect_at", "authenticated_at", "ready_at", "last_ready_at"),
    "restart_attempts",
)
_COLUMNS = ("id", "created_at", "deleting", "unlinking", *_CONFIG, *_OBSERVED)
_ALL = sa.select(*(instances.c[name] for name in _COLUMNS))

_GET = _ALL.where(instances.c.id == bindparam("instance"))
_GET_LOCKED = locked(_GET)
_LIST = _ALL.order_by(instances.c.created_at, instances.c.id)
_ADD = for_both(
    lambda insert: (
        insert(instances)
        .values({name: bindparam(name) for name in _COLUMNS})
        .on_conflict_do_nothing(index_elements=[instances.c.id])
        .returning(instances.c.id)
    )
)
_SAVE = (
    sa.update(instances)
    .where(instances.c.id == bindparam("of"))
    .values({name: bindparam(name) for name in _COLUMNS if name not in ("id", "created_at")})
)
_DELETE = sa.delete(instances).where(instances.c.id == bindparam("of"))
_NEXT = (
    sa.update(instances)
    .where(instances.c.id == bindparam("of"))
    .values(sequence=instances.c.sequence + 1)
    .returning(instances.c.sequence)
)


class SqlInstances:
    """ports.store.Instances."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def get(self, instance: InstanceId, *, for_update: bool = False) -> Instance | None:
        if for_update:
            self._runner.needs_write()
        row = self._runner.run(_GET_LOCKED if for_update else _GET, {"instance": instance}).one_or_none()
        return None if row is None else _read(row)

    def list(self) -> Sequence[Instance]:
        return [_read(row) for row in self._runner.run(_LIST, {})]

    def add(self, instance: Instance) -> None:
        added = self._runner.run(_ADD[self._runner.dialect], _values(instance)).one_or_none()
        if added is None:
            raise InstanceExistsError(instance.id)

    def save(self, instance: Instance) -> None:
        values = _values(instance)
        del values["created_at"]
        values["of"] = values.pop("id")
        if self._runner.run(_SAVE, values).rowcount == 0:
            raise InstanceNotFoundError(instance.id)

    def delete(self, instance: InstanceId) -> None:
        # The lease first, as every fenced transaction does, so that the two cannot wait for each other.
        lease.expire(self._runner, instance)
        self._runner.run(_DELETE, {"of": instance})

    def next_sequence(self, instance: InstanceId) -> int:
        number: int | None = self._runner.run(_NEXT, {"of": instance}).scalar_one_or_none()
        if number is None:
            raise InstanceNotFoundError(instance)
        return number


def _values(instance: Instance) -> dict[str, Any]:
    config, observed = instance.config, instance.observed
    values = {name: getattr(config, name) for name in _CONFIG}
    values.update({name: getattr(observed, name) for name in _OBSERVED})
    values.update(
        id=instance.id,
        created_at=instance.created_at,
        deleting=instance.deleting,
        unlinking=instance.unlinking,
        webhook_events=json.dumps(config.webhook_events),
        apply_typing_to=json.dumps(config.apply_typing_to),
        state=observed.state.value,
    )
    return values


@lru_cache(maxsize=256)
def _words(column: str) -> tuple[str, ...]:
    """A list of words. Every transaction on an instance reads its row, and few different lists exist."""
    return tuple(json.loads(column))


def _read(row: Sequence[Any]) -> Instance:
    # In the order of _COLUMNS.
    identity, created_at, deleting, unlinking, name, url, events, typing, typing_to, state, *observed = row
    return Instance(
        id=InstanceId(identity),
        created_at=created_at,
        deleting=deleting,
        unlinking=unlinking,
        config=Config(name, url, _words(events), typing, _words(typing_to)),
        observed=Observed(State(state), *observed),
    )
