"""Rows of deliveries that were given up."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import bindparam, literal_column

from wahub.adapters.sql.runner import Runner
from wahub.adapters.sql.tables import deliveries, events, instances, webhook_endpoints
from wahub.adapters.sql.webhook import DELIVERY_COLUMNS, read_delivery
from wahub.domain.event import SECRETS
from wahub.domain.ids import InstanceId
from wahub.domain.webhook import Delivery

_DEAD: sa.ColumnElement[str] = literal_column("'dead'")
_PENDING: sa.ColumnElement[str] = literal_column("'pending'")
_ALL = (
    sa.select(*DELIVERY_COLUMNS)
    .select_from(deliveries.join(events, events.c.position == deliveries.c.position))
    .where(deliveries.c.instance == bindparam("instance"), deliveries.c.state == _DEAD)
)
_LIST = _ALL.order_by(deliveries.c.position.desc()).limit(bindparam("at_most"))
_FIND = _ALL.where(events.c.event_id == bindparam("named"))
_COUNT_ALL = sa.select(sa.func.count()).where(deliveries.c.state == _DEAD)
_COUNT = _COUNT_ALL.where(deliveries.c.instance == bindparam("instance"))
_REVIVE = (
    sa.update(deliveries)
    .where(deliveries.c.instance == bindparam("of"), deliveries.c.state == _DEAD)
    .values(
        state=_PENDING,
        url=bindparam("at"),
        attempts=0,
        failed_at=sa.null(),
        next_attempt_at=bindparam("now"),
        expires_at=bindparam("until"),
    )
)
_ITS_EVENT = sa.exists().where(
    events.c.position == deliveries.c.position,
    *(events.c.event != literal_column(f"'{event}'") for event in sorted(SECRETS)),
)
_REVIVE_ALL = _REVIVE.where(_ITS_EVENT)
_REVIVE_ONE = _REVIVE.where(_ITS_EVENT.where(events.c.event_id == bindparam("named")))
_OVERDUE = (
    deliveries.c.state == _PENDING,
    deliveries.c.expires_at <= bindparam("now"),
    sa.exists().where(
        webhook_endpoints.c.instance == deliveries.c.instance,
        webhook_endpoints.c.url == deliveries.c.url,
        webhook_endpoints.c.held_until > bindparam("now"),
    ),
)
_BURY = sa.update(deliveries).where(*_OVERDUE).values(state=_DEAD, last_error=bindparam("reason"))
# What is not in the log is no dead letter either: nobody would want it afterwards.
_DROP = sa.delete(events).where(
    events.c.sequence.is_(None), events.c.position.in_(sa.select(deliveries.c.position).where(*_OVERDUE))
)
_FORGET_ENDPOINTS = sa.delete(webhook_endpoints).where(
    ~sa.exists().where(
        instances.c.id == webhook_endpoints.c.instance, instances.c.webhook_url == webhook_endpoints.c.url
    ),
    ~sa.exists().where(
        deliveries.c.instance == webhook_endpoints.c.instance,
        deliveries.c.url == webhook_endpoints.c.url,
        deliveries.c.state == _PENDING,
    ),
)
_HELD = sa.select(webhook_endpoints.c.instance).where(webhook_endpoints.c.held.is_not(None)).limit(literal_column("1"))


class SqlDeadLetters:
    """ports.events.DeadLetters."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def list(self, instance: InstanceId, limit: int) -> Sequence[Delivery]:
        found = self._runner.run(_LIST, {"instance": instance, "at_most": limit})
        return [read_delivery(self._runner, row) for row in found]

    def count(self, instance: InstanceId | None) -> int:
        found = (
            self._runner.run(_COUNT_ALL, {}) if instance is None else self._runner.run(_COUNT, {"instance": instance})
        )
        number: int = found.scalar_one()
        return number

    def find(self, instance: InstanceId, event_id: str) -> Delivery | None:
        row = self._runner.run(_FIND, {"instance": instance, "named": event_id}).one_or_none()
        return None if row is None else read_delivery(self._runner, row)

    def revive(self, instance: InstanceId, event_id: str | None, url: str, now: float, expires_at: float) -> int:
        values = {"of": instance, "at": url, "now": now, "until": expires_at}
        if event_id is None:
            return self._runner.run(_REVIVE_ALL, values).rowcount
        return self._runner.run(_REVIVE_ONE, {**values, "named": event_id}).rowcount

    def forget_endpoints(self) -> int:
        return self._runner.run(_FORGET_ENDPOINTS, {}).rowcount

    def bury_overdue(self, now: float, reason: str) -> int:
        # The other statements read all that waits; usually nothing is held.
        if self._runner.run(_HELD, {}).scalar_one_or_none() is None:
            return 0
        self._runner.run(_DROP, {"now": now})
        return self._runner.run(_BURY, {"now": now, "reason": reason}).rowcount
