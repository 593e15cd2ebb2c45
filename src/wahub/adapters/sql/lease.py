"""Rows of leases. Theory: domain/lease.py.

One row per instance that ever was claimed; `worker` null means given up. The epoch only ever rises: a release, and
even the deletion of the instance, leave the row. A takeover on PostgreSQL waits for every open transaction that was
fenced with the old term (FOR SHARE against the update), and a fence that meets an uncommitted takeover waits and
then sees the new term.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from wahub.adapters.sql.runner import INSERT, ByDialect, Runner
from wahub.adapters.sql.tables import leases
from wahub.domain.errors import StaleLeaseError
from wahub.domain.ids import InstanceId, WorkerId
from wahub.domain.lease import Lease

_CHUNK: Final = 400
"""Leases renewed by one statement."""

_NOW: ByDialect[sa.ColumnElement[float]] = {
    "sqlite": bindparam("now", type_=sa.Double),
    "postgresql": sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double),
}


def _claim(dialect: str, insert: Any) -> sa.Executable:
    now = _NOW[dialect]
    until = now + bindparam("ttl", type_=sa.Double)
    row = insert(leases).values(instance=bindparam("instance"), worker=bindparam("worker"), epoch=1, expires_at=until)
    free = sa.or_(leases.c.worker.is_(None), leases.c.worker == row.excluded.worker, leases.c.expires_at <= now)
    term = {"worker": row.excluded.worker, "epoch": leases.c.epoch + 1, "expires_at": until}
    claim: sa.Executable = row.on_conflict_do_update(
        index_elements=[leases.c.instance], set_=term, where=free
    ).returning(leases.c.epoch)
    return claim


_CLAIM: ByDialect[sa.Executable] = {dialect: _claim(dialect, insert) for dialect, insert in INSERT.items()}
_RENEW: ByDialect[sa.Executable] = {
    dialect: sa.update(leases)
    .where(
        leases.c.worker == bindparam("by"),
        sa.tuple_(leases.c.instance, leases.c.epoch).in_(bindparam("terms", expanding=True)),
    )
    .values(expires_at=now + bindparam("ttl", type_=sa.Double))
    .returning(leases.c.instance)
    for dialect, now in _NOW.items()
}
_RELEASE = (
    sa.update(leases)
    .where(
        leases.c.instance == bindparam("of"), leases.c.worker == bindparam("by"), leases.c.epoch == bindparam("term")
    )
    .values(worker=None)
)
_EXPIRE = sa.update(leases).where(leases.c.instance == bindparam("of")).values(worker=None)
_FENCE = (
    sa.select(leases.c.worker, leases.c.epoch)
    .where(leases.c.instance == bindparam("instance"))
    .with_for_update(read=True)
)


END_ALL_TERMS: Final = sa.update(leases).where(leases.c.worker.is_not(None)).values(worker=None)
"""For a store whose lock proves that no other worker lives: nobody has to wait for the terms of the dead."""


class SqlLeases:
    """ports.store.Leases."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def claim(self, instance: InstanceId, worker: WorkerId, ttl: float) -> Lease | None:
        values = {"instance": instance, "worker": worker, "ttl": ttl, **self._now()}
        epoch = self._runner.run(_CLAIM[self._runner.dialect], values).scalar_one_or_none()
        return None if epoch is None else Lease(instance, worker, epoch)

    def renew(self, worker: WorkerId, leases: Sequence[Lease], ttl: float) -> frozenset[InstanceId]:
        kept: set[InstanceId] = set()
        terms = [(lease.instance, lease.epoch) for lease in leases]
        for start in range(0, len(terms), _CHUNK):
            values = {"by": worker, "terms": terms[start : start + _CHUNK], "ttl": ttl, **self._now()}
            kept.update(self._runner.run(_RENEW[self._runner.dialect], values).scalars())
        return frozenset(kept)

    def release(self, lease: Lease) -> None:
        self._runner.run(_RELEASE, {"of": lease.instance, "by": lease.worker, "term": lease.epoch})

    def _now(self) -> dict[str, float]:
        # On PostgreSQL the server's clock is part of the statement: workers' clocks need not agree.
        return {"now": self._runner.clock.now()} if self._runner.dialect == "sqlite" else {}


def expire(runner: Runner, instance: InstanceId) -> None:
    """End whatever term there is; the epoch stays for the next one."""
    runner.run(_EXPIRE, {"of": instance})


def fence(runner: Runner, lease: Lease) -> None:
    """StaleLeaseError unless this is the current term, which then stays current until commit.

    A term that ran out is still current until someone takes it: nobody else writes under it, so its writes are safe.
    """
    runner.needs_write()
    row = runner.run(_FENCE, {"instance": lease.instance}).one_or_none()
    if row is None or row.worker != lease.worker or row.epoch != lease.epoch:
        raise StaleLeaseError(f"epoch {lease.epoch} of instance {lease.instance} is over")
