"""One run of chaos: a town under load, a plan of what goes wrong, and the verdict over what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.chaos.books import Books
from tests.chaos.deaths import Reaper
from tests.chaos.plan import Plan, Round, WireFault
from tests.chaos.town import Town
from tests.chaos.verdict import Verdict, judge
from tests.support.box import Box
from tests.support.gateway import Gateway

SETTINGS = {
    "SEND_ACK_TIMEOUT_MS": "1500",
    "RESTORE_CONCURRENCY": "50",
    "MAX_RESTARTS_PER_WINDOW": "0",
    "LOG_LEVEL": "warning",
}
"""Short waits, so that a run meets many of them; no pause for links that are lost again and again, as they are here."""

ENGINES = 3
SETTLE_PATIENCE = 90.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run showed."""

    plan: Plan
    kills: int
    verdict: Verdict
    resolved: int
    """Items of unknown fate that were given up, and sent again by a caller's word."""
    seconds: float

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {count}" for name, count in self.verdict.figures.items())
        run = f"chaos seed={self.plan.seed} shops={self.plan.shops} kills={self.kills}"
        lines = [
            f"{run} resolved={self.resolved} {self.seconds:.0f} s: {figures}",
            *self.verdict.findings[:40],
            "VERDICT: " + ("wrong" if self.verdict.findings else "holds"),
        ]
        return "\n".join(lines)


class Chaos:
    """Carries a plan out."""

    def __init__(self, plan: Plan, box: Box, gateway: Gateway, engines: int) -> None:
        self.plan = plan
        self.engines = engines
        self.box = box
        self.gateway = gateway
        self.reaper = Reaper(gateway)
        self.town = Town(gateway, box)

    def run(self, per_second: float) -> Outcome:
        """Build the town, break things as planned, let everything settle, and judge."""
        started = time.monotonic()
        per_engine = -(-self.plan.shops // self.engines)
        self.gateway.settings |= SETTINGS | {"WAHUB_INSTANCES_PER_ENGINE": str(per_engine)}
        self.gateway.start()
        self.town.build(self.plan.shops, f"chaos-{self.plan.seed}")
        self.town.open(self.plan.seed, per_second)
        for one in self.plan.rounds:
            assert self.gateway.running, f"the gateway ended by itself\n{self.gateway.log_tail()}"
            self._play(one)
        self.town.close()
        self._calm_down()
        books = Books(self.town)
        resolved = books.settle(SETTLE_PATIENCE)
        verdict = judge(books.ledgers())
        return Outcome(self.plan, self.reaper.kills, verdict, resolved, time.monotonic() - started)

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    def _play(self, one: Round) -> None:
        for fault in one.faults:
            self._arm(fault)
        time.sleep(one.pause)
        self.reaper.die(one.death)
        self.town.switch_all_on()

    def _arm(self, fault: WireFault) -> None:
        shop = self.town.shops[fault.shop]
        customer = shop.customers[fault.chat].number
        to_customer = {"number": customer, "stanza": "message"}
        match fault.kind:
            case "no_ack":
                order = {"match": to_customer, "do": {"noAck": {}}}
            case "late_ack":
                order = {"match": to_customer, "do": {"lateAck": {"ms": fault.ms}}}
            case "drop_stanza":
                order = {"match": to_customer, "do": {"dropStanza": {}}}
            case "drop_tcp":
                order = {"match": {"number": shop.account.phone.number, "stanza": "message"}, "do": {"drop": {}}}
            case _:
                # Also the shop's own phone, whose copy would prove that the server has the message.
                self.town.switch_off(customer, shop.account.phone.number)
                order = {"match": to_customer, "do": {"noAck": {}}, "times": 2}
        self.box.control("POST", "faults", order)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _calm_down(self) -> None:
        """No fault is left, all phones are on, and both processes started anew: what was spooled comes again."""
        for fault in self.box.control("GET", "faults")["faults"]:
            self.box.control("DELETE", f"faults/{fault['id']}")
        self.town.switch_all_on()
        self.gateway.stop()
        self.gateway.start()
        self.gateway.wait_restored()


def run_chaos(
    plan: Plan,
    directory: Path,
    per_second: float,
    *,
    engines: int = ENGINES,
    module: str = "wahub",
    forked: bool = False,
    **settings: str,
) -> Outcome:
    """Run a plan in a directory of its own; everything it started is gone afterwards."""
    box = Box(directory / "sandbox", keep_state=True)
    gateway = Gateway(directory / "gateway", box, dict(settings), module=module, forked=forked)
    try:
        box.start()
        outcome = Chaos(plan, box, gateway, engines).run(per_second)
        for check in (lambda: box.check_strict(0), gateway.close):
            try:
                check()
            except AssertionError as error:
                outcome.verdict.findings.append(str(error))
        return outcome
    except (AssertionError, httpx.HTTPError, KeyError) as error:
        raise AssertionError(f"chaos seed={plan.seed} shops={plan.shops}: {error}") from error
    finally:
        for command in gateway.runs:
            command.kill()
        box.close()
