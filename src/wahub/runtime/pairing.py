"""Pairing codes: asked of the engine when somebody wants one and the link waits for pairing; the answer is stored."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from wahub.domain.errors import PairingRefusedError
from wahub.domain.ids import InstanceId
from wahub.domain.lease import Lease
from wahub.ports.engine import Link
from wahub.ports.wakeup import asked_topic
from wahub.runtime.deps import RuntimeDeps
from wahub.services import lifecycle

log = structlog.get_logger("wahub.runner")

SHORTEST = 60.0
"""Seconds that a code must be good for: typing it takes a while. A link that has less left is opened anew first."""


class PairingCodes:
    """The wish for a code, until it is answered."""

    def __init__(self, deps: RuntimeDeps, wanted: InstanceId, renew: Callable[[], Awaitable[None]]) -> None:
        self._deps = deps
        self._instance = wanted
        self._renew = renew
        self._phone: str | None = None
        self._renewed = False
        self._task: asyncio.Task[None] | None = None

    def want(self, phone: str) -> None:
        """Someone asked for a code for this number."""
        self._phone, self._renewed = phone, False

    def fetch(self, lease: Lease, link: Link) -> None:
        """The link waits for pairing: ask for the code that is wanted, if one is."""
        if self._phone is not None and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._fetch(lease, link, self._phone))

    async def _fetch(self, lease: Lease, link: Link, phone: str) -> None:
        try:
            code = await link.pairing_code(phone)
            if code.ttl < SHORTEST and not self._renewed:
                self._renewed = True
                await self._renew()
                return
            now = self._deps.clock.now()
            await self._deps.database.write(lambda tx: lifecycle.pairing_code_given(tx, lease, code, now))
        except PairingRefusedError as error:
            why = str(error)
            await self._deps.database.write(lambda tx: lifecycle.pairing_code_refused(tx, lease, why))
        except Exception as error:  # noqa: BLE001 - any fault of the engine or the store
            log.error("no pairing code", instance=self._instance, error=type(error).__name__)
            with contextlib.suppress(Exception):
                await self._deps.database.write(lambda tx: lifecycle.pairing_code_refused(tx, lease, "failed"))
        if self._phone == phone:
            self._phone = None
        self._deps.wakeup.notify(asked_topic(self._instance))
