"""The lease of one runner: claimed, trusted until its time, and given up. Theory: runtime/leaser.py."""

from __future__ import annotations

import contextlib

from wahub.domain.errors import StaleLeaseError
from wahub.domain.ids import InstanceId
from wahub.domain.lease import Lease
from wahub.runtime.deps import RuntimeDeps
from wahub.runtime.leaser import Holder, Leaser


class Term:
    """At most one lease at a time."""

    def __init__(self, deps: RuntimeDeps, leaser: Leaser, holder: Holder, wanted: InstanceId) -> None:
        self.lease: Lease | None = None
        """None while there is none."""
        self.until = 0.0
        """How far it may be trusted, in monotonic seconds."""
        self._deps = deps
        self._leaser = leaser
        self._holder = holder
        self._instance = wanted

    @property
    def held(self) -> Lease:
        """The lease; StaleLeaseError while there is none."""
        if self.lease is None:
            raise StaleLeaseError
        return self.lease

    async def claim(self) -> Lease:
        """Wait until it can be had; `begin` makes it the one that is held."""
        while True:
            claimed = await self._leaser.claim(self._instance)
            if claimed is not None:
                lease, self.until = claimed
                return lease
            await self._deps.clock.sleep(self._deps.settings.lease_ttl / 5)

    def begin(self, lease: Lease) -> None:
        """Work under it, and have it renewed."""
        self.lease = lease
        self._leaser.watch(self._instance, self._holder)

    async def hold(self) -> Lease:
        """The lease, claimed if there is none."""
        self.lease = self.lease or await self.claim()
        return self.lease

    async def renounce(self) -> None:
        """Nothing that began under it may act any more: the next one has another epoch."""
        lease, self.lease = self.held, None
        await self._leaser.release(lease)

    async def release(self) -> None:
        """Give it up for good, if there is one."""
        if self.lease is not None:
            with contextlib.suppress(Exception):
                await self._leaser.release(self.lease)
        self.forget()

    def forget(self) -> None:
        """Renew it no more."""
        self._leaser.forget(self._instance, self._holder)
