"""Health without a key (contract A.1, I-21, 0.11)."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import httpx
from tests.integration.api.conftest import Edge


class BrokenStore:
    """A store whose disk is gone."""

    async def write(self, work: Callable[..., Any]) -> Any:
        raise OSError("no disk")

    async def read(self, work: Callable[..., Any]) -> Any:
        raise OSError("no disk")

    async def close(self) -> None: ...


class SilentStore(BrokenStore):
    """A store that never answers."""

    async def write(self, work: Callable[..., Any]) -> Any:
        await asyncio.Event().wait()

    read = write


async def test_health_has_the_hub_shape_and_checks(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("a")
    await edge.add("b")
    answer = await client.get("/health")
    shown = answer.json()

    assert answer.status_code == 200
    assert (shown["status"], shown["service"], shown["instanceCount"]) == ("ok", "wa-hub", 2)
    assert (shown["ok"], shown["checks"]) == (True, {"store": True, "engine": True})
    assert 0 <= shown["cpuPercent"] <= 100
    assert len(shown["loadavg"]) == 3
    assert 0 < shown["memoryUsedMB"] < shown["memoryTotalMB"]
    assert 0 < shown["memoryPercent"] < 100
    assert 0 < shown["processRssMB"] < shown["memoryTotalMB"]
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json() == {"status": "ready", "checks": {"store": True, "engine": True}}


async def test_without_an_engine_it_is_healthy_but_not_ready(client: httpx.AsyncClient, edge: Edge) -> None:
    edge.engine_up = False
    health, ready, alive = [await client.get(path) for path in ("/health", "/readyz", "/healthz")]

    assert (health.status_code, health.json()["ok"]) == (200, False)
    assert (ready.status_code, ready.json()) == (
        503,
        {"status": "not_ready", "checks": {"store": True, "engine": False}},
    )
    assert alive.status_code == 200


async def test_without_a_store_it_is_neither(edge: Edge) -> None:
    for store in (BrokenStore(), SilentStore()):
        edge.deps = dataclasses.replace(edge.deps, database=store)
        edge.with_settings(store_patience=0.05)
        async with edge.client() as client:
            health, ready, alive = [await client.get(path) for path in ("/health", "/readyz", "/healthz")]
        assert (health.status_code, health.json()["checks"]["store"]) == (503, False)
        assert (ready.status_code, ready.json()["status"]) == (503, "not_ready")
        assert alive.status_code == 200
        assert "no disk" not in health.text + ready.text
