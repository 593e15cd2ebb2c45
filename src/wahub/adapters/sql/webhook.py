"""Rows of webhook deliveries.

Only the first pending row of each lane matters to the dispatcher. `_HEADS` finds them by jumping from lane to lane
in the index of pending rows, so an endpoint that is down costs by its lanes, not by its backlog. What is posted is in
the row of the event, which has the same position.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam, literal_column
from sqlalchemy.dialects import postgresql

from wahub.adapters.sql.endpoint import read_secrets
from wahub.adapters.sql.runner import Runner
from wahub.adapters.sql.tables import deliveries, events, webhook_endpoints, webhook_secrets
from wahub.domain.endpoint import FOREVER
from wahub.domain.ids import InstanceId
from wahub.domain.webhook import Delivery, DeliveryState, stands_aside
from wahub.ports.store import Attempted

_ADDED = ("position", "instance", "url", "lane", "expires_at")
_CHANGING = ("next_attempt_at", "state", "attempts", "last_error", "attempted_at", "failed_at")
_OF_EVENT = ("event_id", "event", "sequence", "body", "created_at")
_LANE = ("instance", "url", "lane")
# Literals, because a planner cannot match a parameter with the condition of a partial index.
_PENDING: sa.ColumnElement[str] = literal_column("'pending'")
_DELIVERED: sa.ColumnElement[str] = literal_column("'delivered'")


def _heads() -> sa.CTE:
    ordered = [deliveries.c[name] for name in (*_LANE, "position")]
    first = (
        sa.select(*ordered, deliveries.c.next_attempt_at)
        .where(deliveries.c.state == _PENDING)
        .order_by(*ordered)
        .limit(literal_column("1"))
        .subquery("first")
    )
    heads = sa.select(first).cte("heads", recursive=True)
    found = deliveries.alias("found")
    # One search per level of the index. A comparison of whole rows would be one search, but SQLite uses only its first
    # column, and then each jump reads all lanes of the instance that lie before it.
    next_lane = sa.func.coalesce(
        _first_after(heads, same=("instance", "url"), beyond="lane"),
        _first_after(heads, same=("instance",), beyond="url"),
        _first_after(heads, same=(), beyond="instance"),
    )
    step = sa.select(*(found.c[column.name] for column in first.c)).select_from(
        heads.join(found, found.c.position == next_lane)
    )
    return heads.union_all(step)


def _first_after(heads: sa.CTE, same: tuple[str, ...], beyond: str) -> sa.ScalarSelect[Any]:
    """The first pending row whose `same` columns equal the head's and whose next column lies beyond the head's."""
    after = deliveries.alias("after")
    ordered = (*_LANE, "position")[len(same) :]
    return (
        sa.select(after.c.position)
        .where(
            after.c.state == _PENDING,
            *(after.c[name] == heads.c[name] for name in same),
            after.c[beyond] > heads.c[beyond],
        )
        .order_by(*(after.c[name] for name in ordered))
        .limit(literal_column("1"))
        .correlate(heads)
        .scalar_subquery()
    )


_HEADS = _heads()
_OWN = tuple(dict.fromkeys((*_ADDED, *_CHANGING)))
_ADD = sa.insert(deliveries).values({name: bindparam(name) for name in _OWN})
# What is held waits for its probe, or for somebody to enable it.
_DUE_AT = sa.func.coalesce(webhook_endpoints.c.held_until, _HEADS.c.next_attempt_at)
_HEADS_AND_TROUBLE = _HEADS.outerjoin(
    webhook_endpoints,
    sa.and_(webhook_endpoints.c.instance == _HEADS.c.instance, webhook_endpoints.c.url == _HEADS.c.url),
)
DELIVERY_COLUMNS = tuple(
    (events if name in _OF_EVENT else deliveries).c[name]
    for name in Delivery.__slots__
    if name in _OWN or name in _OF_EVENT
)
"""What `read_delivery` reads, in its order."""

_DUE_OF_ALL = (
    sa.select(
        *DELIVERY_COLUMNS,
        webhook_endpoints.c.held_until,
        *(webhook_secrets.c[name] for name in ("current", "previous", "previous_until")),
    )
    .select_from(
        _HEADS_AND_TROUBLE.join(deliveries, deliveries.c.position == _HEADS.c.position)
        .join(events, events.c.position == _HEADS.c.position)
        .outerjoin(webhook_secrets, webhook_secrets.c.instance == _HEADS.c.instance)
    )
    .where(bindparam("now") >= _DUE_AT)
    .order_by(_HEADS.c.position)
    .limit(bindparam("at_most"))
)
_ENDPOINT = sa.tuple_(_HEADS.c.instance, _HEADS.c.url)
# SQLite gets lists as JSON, because one that SQLAlchemy expands would keep it from running the statement prepared.
_KNOWN = sa.func.json_each(bindparam("besides")).table_valued("value")
_FULL = sa.func.json_each(bindparam("full")).table_valued("value")
_PAIR = [sa.func.json_extract(_FULL.c.value, literal_column(path)) for path in ("'$[0]'", "'$[1]'")]
_DUE = {
    "sqlite": _DUE_OF_ALL.where(
        _HEADS.c.position.not_in(sa.select(_KNOWN.c.value)), _ENDPOINT.not_in(sa.select(*_PAIR))
    ),
    "postgresql": _DUE_OF_ALL.where(
        _HEADS.c.position != sa.all_(bindparam("besides", type_=postgresql.ARRAY(sa.BigInteger))),
        _ENDPOINT.not_in(bindparam("full", expanding=True)),
    ),
}
_NEXT_AT = (
    sa.select(sa.func.min(_DUE_AT))
    .select_from(_HEADS_AND_TROUBLE)
    .where(bindparam("after") < _DUE_AT, literal_column(repr(FOREVER)) > _DUE_AT)
)
_CHANGED: dict[str, Any] = {name: bindparam(name) for name in _CHANGING}
_OF = deliveries.c.position == bindparam("of")
# The lane may have been renamed while it was posted.
_SAVE = sa.update(deliveries).where(_OF).values(_CHANGED)
_SAVE_ASIDE = sa.update(deliveries).where(_OF).values({**_CHANGED, "lane": bindparam("lane")})
_RENAME = (
    sa.update(deliveries)
    .where(
        deliveries.c.state == _PENDING, deliveries.c.instance == bindparam("of"), deliveries.c.lane == bindparam("old")
    )
    .values(lane=bindparam("new"))
)
_REMOVE = sa.delete(events).where(events.c.position == bindparam("of"))
_LAST_ATTEMPT = (
    sa.select(events.c.event, *(deliveries.c[name] for name in ("attempted_at", "state", "last_error")))
    .select_from(deliveries.join(events, events.c.position == deliveries.c.position))
    .where(deliveries.c.instance == bindparam("instance"), deliveries.c.attempted_at.is_not(None))
    .order_by(deliveries.c.attempted_at.desc(), deliveries.c.position.desc())
    .limit(literal_column("1"))
)
# Only an event whose secret is alive can be superseded, and of those there are few.
_SUPERSEDED = sa.select(events.c.position).where(
    events.c.instance == bindparam("of"), events.c.event == bindparam("named"), events.c.secret_until.is_not(None)
)
_SUPERSEDE = sa.delete(deliveries).where(deliveries.c.state == _PENDING, deliveries.c.position.in_(_SUPERSEDED))
_FORGET = sa.delete(deliveries).where(deliveries.c.state == _DELIVERED, deliveries.c.attempted_at < bindparam("before"))


class SqlWebhooks:
    """ports.store.Webhooks."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def add_all(self, added: Sequence[Delivery]) -> None:
        if added:
            self._runner.run_many(_ADD, [_row(delivery) for delivery in added])

    def due(
        self,
        now: float,
        limit: int,
        full: Collection[tuple[InstanceId, str]] = (),
        besides: Collection[int] = (),
    ) -> Sequence[Delivery]:
        dialect = self._runner.dialect
        lists: dict[str, Any] = {"full": list(full), "besides": list(besides)}
        if dialect == "sqlite":
            lists = {name: json.dumps(items) for name, items in lists.items()}
        found = self._runner.run(_DUE[dialect], {"now": now, "at_most": limit, **lists})
        return [self._due(row) for row in found]

    def next_attempt_at(self, after: float = 0.0) -> float | None:
        earliest: float | None = self._runner.run(_NEXT_AT, {"after": after}).scalar_one()
        return earliest

    def save_all(self, changed: Sequence[Delivery]) -> None:
        """Nothing happens to one that is gone: it was superseded, or its instance deleted, while it was posted."""
        over = [one for one in changed if not one.sequence and one.state is not DeliveryState.PENDING]
        kept = [one for one in changed if one.sequence or one.state is DeliveryState.PENDING]
        self._run_for(_REMOVE, [{"of": one.position} for one in over])
        self._run_for(_SAVE, [_saved(one) for one in kept if not stands_aside(one)])
        self._run_for(_SAVE_ASIDE, [_saved(one) | {"lane": one.lane} for one in kept if stands_aside(one)])

    def _run_for(self, statement: sa.Executable, rows: Sequence[dict[str, Any]]) -> None:
        if rows:
            self._runner.run_many(statement, rows)

    def rename_lane(self, instance: InstanceId, old: str, new: str) -> None:
        self._runner.run(_RENAME, {"of": instance, "old": old, "new": new})

    def last_attempt(self, instance: InstanceId) -> Attempted | None:
        row = self._runner.run(_LAST_ATTEMPT, {"instance": instance}).one_or_none()
        if row is None:
            return None
        taken = row.state == DeliveryState.DELIVERED
        return Attempted(row.event, row.attempted_at, None if taken else row.last_error)

    def supersede(self, instance: InstanceId, event: str) -> int:
        return self._runner.run(_SUPERSEDE, {"of": instance, "named": event}).rowcount

    def forget_settled(self, before: float) -> int:
        """Counted from when it was taken."""
        return self._runner.run(_FORGET, {"before": before}).rowcount

    def _due(self, row: Sequence[Any]) -> Delivery:
        *own, held_until, current, previous, until = row
        found = read_delivery(self._runner, own)
        if held_until is None and current is None and until is None:
            return found
        secrets = read_secrets(self._runner, current, previous, until)
        return replace(found, probe=held_until is not None, secrets=secrets)


def read_delivery(runner: Runner, row: Sequence[Any]) -> Delivery:
    """One row of `DELIVERY_COLUMNS`."""
    # By place: a dict of names would take longer than the row itself, and looks at the store are many.
    event_id, instance, event, lane, url, body, sequence, created_at, expires_at, next_at, state, *rest = row
    body, state = runner.codec.text_out(body), DeliveryState(state)
    return Delivery(
        *(event_id, instance, event, lane, url, body, sequence or 0, created_at, expires_at, next_at, state), *rest
    )


def _row(delivery: Delivery) -> dict[str, Any]:
    return {name: getattr(delivery, name) for name in _ADDED} | _changing(delivery)


def _saved(delivery: Delivery) -> dict[str, Any]:
    return _changing(delivery) | {"of": delivery.position}


def _changing(delivery: Delivery) -> dict[str, Any]:
    return {
        "next_attempt_at": delivery.next_attempt_at,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "last_error": delivery.last_error,
        "attempted_at": delivery.attempted_at,
        "failed_at": delivery.failed_at,
    }
