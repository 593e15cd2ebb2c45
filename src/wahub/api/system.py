"""The system and debug routes (contract A.1): what the whole process does, for people who look after it.

On top of the API key they ask for `X-Admin-Debug-Secret`, when one is set. There is no low-power mode here (contract
0.10): the mode is always `normal`, nothing is held back for it, and forcing it changes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import resource
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from wahub.api import schemas
from wahub.api.deps import ApiDeps
from wahub.api.problems import problem
from wahub.api.schemas import iso_or_none
from wahub.domain.ids import InstanceId
from wahub.domain.instance import Instance
from wahub.domain.lifecycle import Lifecycle
from wahub.domain.restore import RestoreQueue
from wahub.domain.times import iso
from wahub.machine import machine_memory

Handler = Callable[[Request], Awaitable[Response]]

_HEADER = "x-admin-debug-secret"
_COOLDOWN_MINUTES = 30
_MEGABYTE = 1024 * 1024


class AdminGuard:
    """Lets requests with the right `X-Admin-Debug-Secret` pass; all of them when no secret is set."""

    def __init__(self, secret: str | None) -> None:
        self._expected = None if secret is None else hashlib.sha256(secret.encode()).digest()

    def around(self, handler: Handler) -> Handler:
        """The handler behind the guard."""

        async def guarded(request: Request) -> Response:
            return await handler(request) if self._passes(request) else problem(403, "Forbidden")

        guarded.__name__, guarded.__doc__ = getattr(handler, "__name__", "guarded"), handler.__doc__
        return guarded

    def _passes(self, request: Request) -> bool:
        if self._expected is None:
            return True
        given = dict(request.scope["headers"]).get(_HEADER.encode(), b"").strip()
        # Digests have one length: comparing them tells nothing about the secret, not even its length.
        return hmac.compare_digest(hashlib.sha256(given).digest(), self._expected)


@dataclass(frozen=True, slots=True)
class SystemRoutes:
    """Handlers. `since`: when this process began to serve (Unix seconds)."""

    deps: ApiDeps
    since: float

    async def status(self, _request: Request) -> Response:
        """`GET /system/status` and `GET /__debug/system`."""
        found, records = await self.deps.database.read(lambda tx: (tx.instances.list(), tx.lifecycles.list()))
        row, now = self.deps.restore_queue(), self.deps.clock.now()
        listed = _instances(found, {record.instance: record for record in records}, row, now)
        return schemas.success(
            {
                "mode": "normal",
                "since": iso(self.since),
                "syncingInstanceId": None,
                "queuedOutboundCount": 0,
                "queuedOutboundByInstance": {},
                "inboundBufferCount": 0,
                "restoreQueue": _restore_queue(row),
                "instances": listed,
                "perInstanceStates": listed,
            }
        )

    async def force_normal(self, _request: Request) -> Response:
        """`POST /system/force-normal`: it is normal already."""
        return schemas.success({"mode": "normal", "cooldownMinutes": _COOLDOWN_MINUTES})

    async def environment(self, _request: Request) -> Response:
        """`GET /__debug/env`: the machine as this process sees it; no environment variable, no setting."""
        memory = machine_memory()
        return schemas.success(
            {
                "runtimeVersion": f"Python {sys.version.split()[0]}",
                **_executable(Path(sys.executable)),
                "totalMemMB": round(memory.total / _MEGABYTE),
                "freeMemMB": None if memory.available is None else round(memory.available / _MEGABYTE),
                "shmMB": _size_mb(Path("/dev/shm")),  # noqa: S108 - it is measured, nothing is written
                "tmpDisk": _disk_line(Path("/tmp")),  # noqa: S108
                "uid": os.getuid(),
                "gid": os.getgid(),
                "openFileLimit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
                "openFiles": _open_files(),
            }
        )


def _instances(
    found: Sequence[Instance], records: dict[InstanceId, Lifecycle], row: RestoreQueue, now: float
) -> list[dict[str, Any]]:
    attempts = {item.instance: item.attempts for item in row.waiting}
    return [
        _instance(known, records.get(known.id) or Lifecycle(known.id), attempts.get(known.id, 0), now)
        for known in found
        if not known.deleting
    ]


def _instance(known: Instance, record: Lifecycle, attempts: int, now: float) -> dict[str, Any]:
    seen = known.observed
    return {
        "id": known.id,
        "state": seen.state,
        "lastError": seen.last_error,
        "lastStateChangeAt": iso(seen.state_at),
        "needsQrSince": iso_or_none(record.needs_qr_since),
        "lastQrAt": iso_or_none(record.last_qr_at),
        "qrRecoveryAttempts": record.qr_recovery_attempts,
        "restoreAttempts": attempts,
        "qrAgeSeconds": _age(record.last_qr_at, now),
        "needsQrAgeSeconds": _age(record.needs_qr_since, now),
    }


def _age(since: float | None, now: float) -> int | None:
    return None if since is None else max(round(now - since), 0)


def _restore_queue(row: RestoreQueue) -> dict[str, Any]:
    return {
        "queueLength": len(row.waiting),
        "processing": row.processing,
        "lastProcessedAt": iso_or_none(row.last_processed_at),
        "freeMemMB": None if row.free_mb is None else round(row.free_mb),
        "minFreeMemMB": round(row.min_free_mb),
        "queueSummary": [{"type": item.kind, "id": item.instance, "attempts": item.attempts} for item in row.waiting],
    }


def _executable(path: Path) -> dict[str, Any]:
    return {"executablePath": str(path), "executableExists": path.exists()}


def _size_mb(place: Path) -> int | None:
    try:
        return round(shutil.disk_usage(place).total / _MEGABYTE)
    except OSError:
        return None


def _disk_line(place: Path) -> str | None:
    """As `df -m` would say it: size, used and free in MB, used in per cent."""
    try:
        usage = shutil.disk_usage(place)
    except OSError:
        return None
    size, used, free = (round(figure / _MEGABYTE) for figure in usage)
    share = round(usage.used / usage.total * 100) if usage.total else 0
    return f"{place} {size} {used} {free} {share}%"


def _open_files() -> int | None:
    try:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        return None
