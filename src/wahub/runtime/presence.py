"""Presence: asked of the engine while the instance's webhook wants it, and passed on at once or not at all.

Promise: links ask WhatsApp for nobody's presence unless a webhook wants it. Not promised: any single event. What comes
faster than it can be written is dropped, and so is what the store refuses; a crash forgets what was not written.
"""

from __future__ import annotations

import asyncio

import structlog

from wahub.domain.errors import InstanceNotFoundError, StaleLeaseError
from wahub.domain.instance import Config
from wahub.domain.lease import Lease
from wahub.domain.webhook import wants
from wahub.ports.engine import Link, PresenceSeen
from wahub.ports.store import Tx
from wahub.ports.wakeup import WEBHOOKS
from wahub.runtime.deps import RuntimeDeps
from wahub.services import presence

log = structlog.get_logger("wahub.runner")


class PresenceWish:
    """Whether an instance's webhook wants presence; its link is told what changes."""

    def __init__(self) -> None:
        self._wanted: bool | None = None
        self._link: Link | None = None
        self._told = False

    def configure(self, config: Config) -> None:
        """The configuration as it is now."""
        self._wanted = wants(config, "presence")
        self._tell()

    def begin(self, link: Link, config: Config) -> None:
        """A new link: it watches nobody yet. `config` is what was known when the lease was taken."""
        self._link, self._told = link, False
        if self._wanted is None:
            self._wanted = wants(config, "presence")
        self._tell()

    def end(self) -> None:
        """The link is over."""
        self._link = None

    def _tell(self) -> None:
        wanted = self._wanted is True
        if self._link is not None and wanted is not self._told:
            self._told = wanted
            self._link.watch(wanted)


class PresenceNews:
    """What one link sees, on its way to the webhook."""

    LIMIT = 100
    """How many may wait for the store; more are dropped."""

    def __init__(self, deps: RuntimeDeps, lease: Lease) -> None:
        self._deps = deps
        self._lease = lease
        self._waiting: list[PresenceSeen] = []
        self._writing: asyncio.Task[None] | None = None

    def add(self, seen: PresenceSeen) -> None:
        """Pass it on; never waits, never raises."""
        if len(self._waiting) < self.LIMIT:
            self._waiting.append(seen)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._drain())

    async def close(self) -> None:
        """The link is over: finish what is being written."""
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)

    async def _drain(self) -> None:
        while self._waiting:
            seen, self._waiting = self._waiting, []
            try:
                await self._write(seen)
            except (StaleLeaseError, InstanceNotFoundError):
                return
            except Exception as error:  # noqa: BLE001 - presence is not worth a link
                log.warning("presence was not told", instance=self._lease.instance, error=type(error).__name__)

    async def _write(self, seen: list[PresenceSeen]) -> None:
        deps, lease, now = self._deps, self._lease, self._deps.clock.now()
        named = [(one, deps.new_id()) for one in seen]

        def work(tx: Tx) -> None:
            for one, event_id in named:
                presence.tell(tx, lease, one, now, event_id)

        await deps.database.write(work)
        deps.wakeup.notify(WEBHOOKS)
