"""Rows of webhook deliveries.

Only the first pending row of each lane matters to the dispatcher. `_HEADS` finds them by jumping from lane to lane
in the index of pending rows, so an endpoint that is down costs by its lanes, not by its backlog.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam, literal_column

from wahub.adapters.sql.runner import Runner
from wahub.adapters.sql.tables import deliveries
from wahub.domain.ids import InstanceId
from wahub.domain.webhook import Delivery, DeliveryState
from wahub.ports.store import Attempted

_FIXED = ("event_id", "instance", "event", "lane", "url", "body", "sequence", "created_at", "expires_at")
_CHANGING = ("next_attempt_at", "state", "attempts", "last_error", "attempted_at")
_COLUMNS = (*_FIXED, *_CHANGING, "position")
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
_ADD = sa.insert(deliveries).values({name: bindparam(name) for name in _COLUMNS if name != "position"})
_DUE = (
    sa.select(*(deliveries.c[name] for name in _COLUMNS))
    .select_from(_HEADS.join(deliveries, deliveries.c.position == _HEADS.c.position))
    .where(_HEADS.c.next_attempt_at <= bindparam("now"))
    .order_by(_HEADS.c.position)
    .limit(bindparam("at_most"))
)
_DUE_BESIDES = _DUE.where(sa.tuple_(_HEADS.c.instance, _HEADS.c.url).not_in(bindparam("besides", expanding=True)))
_NEXT_AT = sa.select(sa.func.min(_HEADS.c.next_attempt_at)).where(_HEADS.c.next_attempt_at > bindparam("after"))
_SAVE = (
    sa.update(deliveries)
    .where(deliveries.c.event_id == bindparam("of"))
    .values({name: bindparam(name) for name in _CHANGING})
)
_LAST_ATTEMPT = (
    sa.select(*(deliveries.c[name] for name in ("event", "attempted_at", "state", "last_error")))
    .where(deliveries.c.instance == bindparam("instance"), deliveries.c.attempted_at.is_not(None))
    .order_by(deliveries.c.attempted_at.desc(), deliveries.c.position.desc())
    .limit(literal_column("1"))
)
_SUPERSEDE = sa.delete(deliveries).where(
    deliveries.c.instance == bindparam("of"), deliveries.c.event == bindparam("named"), deliveries.c.state == _PENDING
)
_FORGET = sa.delete(deliveries).where(deliveries.c.state == _DELIVERED, deliveries.c.created_at < bindparam("before"))


class SqlWebhooks:
    """ports.store.Webhooks."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def add(self, delivery: Delivery) -> None:
        values = {name: getattr(delivery, name) for name in _FIXED}
        values["body"] = self._runner.codec.text_in(delivery.body)
        self._runner.run(_ADD, {**values, **_changing(delivery)})

    def due(self, now: float, limit: int, full: Collection[tuple[InstanceId, str]] = ()) -> Sequence[Delivery]:
        values: dict[str, Any] = {"now": now, "at_most": limit}
        if not full:
            return [self._read(row) for row in self._runner.run(_DUE, values)]
        return [self._read(row) for row in self._runner.run(_DUE_BESIDES, {**values, "besides": list(full)})]

    def next_attempt_at(self, after: float = 0.0) -> float | None:
        earliest: float | None = self._runner.run(_NEXT_AT, {"after": after}).scalar_one()
        return earliest

    def save(self, delivery: Delivery) -> None:
        """Nothing happens if it is gone: it was superseded, or its instance deleted, while it was posted."""
        self._runner.run(_SAVE, {"of": delivery.event_id, **_changing(delivery)})

    def last_attempt(self, instance: InstanceId) -> Attempted | None:
        row = self._runner.run(_LAST_ATTEMPT, {"instance": instance}).one_or_none()
        if row is None:
            return None
        taken = row.state == DeliveryState.DELIVERED
        return Attempted(row.event, row.attempted_at, None if taken else row.last_error)

    def supersede(self, instance: InstanceId, event: str) -> int:
        return self._runner.run(_SUPERSEDE, {"of": instance, "named": event}).rowcount

    def forget_settled(self, before: float) -> int:
        """Counted from the delivery's creation."""
        return self._runner.run(_FORGET, {"before": before}).rowcount

    def _read(self, row: Sequence[Any]) -> Delivery:
        values = dict(zip(_COLUMNS, row, strict=True))
        values["body"] = self._runner.codec.text_out(values["body"])
        values["state"] = DeliveryState(values["state"])
        return Delivery(**values)


def _changing(delivery: Delivery) -> dict[str, Any]:
    return {
        "next_attempt_at": delivery.next_attempt_at,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "last_error": delivery.last_error,
        "attempted_at": delivery.attempted_at,
    }
