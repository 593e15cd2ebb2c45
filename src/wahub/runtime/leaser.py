"""The lease loop: keeps this worker's terms alive, and stops work whose term it could not keep.

A term is (instance, worker, epoch) with a time by the store's clock. Every `lease_renew_every` seconds all terms of
this worker are renewed in one write; the new end is passed on to each link as a monotonic deadline counted from
*before* the question (domain/lease.py), so a holder always stops earlier than anyone else may start.

- A renewal that says "not yours" ends that runner at once; it claims anew, if it may.
- A store that does not answer renews nothing: links run to their deadline, and the engine closes them by itself.
- A worker that was frozen (SIGSTOP, a stalled machine) wakes up with links that the engine has closed; its writes
  are refused by `tx.fence` if someone took over meanwhile.
"""

from __future__ import annotations

from typing import Protocol

import structlog

from wahub.domain.ids import InstanceId
from wahub.domain.lease import Lease, trusted_until
from wahub.runtime.deps import RuntimeDeps

log = structlog.get_logger("wahub.leaser")


class Holder(Protocol):
    """Someone who works under a lease."""

    @property
    def lease(self) -> Lease | None:
        """The current term, or None while there is none."""

    def extend(self, until: float) -> None:
        """The term now reaches to `until` (monotonic seconds)."""

    def lease_lost(self, lease: Lease) -> None:
        """The term is over: stop what runs under it."""


class Leaser:
    """Claims, renews and releases the terms of this worker."""

    def __init__(self, deps: RuntimeDeps) -> None:
        self._deps = deps
        self._holders: dict[InstanceId, Holder] = {}

    def watch(self, instance: InstanceId, holder: Holder) -> None:
        """Renew this holder's lease from now on."""
        self._holders[instance] = holder

    def forget(self, instance: InstanceId, holder: Holder) -> None:
        """Stop renewing for this holder; another may have followed it."""
        if self._holders.get(instance) is holder:
            del self._holders[instance]

    async def claim(self, instance: InstanceId) -> tuple[Lease, float] | None:
        """A new term and its monotonic end, or None while another worker holds one."""
        settings = self._deps.settings
        asked_at = self._deps.clock.monotonic()
        lease = await self._deps.database.write(
            lambda tx: tx.leases.claim(instance, settings.worker, settings.lease_ttl)
        )
        return None if lease is None else (lease, trusted_until(asked_at, settings.lease_ttl))

    async def release(self, lease: Lease) -> None:
        """Give a term up, so that another worker need not wait for its end."""
        await self._deps.database.write(lambda tx: tx.leases.release(lease))

    async def run(self) -> None:
        """Renew for ever; cancel to stop."""
        while True:
            await self._deps.clock.sleep(self._deps.settings.lease_renew_every)
            try:
                await self.renew_once()
            except Exception as error:  # noqa: BLE001 - the store may come back before the terms run out
                log.error("leases could not be renewed", error=type(error).__name__)

    async def renew_once(self) -> None:
        """One renewal of everything that is held."""
        settings = self._deps.settings
        held = {instance: holder.lease for instance, holder in self._holders.items()}
        leases = [lease for lease in held.values() if lease is not None]
        if not leases:
            return
        asked_at = self._deps.clock.monotonic()
        kept = await self._deps.database.write(lambda tx: tx.leases.renew(settings.worker, leases, settings.lease_ttl))
        until = trusted_until(asked_at, settings.lease_ttl)
        for lease in leases:
            holder = self._holders.get(lease.instance)
            if holder is None or holder.lease != lease:
                continue
            if lease.instance in kept:
                holder.extend(until)
            else:
                log.warning("lease lost", instance=lease.instance)
                holder.lease_lost(lease)
