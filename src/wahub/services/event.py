"""Following the event log, as a use case: where somebody who comes back goes on, and what they can get no more."""

from __future__ import annotations

from collections.abc import Collection

from wahub.domain.errors import InstanceNotFoundError
from wahub.domain.event import Gap, Mark, Start
from wahub.domain.ids import InstanceId
from wahub.ports.store import Tx


def start_of_one(tx: Tx, instance: InstanceId, after: int | None) -> Start:
    """After that number of an instance; None: after what there is. Raises InstanceNotFoundError."""
    span = tx.events.span(instance)
    if after is None:
        return Start(span.newest)
    gap = _own_gap(tx, instance, after)
    # A number that is not there yet belongs to an instance of the same name that was deleted.
    return Start(span.oldest - 1 if after > span.newest else after, () if gap is None else (gap,))


def start_of_all(tx: Tx, mark: Mark | None, wanted: Collection[str]) -> Start:
    """After that event in the log of all; None: after what there is. Only `wanted` instances (empty: all) have gaps.

    A deleted instance leaves no gap: nobody can get its events, and nobody needs to.
    """
    if mark is None:
        return Start(tx.places.newest())
    if mark.position is not None:
        if _is_foreign(tx, mark, mark.position):
            return Start(0, (Gap(mark.instance, mark.sequence, None),))
        return Start(mark.position, _gaps(tx, mark, mark.position, wanted))
    position = _position_of(tx, mark)
    if position is None:
        return _from_the_beginning(tx, mark, wanted)
    return Start(position, _gaps(tx, mark, position, wanted))


def _own_gap(tx: Tx, instance: InstanceId, after: int) -> Gap | None:
    """What is missing of one instance beyond that number. Raises InstanceNotFoundError."""
    span = tx.events.span(instance)
    if after == span.newest:
        return None
    following = tx.places.of(instance, after + 1)
    # Not only at the beginning: what still has to be delivered is kept while later events go.
    if following is None or tx.places.forgotten(instance) > following:
        return Gap(instance, after, span.oldest)
    return None


def _gaps(tx: Tx, mark: Mark, position: int, wanted: Collection[str]) -> tuple[Gap, ...]:
    found = [name for name in tx.places.forgotten_beyond(position) if not wanted or name in wanted]
    return tuple(
        Gap(name, mark.sequence if name == mark.instance else None, tx.events.span(name).oldest) for name in found
    )


def _is_foreign(tx: Tx, mark: Mark, position: int) -> bool:
    """Whether the mark is of another database: it has the position not yet, or another event there."""
    if position > tx.places.given():
        return True
    there = tx.events.since(position - 1, 1) if position else ()
    if not there or there[0].position != position:
        return False
    return (there[0].instance, there[0].sequence) != (mark.instance, mark.sequence)


def _position_of(tx: Tx, mark: Mark) -> int | None:
    """Of a mark that does not say it; None when its event is gone."""
    if mark.sequence == 0:
        first = tx.places.of(mark.instance, 1)
        return None if first is None else first - 1
    return tx.places.of(mark.instance, mark.sequence)


def _from_the_beginning(tx: Tx, mark: Mark, wanted: Collection[str]) -> Start:
    """Its event is gone, and with it what the follower saw of the others: all that is kept is told again."""
    try:
        own = _own_gap(tx, mark.instance, mark.sequence)
    except InstanceNotFoundError:
        return Start(0, (Gap(mark.instance, mark.sequence, None),))
    # Without a gap of its own the event was the last one that retention removed there, so its position is known.
    seen = tx.places.forgotten(mark.instance) if own is None else 0
    others = tuple(gap for gap in _gaps(tx, mark, seen, wanted) if gap.instance != mark.instance)
    return Start(0, others if own is None or (wanted and own.instance not in wanted) else (own, *others))
