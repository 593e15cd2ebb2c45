"""Leases: who may touch an instance, and for how long.

A lease is a *term*: (instance, worker, epoch). The epoch rises by one whenever the instance changes hands, also when
the same program starts again, and every write that belongs to a link names it. Time is on the holder's side only as
far as `trusted_until` says: a worker that could not renew stops by itself before anyone else may take over.
"""

from __future__ import annotations

from dataclasses import dataclass

from wahub.domain.ids import InstanceId, WorkerId


@dataclass(frozen=True, slots=True)
class Lease:
    """One term. Two leases of one instance never share an epoch."""

    instance: InstanceId
    worker: WorkerId
    epoch: int


def trusted_until(asked_at: float, ttl: float) -> float:
    """How long a holder may trust a term it asked for at `asked_at` (monotonic seconds).

    Counted from before the question, so the store's own clock always runs out later. A fifth of the term is kept
    back for what the holder still has under way when it stops.
    """
    return asked_at + ttl * 0.8
