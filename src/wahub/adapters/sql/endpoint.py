"""Rows of webhook endpoints in trouble, and of instances' own secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam, literal_column

from wahub.adapters.sql.runner import Runner, for_both
from wahub.adapters.sql.tables import deliveries, webhook_endpoints, webhook_secrets
from wahub.domain.endpoint import Held, Secrets, Trouble
from wahub.domain.ids import InstanceId
from wahub.domain.webhook import ASIDE

_PENDING: sa.ColumnElement[str] = literal_column("'pending'")
_DELIVERED: sa.ColumnElement[str] = literal_column("'delivered'")
_TROUBLE = (
    *("instance", "url", "failures", "failing_since", "last_error"),
    *("held", "held_at", "held_until", "probes"),
)
_SECRETS = ("current", "previous", "previous_until")
_THIS = (webhook_endpoints.c.instance == bindparam("instance"), webhook_endpoints.c.url == bindparam("url"))
_GET = sa.select(*(webhook_endpoints.c[name] for name in _TROUBLE)).where(*_THIS)


def _put(table: sa.Table, keys: tuple[str, ...], names: tuple[str, ...]) -> Any:
    def build(insert: Any) -> sa.Executable:
        row = insert(table).values({name: bindparam(name) for name in names})
        changed = {name: row.excluded[name] for name in names if name not in keys}
        put: sa.Executable = row.on_conflict_do_update(index_elements=[table.c[key] for key in keys], set_=changed)
        return put

    return for_both(build)


_NOTE = _put(webhook_endpoints, ("instance", "url"), _TROUBLE)
_RECOVER = (
    sa.delete(webhook_endpoints)
    .where(webhook_endpoints.c.instance == bindparam("of"), webhook_endpoints.c.url == bindparam("at"))
    .returning(*(webhook_endpoints.c[name] for name in _TROUBLE))
)
_HELD = (
    sa.select(webhook_endpoints.c.held, sa.func.count().label("number"))
    .where(webhook_endpoints.c.held.is_not(None))
    .group_by(webhook_endpoints.c.held)
)
_WAKE = (
    sa.update(deliveries)
    .where(
        deliveries.c.instance == bindparam("of"),
        deliveries.c.url == bindparam("at"),
        deliveries.c.state == _PENDING,
        deliveries.c.next_attempt_at > bindparam("now"),
        deliveries.c.lane.not_like(literal_column(f"'{ASIDE}%'")),
    )
    .values(next_attempt_at=bindparam("now"))
)
_TOOK = (
    sa.select(deliveries.c.position)
    .where(
        deliveries.c.instance == bindparam("instance"),
        deliveries.c.attempted_at.is_not(None),
        deliveries.c.attempted_at >= bindparam("since"),
        deliveries.c.url == bindparam("url"),
        deliveries.c.state == _DELIVERED,
    )
    .limit(literal_column("1"))
)
_SECRETS_OF = sa.select(*(webhook_secrets.c[name] for name in _SECRETS)).where(
    webhook_secrets.c.instance == bindparam("instance")
)
_SET_SECRETS = _put(webhook_secrets, ("instance",), ("instance", *_SECRETS))


class SqlEndpoints:
    """ports.events.Endpoints."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def trouble(self, instance: InstanceId, url: str) -> Trouble | None:
        row = self._runner.run(_GET, {"instance": instance, "url": url}).one_or_none()
        return None if row is None else _trouble(row)

    def note(self, trouble: Trouble) -> None:
        values = {name: getattr(trouble, name) for name in _TROUBLE}
        values["held"] = None if trouble.held is None else trouble.held.value
        self._runner.run(_NOTE[self._runner.dialect], values)

    def recover(self, instance: InstanceId, url: str) -> Trouble | None:
        row = self._runner.run(_RECOVER, {"of": instance, "at": url}).one_or_none()
        return None if row is None else _trouble(row)

    def held(self) -> Mapping[Held, int]:
        return {Held(row.held): row.number for row in self._runner.run(_HELD, {})}

    def wake(self, instance: InstanceId, url: str, now: float) -> int:
        return self._runner.run(_WAKE, {"of": instance, "at": url, "now": now}).rowcount

    def took_since(self, instance: InstanceId, url: str, since: float) -> bool:
        found = self._runner.run(_TOOK, {"instance": instance, "url": url, "since": since})
        return found.scalar_one_or_none() is not None

    def secrets(self, instance: InstanceId) -> Secrets:
        row = self._runner.run(_SECRETS_OF, {"instance": instance}).one_or_none()
        return Secrets() if row is None else read_secrets(self._runner, *row)

    def set_secrets(self, instance: InstanceId, secrets: Secrets) -> None:
        code = self._runner.codec.text_in
        values = {
            "instance": instance,
            "current": None if secrets.current is None else code(secrets.current),
            "previous": None if secrets.previous is None else code(secrets.previous),
            "previous_until": secrets.previous_until,
        }
        self._runner.run(_SET_SECRETS[self._runner.dialect], values)


def _trouble(row: Any) -> Trouble:
    found = Trouble(*row)
    return found if found.held is None else replace(found, held=Held(found.held))


def read_secrets(runner: Runner, current: str | None, previous: str | None, until: float | None) -> Secrets:
    """Secrets as the three columns hold them."""
    decode = runner.codec.text_out
    return Secrets(None if current is None else decode(current), None if previous is None else decode(previous), until)
