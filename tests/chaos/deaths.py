"""Ways in which processes die: by kill -9 at any moment, or by their own hand at a named fault point."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

from tests.chaos.plan import Death
from tests.support.gateway import Gateway
from tests.support.processes import GONE_TIMEOUT, wait_gone
from tests.support.waiting import until

POINT_PATIENCE = 12.0
"""Seconds to wait for a fault point to be reached; a rare one may not be."""


class Reaper:
    """Kills a gateway and its engines, and brings them back. `kills` counts processes that died."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.kills = 0

    def die(self, death: Death, armed: Callable[[], None] = lambda: None, patience: float = POINT_PATIENCE) -> None:
        """Carry out one death; afterwards the gateway runs. `armed` is called when a fault point lies in wait; it
        must not block. `patience`: seconds to wait for that point.
        """
        if death.point is not None:
            self._die_at(f"{death.point}:{death.nth}", death.process, armed, patience)
        elif death.process == "gateway":
            self.kill_gateway()
            self.gateway.start()
        else:
            self._kill_engine(death.which)

    def kill_gateway(self) -> None:
        """kill -9; it stays down."""
        self.gateway.kill()
        self.kills += 1

    def _kill_engine(self, which: int) -> None:
        engines = self.gateway.engine_pids()
        if engines:
            pid = engines[which % len(engines)]
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.kills += 1
            wait_gone(pid, GONE_TIMEOUT, "the engine survived kill -9")

    def _die_at(self, fault: str, process: str, armed: Callable[[], None], patience: float) -> None:
        """Arm a fault point by a restart, wait until it is reached, and start again without it."""
        self.kill_gateway()
        self.gateway.start(fault=fault)
        armed()
        if process == "gateway":
            with contextlib.suppress(AssertionError):
                self.gateway.command.wait(patience)
                self.kills += 1
        else:
            self._wait_engine_death(patience)
        if self.gateway.running:
            self.kill_gateway()
        self.gateway.start()

    def _wait_engine_death(self, patience: float) -> None:
        seen: set[int] = set()

        def dead() -> set[int]:
            running = set(self.gateway.engine_pids())
            seen.update(running)
            return seen - running

        with contextlib.suppress(AssertionError):
            until(dead, patience, "no engine died")
            self.kills += 1
