"""Carries a storm out over a town: each trouble at its time, and what has to end later at its time."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Callable

from tests.chaos.town import Town
from tests.soak.weather import DEATH, Trouble


class Storm:
    """One storm; `counts` is what happened, by kind. A fault for a socket that is not there just now counts as none."""

    def __init__(self, town: Town, troubles: tuple[Trouble, ...]) -> None:
        self.counts: Counter[str] = Counter()
        self._town = town
        self._order = itertools.count()
        self._plan: list[tuple[float, int, Callable[[], None]]] = []
        for trouble in troubles:
            self._at(trouble.at, lambda trouble=trouble: self._begin(trouble))  # type: ignore[misc]

    def run(self, seconds: float) -> None:
        """Let it rage so long."""
        began = time.monotonic()
        self._at(seconds, lambda: None)
        while self._plan:
            at, _, work = heapq.heappop(self._plan)
            time.sleep(max(began + at - time.monotonic(), 0.0))
            assert self._town.gateway.running, f"the gateway ended by itself\n{self._town.gateway.log_tail()}"
            self._now = at
            work()

    def _at(self, at: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._plan, (at, next(self._order), work))

    def _begin(self, trouble: Trouble) -> None:
        shop = self._town.shops[trouble.shop]
        own, customer = shop.account.phone.number, shop.customers[trouble.chat].number
        match trouble.kind:
            case "phone_off":
                self._town.switch_off(customer)
                self._at(self._now + trouble.ms / 1000, lambda: self._town.switch_on(customer))
                done = True
            case "server_gone":
                done = self._arm({}, {"gone": {"ms": trouble.ms}})
            case kind if kind == DEATH:
                done = self._kill_engine()
            case "ack_error":
                done = self._arm({"number": customer, "stanza": "message"}, {"ackError": {"code": 503}})
            case "no_ack":
                done = self._arm({"number": customer, "stanza": "message"}, {"noAck": {}})
            case "late_ack":
                done = self._arm({"number": customer, "stanza": "message"}, {"lateAck": {"ms": trouble.ms}})
            case "drop_stanza":
                done = self._arm({"number": customer, "stanza": "message"}, {"dropStanza": {}})
            case "duplicate":
                done = self._arm({"number": own, "stanza": "message"}, {"duplicate": {}})
            case _:
                done = self._inject(own, _socket_fault(trouble))
        self.counts[trouble.kind] += done

    def _arm(self, match: dict[str, str], do: dict[str, object]) -> bool:
        self._town.box.control("POST", "faults", {"match": match, "do": do})
        return True

    def _inject(self, number: str, fault: dict[str, object]) -> bool:
        box = self._town.box
        with contextlib.suppress(AssertionError):
            (device,) = box.control("GET", f"phones/{number}")["devices"]
            box.control("POST", f"phones/{number}/devices/{device['id']}/inject", {"fault": fault})
            return True
        return False

    def _kill_engine(self) -> bool:
        pids = self._town.gateway.engine_pids()
        for pid in pids[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(pids)


def _socket_fault(trouble: Trouble) -> dict[str, object]:
    match trouble.kind:
        case "drop" | "silent" | "mute":
            return {trouble.kind: {}}
        case "deaf":
            return {"silent": {"deaf": True}}
        case "slow":
            return {"slow": {"ms": trouble.ms}}
        case _:
            return {"streamError": {"code": int(trouble.kind.removeprefix("stream_"))}}
