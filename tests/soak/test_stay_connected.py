"""Staying connected: ten instances under light traffic for most of ten minutes, without one reconnect or leak.

WAHUB_SOAK_SECONDS shortens it for a look.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.box import Box, Phone
from tests.support.gateway import Account, Gateway

pytestmark = [pytest.mark.soak, pytest.mark.timeout(590)]

SECONDS = float(os.environ.get("WAHUB_SOAK_SECONDS", "540"))
INSTANCES = 10
ROUND_SECONDS = 5.0
WARM_UP_SHARE = 0.2
"""The part at the start in which caches may still fill."""
MAX_GROWTH_MB = 40.0


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    box = Box(tmp_path / "sandbox")
    gateway = Gateway(tmp_path / "gateway", box.start())
    try:
        yield gateway.start()
    finally:
        gateway.close()
        box.close()


def memory_mb(pid: int) -> float:
    """Resident memory of a process, in MB."""
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(shown.stdout) / 1024


def test_instances_stay_connected_and_memory_stays_flat(gateway: Gateway) -> None:
    pairs = [(gateway.link(f"soak-{number}"), gateway.box.new_phone()) for number in range(INSTANCES)]
    (engine,) = gateway.engine_pids()
    logins = gateway.box.stats()["logins"]
    began = time.monotonic()
    baseline: dict[int, float] = {}
    rounds = 0
    while time.monotonic() - began < SECONDS:
        one_round(pairs, rounds)
        rounds += 1
        if not baseline and time.monotonic() - began > SECONDS * WARM_UP_SHARE:
            baseline = {pid: memory_mb(pid) for pid in (engine, gateway.command.pid)}
        pause = began + rounds * ROUND_SECONDS - time.monotonic()
        if pause > 0:
            time.sleep(pause)

    growth = {pid: memory_mb(pid) - before for pid, before in baseline.items()}
    print(f"{rounds} rounds, memory {baseline} MB, growth {growth} MB")
    assert gateway.engine_pids() == [engine], "the engine process was replaced"
    assert gateway.box.stats()["logins"] == logins, "an instance logged in again"
    for account, _ in pairs:
        assert account.status()["state"] == "ready"
        assert gateway.hooks.all("disconnected", account.id) == []
    assert max(growth.values()) < MAX_GROWTH_MB
    gateway.box.check_strict(0)


def one_round(pairs: list[tuple[Account, Phone]], number: int) -> None:
    """One text in each direction for each pair, each waited for."""
    for account, customer in pairs:
        account.send(customer, f"soak out {number}")
        customer.send(account.phone, f"soak in {number}")
    for account, customer in pairs:
        shown = customer.wait_shown(lambda seen: len(seen) > number)
        assert [seen["text"] for seen in shown] == [f"soak out {count}" for count in range(number + 1)]
        account.gateway.hooks.wait("message", account.id, after=number)
