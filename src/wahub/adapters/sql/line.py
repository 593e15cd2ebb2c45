"""The order of the line, asked of the outbox. Theory: domain/outbox.py.

A *head* is an entry that nothing open of its instance, chat and priority stands before; only heads may be claimed. The
line of an instance is a walk along one index, in order, that asks for each entry whether it is a head. So the next item
is found at once however many wait, except that each entry standing behind others of its own chat, or waiting for a
time of its own, costs a step of about a microsecond.

Unscheduled and scheduled entries lie apart in that index: an acceptance asks for the last unscheduled one, and must not
read all that is scheduled for later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam, literal_column

from wahub.adapters.sql.entry import ENTRIES, EntryReader, Twofold
from wahub.adapters.sql.runner import Runner
from wahub.adapters.sql.tables import outbox
from wahub.domain.ids import InstanceId
from wahub.domain.outbox import Entry, Priority

# Literals, because a planner cannot match a parameter with the condition of a partial index.
_WORD: dict[str, sa.ColumnElement[str]] = {
    word: literal_column(f"'{word}'") for word in ("queued", "sending", "unknown", *Priority)
}
_ONE: sa.ColumnElement[int] = literal_column("1")

_OF = outbox.c.instance == bindparam("instance")
_OPEN = outbox.c.settled_at.is_(None)
_IN_LINE = (outbox.c.joined_at, outbox.c.position)

_waiting, _before = outbox.alias("waiting"), outbox.alias("before")
_FIRST_OF_ITS_CHAT = (
    sa.select(_before.c.position)
    .where(
        _before.c.instance == _waiting.c.instance,
        _before.c.chat == _waiting.c.chat,
        _before.c.priority == _waiting.c.priority,
        _before.c.settled_at.is_(None),
    )
    .order_by(_before.c.joined_at, _before.c.position)
    .limit(_ONE)
    .correlate(_waiting)
    .scalar_subquery()
)
_HEADS = (
    _waiting.c.instance == bindparam("instance"),
    _waiting.c.settled_at.is_(None),
    _waiting.c.state.in_([_WORD["queued"], _WORD["unknown"]]),
    _waiting.c.position == _FIRST_OF_ITS_CHAT,
)
"""Entries that nothing open of the same chat and priority stands before, and that are not on the wire themselves."""
_WANTS_AT = sa.case(
    (_waiting.c.next_attempt_at > _waiting.c.joined_at, _waiting.c.next_attempt_at), else_=_waiting.c.joined_at
)
"""When an entry may go, once nothing stands before it."""


def _first_heads(*conditions: sa.ColumnElement[bool]) -> sa.Subquery:
    """The first head of each of the four parts of the line: its position, joining, priority, and wanted time."""
    parts = [
        sa.select(
            sa.select(
                _waiting.c.position,
                _waiting.c.joined_at,
                literal_column("0" if priority is Priority.HIGH else "1", sa.Integer).label("turn"),
                _WANTS_AT.label("wants_at"),
            )
            .where(
                *_HEADS,
                _waiting.c.priority == _WORD[priority],
                _waiting.c.scheduled == (sa.true() if scheduled else sa.false()),
                *conditions,
            )
            .order_by(_waiting.c.joined_at, _waiting.c.position)
            .limit(_ONE)
            .subquery()
        )
        for priority, scheduled in product(Priority, (False, True))
    ]
    return sa.union_all(*parts).subquery("first")


def _next_position() -> sa.Select[Any]:
    """The position of the entry that may be claimed at `now`."""
    first = _first_heads(_waiting.c.joined_at <= bindparam("now"), _waiting.c.next_attempt_at <= bindparam("now"))
    return sa.select(first.c.position).order_by(first.c.turn, first.c.joined_at, first.c.position).limit(_ONE)


def _earliest_attempt() -> sa.Select[Any]:
    """The least `wants_at` of all heads.

    Nobody goes before it has joined, so what joins after the first heads' earliest time need not be looked at: that is
    all that is scheduled for later. Of the others, only those that want to go earlier still.
    """
    first = _first_heads()
    bound = sa.select(sa.func.min(first.c.wants_at).label("at")).subquery("bound")
    earlier = (
        sa.select(sa.func.min(_WANTS_AT))
        .where(
            *_HEADS,
            _waiting.c.priority.in_([_WORD[priority] for priority in Priority]),
            _waiting.c.scheduled.in_([sa.false(), sa.true()]),
            _waiting.c.joined_at < bound.c.at,
            _waiting.c.next_attempt_at < bound.c.at,
        )
        .correlate(bound)
        .scalar_subquery()
    )
    return sa.select(sa.func.coalesce(earlier, bound.c.at))


def _last_joined() -> sa.Select[Any]:
    """The last joining of each priority, of which there is one search in the index each."""
    parts = [
        sa.select(
            sa.select(outbox.c.joined_at)
            .where(_OF, _OPEN, outbox.c.priority == _WORD[priority], outbox.c.scheduled == sa.false())
            .order_by(outbox.c.joined_at.desc(), outbox.c.position.desc())
            .limit(_ONE)
            .subquery()
        )
        for priority in Priority
    ]
    return sa.select(sa.func.max(sa.union_all(*parts).subquery("last").c.joined_at))


_OPEN_ONES = Twofold(ENTRIES.where(_OF, _OPEN).order_by(*_IN_LINE))
_UNKNOWN = ENTRIES.where(_OF, outbox.c.state == _WORD["unknown"]).order_by(*_IN_LINE)
_GIVEN_UP = Twofold(_UNKNOWN.where(outbox.c.settled_at.is_not(None)))
_IN_DOUBT = Twofold(_UNKNOWN.where(_OPEN))
_SENDING = Twofold(ENTRIES.where(_OF, outbox.c.state == _WORD["sending"]))
_DEPTH = sa.select(sa.func.count()).select_from(outbox).where(_OF, _OPEN)
_DEPTHS = sa.select(outbox.c.instance, sa.func.count().label("number")).where(_OPEN).group_by(outbox.c.instance)
_NEXT_POSITION = _next_position()
_NEXT_DUE = Twofold(
    ENTRIES.where(
        outbox.c.position == _NEXT_POSITION.scalar_subquery(),
        # Again, because PostgreSQL asks only this of a row that changed while it waited for its lock.
        _OPEN,
        outbox.c.state.in_([_WORD["queued"], _WORD["unknown"]]),
        outbox.c.next_attempt_at <= bindparam("now"),
    )
)
_NEXT_AT = _earliest_attempt()
_LAST_JOINED = _last_joined()


class SqlLine:
    """ports.store.Line."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._entries = EntryReader(runner)

    def unsettled(self, instance: InstanceId) -> Sequence[Entry]:
        # Two questions, each with a small index of its own; PostgreSQL cannot lock the rows of a UNION.
        values = {"instance": instance}
        opened, given_up = self._entries.many(_OPEN_ONES, values), self._entries.many(_GIVEN_UP, values)
        if not given_up:
            return opened
        return sorted([*opened, *given_up], key=lambda entry: (entry.joined_at, entry.position))

    def going_out(self, instance: InstanceId) -> Sequence[Entry]:
        values = {"instance": instance}
        return [*self._entries.many(_SENDING, values), *self._entries.many(_IN_DOUBT, values)]

    def depth(self, instance: InstanceId) -> int:
        count: int = self._runner.run(_DEPTH, {"instance": instance}).scalar_one()
        return count

    def depths(self) -> Mapping[InstanceId, int]:
        return {InstanceId(row.instance): row.number for row in self._runner.run(_DEPTHS, {})}

    def next_due(self, instance: InstanceId, now: float) -> Entry | None:
        values = {"instance": instance, "now": now}
        while True:
            entry = self._entries.one(_NEXT_DUE, values)
            if entry is not None or not self._runner.may_wait_for_rows:
                return entry
            # On PostgreSQL somebody may have settled the one that we found while we waited for its lock.
            if self._runner.run(_NEXT_POSITION, values).scalar_one_or_none() is None:
                return None

    def next_attempt_at(self, instance: InstanceId) -> float | None:
        earliest: float | None = self._runner.run(_NEXT_AT, {"instance": instance}).scalar_one()
        return earliest

    def last_joined_at(self, instance: InstanceId) -> float:
        last: float | None = self._runner.run(_LAST_JOINED, {"instance": instance}).scalar_one()
        return 0.0 if last is None else last
