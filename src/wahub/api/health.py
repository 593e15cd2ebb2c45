"""The three routes that need no key (contract A.1, I-21, 0.11).

`/healthz`: the process answers. `/readyz`: it can do its work: the store is migrated and writable, the engine is up.
`/health`: the hub's figures about the machine, and the same checks; 503 only when the store fails (I-33).
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response

from wahub.api import schemas
from wahub.api.deps import ApiDeps
from wahub.domain.ids import InstanceId
from wahub.machine import machine_memory, own_memory
from wahub.ports.store import Tx

log = structlog.get_logger("wahub.http")

_MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Health:
    """Handlers."""

    deps: ApiDeps

    async def health(self, _request: Request) -> Response:
        """`GET /health`."""
        count = await self._count()
        checks = {"store": count is not None, "engine": self.deps.engine_healthy()}
        shown = {
            "status": "ok" if checks["store"] else "error",
            "service": "wa-hub",
            "version": self.deps.settings.version,
            "instanceCount": count or 0,
            **machine(),
            "ok": all(checks.values()),
            "checks": checks,
        }
        return schemas.reply(shown, 200 if checks["store"] else 503)

    async def alive(self, _request: Request) -> Response:
        """`GET /healthz`."""
        return schemas.reply({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """`GET /readyz`."""
        checks = {"store": await self._writable(), "engine": self.deps.engine_healthy()}
        ready = all(checks.values())
        return schemas.reply({"status": "ready" if ready else "not_ready", "checks": checks}, 200 if ready else 503)

    async def _count(self) -> int | None:
        """How many instances there are; None when the store does not answer."""
        try:
            async with asyncio.timeout(self.deps.settings.store_patience):
                found = await self.deps.database.read(lambda tx: tx.instances.count())
        except Exception as error:  # noqa: BLE001 - a health check reports, whatever it was
            log.warning("the store does not answer", error=type(error).__name__)
            return None
        return sum(found.values())

    async def _writable(self) -> bool:
        try:
            async with asyncio.timeout(self.deps.settings.store_patience):
                await self.deps.database.write(_touch)
        except Exception as error:  # noqa: BLE001 - a health check reports, whatever it was
            log.warning("the store cannot be written", error=type(error).__name__)
            return False
        return True


def _touch(tx: Tx) -> None:
    """A real write that changes nothing: no instance has an empty id. It fails on a store that is not migrated."""
    tx.sessions.purge(InstanceId(""))


def machine() -> dict[str, Any]:
    """Load and memory, as far as this system tells."""
    load = os.getloadavg()
    memory = machine_memory()
    used = memory.used or 0
    return {
        "cpuPercent": round(min(load[0] / (os.cpu_count() or 1) * 100, 100.0), 1),
        "loadavg": [round(figure, 2) for figure in load],
        "memoryUsedMB": round(used / _MEGABYTE),
        "memoryTotalMB": round(memory.total / _MEGABYTE),
        "memoryPercent": round(used / memory.total * 100, 1),
        "processRssMB": round(own_memory() / _MEGABYTE),
    }
