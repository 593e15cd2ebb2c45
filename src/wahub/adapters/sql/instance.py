"""Rows of instances."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from wahub.adapters.sql import lease
from wahub.adapters.sql.codec import Codec
from wahub.adapters.sql.runner import Runner, for_both, locked
from wahub.adapters.sql.tables import events, inbox, instances, outbox
from wahub.domain.errors import InstanceExistsError, InstanceNotFoundError
from wahub.domain.ids import InstanceId
from wahub.domain.instance import Config, EngineOptions, Instance, Observed, State

_CONFIG = ("name", "webhook_url", "webhook_events", "typing_enabled", "apply_typing_to", "proxy", "engine")
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
_COUNT = (
    sa.select(instances.c.state, sa.func.count().label("number"))
    .where(instances.c.deleting == sa.false())
    .group_by(instances.c.state)
)
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
_SHED = [
    sa.delete(table).where(
        table.c.position.in_(
            sa.select(table.c.position).where(table.c.instance == bindparam("of")).limit(bindparam("at_most"))
        )
    )
    for table in (events, inbox, outbox)
]
_NEXT = (
    sa.update(instances)
    .where(instances.c.id == bindparam("of"))
    .values(sequence=instances.c.sequence + bindparam("count", type_=sa.BigInteger))
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
        return None if row is None else _read(row, self._runner.codec)

    def list(self) -> Sequence[Instance]:
        return [_read(row, self._runner.codec) for row in self._runner.run(_LIST, {})]

    def count(self) -> Mapping[State, int]:
        return {State(row.state): row.number for row in self._runner.run(_COUNT, {})}

    def add(self, instance: Instance) -> None:
        added = self._runner.run(_ADD[self._runner.dialect], _values(instance, self._runner.codec)).one_or_none()
        if added is None:
            raise InstanceExistsError(instance.id)

    def save(self, instance: Instance) -> None:
        values = _values(instance, self._runner.codec)
        del values["created_at"]
        values["of"] = values.pop("id")
        if self._runner.run(_SAVE, values).rowcount == 0:
            raise InstanceNotFoundError(instance.id)

    def shed(self, instance: InstanceId, limit: int) -> int:
        removed = 0
        for statement in _SHED:
            if removed < limit:
                removed += self._runner.run(statement, {"of": instance, "at_most": limit - removed}).rowcount
        return removed

    def delete(self, instance: InstanceId) -> None:
        # The lease first, as every fenced transaction does, so that the two cannot wait for each other.
        lease.expire(self._runner, instance)
        self._runner.run(_DELETE, {"of": instance})

    def next_sequences(self, instance: InstanceId, count: int) -> int:
        last: int | None = self._runner.run(_NEXT, {"of": instance, "count": count}).scalar_one_or_none()
        if last is None:
            raise InstanceNotFoundError(instance)
        return last - count + 1


def _values(instance: Instance, codec: Codec) -> dict[str, Any]:
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
        proxy=None if config.proxy is None else codec.text_in(config.proxy),
        engine=_encode_options(config.engine),
        state=observed.state.value,
    )
    return values


@lru_cache(maxsize=256)
def _words(column: str) -> tuple[str, ...]:
    """A list of words. Every transaction on an instance reads its row, and few different lists exist."""
    return tuple(json.loads(column))


_OPTIONS: Final = frozenset(field.name for field in fields(EngineOptions))


@lru_cache(maxsize=256)
def _encode_options(options: EngineOptions) -> str:
    """`{option: value}` of those that are set, so `{}` of most; kept, because every save of an instance asks."""
    chosen = {name: getattr(options, name) for name in sorted(_OPTIONS)}
    return json.dumps({name: value for name, value in chosen.items() if value is not None})


@lru_cache(maxsize=256)
def _decode_options(column: str) -> EngineOptions:
    """The reverse; an option that a later version wrote is left out."""
    return EngineOptions(**{name: value for name, value in json.loads(column).items() if name in _OPTIONS})


@lru_cache(maxsize=1024)
def _config(
    name: str, url: str | None, events: str, typing: bool, typing_to: str, proxy: str | None, engine: str
) -> Config:
    """Kept, because to make one takes longer than to find it, and it hardly ever changes."""
    return Config(name, url, _words(events), typing, _words(typing_to), proxy, _decode_options(engine))


def _read(row: Sequence[Any], codec: Codec) -> Instance:
    # In the order of _COLUMNS.
    identity, created_at, deleting, unlinking, name, url, events, typing, typing_to, proxy, engine, state, *seen = row
    proxy = None if proxy is None else codec.text_out(proxy)
    return Instance(
        id=InstanceId(identity),
        created_at=created_at,
        deleting=deleting,
        unlinking=unlinking,
        config=_config(name, url, events, typing, typing_to, proxy, engine),
        observed=Observed(State(state), *seen),
    )
