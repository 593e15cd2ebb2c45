"""One run of inbound chaos: people write to a town of shops, things go wrong as planned, and the verdict follows."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.chaos.deaths import POINT_PATIENCE, Reaper
from tests.chaos.inbound.judge import INBOUND, MORTAL, judge
from tests.chaos.inbound.ledgers import Ledgers, Logged
from tests.chaos.inbound.plan import InboundPlan, InboundRound, Trouble
from tests.chaos.inbound.receiver import MoodyReceiver
from tests.chaos.inbound.town import Town
from tests.chaos.inbound.wire import Wire
from tests.chaos.verdict import Verdict
from tests.support.box import Box
from tests.support.gateway import WEBHOOK_SECRET, Gateway
from tests.support.waiting import until

SETTINGS = {
    "SEND_ACK_TIMEOUT_MS": "1500",
    "RESTORE_CONCURRENCY": "50",
    "MAX_RESTARTS_PER_WINDOW": "0",
    "WEBHOOK_RETRY_MAX_MS": "500",
    "WEBHOOK_TIMEOUT_MS": "3000",
    "LOG_LEVEL": "warning",
    "WAHUB_ENV": "test",
}
"""Short waits, so that a run meets many of them; no pause for links that are lost again and again, as they are here."""

PER_SECOND = 25.0
"""How many things are sent to all shops."""
HEARD_IN_HOUR = 3
"""How many are sent to each shop in each step of the hour."""
PAUSED_AFTER = 20
"""Failures in a row after which an endpoint may be paused."""
PAUSED_WITHIN = 60.0
THROUGH_WITHIN = 30.0
CERTAIN_PATIENCE = 40.0
"""For a fault point that is met for certain, as soon as the processes that were started for it are up."""
SETTLE_PATIENCE = 120.0
MISSING_PATIENCE = 5.0
"""For what is not there when everything that was sent after it is."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run showed."""

    plan: InboundPlan
    kills: int
    verdict: Verdict
    seconds: float

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {count}" for name, count in self.verdict.figures.items())
        run = f"inbound chaos seed={self.plan.seed} shops={self.plan.shops} kills={self.kills}"
        return "\n".join(
            [
                f"{run} {self.seconds:.0f} s: {figures}",
                *self.verdict.findings[:40],
                "VERDICT: " + ("wrong" if self.verdict.findings else "holds"),
            ]
        )


@dataclass(slots=True)
class InboundChaos:
    """Carries a plan out."""

    plan: InboundPlan
    box: Box
    gateway: Gateway
    receiver: MoodyReceiver
    town: Town
    reaper: Reaper
    wire: Wire
    paused: set[str] = field(default_factory=set)
    """Instances whose webhook URL was paused in the hour in which it took nothing."""

    def run(self) -> Outcome:
        """Build the town, break things as planned, let everything settle, and judge."""
        started = time.monotonic()
        self.gateway.settings |= SETTINGS | {
            "WAHUB_INSTANCES_PER_ENGINE": str(-(-self.plan.shops // self.plan.engines))
        }
        self.gateway.start()
        self.town.build()
        self.wire.start()
        half = len(self.plan.rounds) // 2
        for number, one in enumerate(self.plan.rounds):
            if number == half and self.plan.hour:
                self._hour_without_receiver()
            assert self.gateway.running, f"the gateway ended by itself\n{self.gateway.log_tail()}"
            self._play(one, number)
        self._calm_down()
        verdict = judge(self._ledgers())
        verdict.figures["paused"] = len(self.paused)
        return Outcome(self.plan, self.reaper.kills, verdict, time.monotonic() - started)

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    def _play(self, one: InboundRound, number: int) -> None:
        for trouble in one.troubles:
            self._arm(trouble)
        seed = self.plan.seed * 100 + number
        pause = self.plan.shops / PER_SECOND
        self.town.talk(one.acts, seed, pause)
        time.sleep(one.pause)
        if one.settled:
            self.town.hush()
            until(lambda: not self._on_the_way(), THROUGH_WITHIN, lambda: f"not through: {self._on_the_way()}")
        if one.death is not None:
            kills = self.reaper.kills
            patience = CERTAIN_PATIENCE if one.settled else POINT_PATIENCE
            self.reaper.die(one.death, lambda: self.town.talk(one.armed, seed + 50, pause / 2), patience)
            assert not one.settled or self.reaper.kills - kills == one.death.kills, f"{one.death}: nobody died of it"
        self.town.hush()

    def _arm(self, trouble: Trouble) -> None:
        account = self.town.shops[trouble.shop].account.phone.number
        stanza = "receipt" if trouble.kind == "drop_receipt" else "message"
        do = {"drop_receipt": "drop", "lose": "dropStanza"}.get(trouble.kind, trouble.kind)
        self.box.arm({do: {}}, number=account, stanza=stanza, nth=trouble.nth)

    def _hour_without_receiver(self) -> None:
        """The receiver refuses all, while the clock goes on for an hour; everybody keeps writing."""
        self.receiver.down, begun = True, len(self.receiver.book())
        instances = {shop.account.id for shop in self.town.shops}
        for turn, shift in enumerate(self.plan.hour):
            self.town.talk(HEARD_IN_HOUR, self.plan.seed * 100 + 99 - turn, 0.1)
            self.town.hush()
            until(
                lambda: all(self.receiver.refusals(begun)[instance] >= PAUSED_AFTER for instance in instances),
                PAUSED_WITHIN,
                lambda: f"the receiver was asked too rarely: {sorted(self.receiver.refusals(begun).values())[:5]}",
            )
            self.reaper.kill_gateway()
            self.gateway.settings["WAHUB_CLOCK_SHIFT_MS"] = str(shift * 1000)
            self.gateway.start()
        until(lambda: self._note_paused() >= instances, PAUSED_WITHIN, lambda: f"paused: {len(self.paused)}")
        self.receiver.down = False

    def _note_paused(self) -> set[str]:
        for shop in self.town.shops:
            found = self.gateway.ok("GET", f"/instances/{shop.account.id}/diagnostics")
            if found["webhookEndpoint"]["state"] == "paused":
                self.paused.add(shop.account.id)
        return self.paused

    # --- the end -----------------------------------------------------------------------------------------------------

    def _calm_down(self) -> None:
        """No fault is left; everybody writes a last time, and what is under way is waited for."""
        for fault in self.box.control("GET", "faults")["faults"]:
            self.box.disarm(fault["id"])
        if self.plan.last_restart:
            self.gateway.stop()
            self.gateway.start()
        self.gateway.wait_restored(60.0)
        self.town.say_goodbye()
        with contextlib.suppress(AssertionError):
            until(
                lambda: self._ids_logged() >= self.town.goodbyes,
                SETTLE_PATIENCE,
                "something is missing: the verdict says what",
            )
            until(self._is_logged, MISSING_PATIENCE, "something is missing: the verdict says what")
        with contextlib.suppress(AssertionError):
            until(self._is_taken, SETTLE_PATIENCE, "something was not taken: the verdict says what")
        self.wire.stop()

    def _all_logged(self) -> list[Logged]:
        return [event for shop in self.town.shops for event in self._log(shop.account.id)[0]]

    def _ids_logged(self) -> set[str]:
        """Ids of the messages and votes in the log."""
        found = [event for event in self._all_logged() if event.event in INBOUND]
        return {event.data["message" if event.event == "message" else "vote"]["id"] for event in found}

    def _is_logged(self) -> bool:
        """Whether as much is logged as was sent."""
        logged = sum(event.event in INBOUND for event in self._all_logged())
        return logged >= sum(len(shop.sent) for shop in self.town.shops)

    def _is_taken(self) -> bool:
        """Whether as much is taken as was logged."""
        taken = {attempt.event_id for attempt in self.receiver.book() if attempt.taken}
        return {event.event_id for event in self._all_logged() if event.event not in MORTAL} <= taken

    def _on_the_way(self) -> list[str]:
        """What waits in the spool, and of the last thing sent to each shop what is not logged."""
        logged = self._ids_logged()
        late = [shop.sent[-1].name for shop in self.town.shops if shop.sent[-1].id not in logged]
        return self.gateway.spooled() + late

    def _ledgers(self) -> Ledgers:
        assert self.wire.missed == 0, f"{self.wire.missed} stanzas of the trace were not read in time"
        sent, logged, newest, late = [], [], {}, set()
        for shop in self.town.shops:
            sent += shop.sent
            events, newest[shop.account.id] = self._log(shop.account.id)
            logged += events
            late |= self.wire.late(shop.account.phone.number, shop.order())
        return Ledgers(sent, logged, newest, self.receiver.book(), frozenset(late))

    def _log(self, instance: str) -> tuple[list[Logged], int]:
        """All events of an instance, and the newest number."""
        events: list[Logged] = []
        page: dict[str, Any] = {"next": 0}
        while True:
            page = self.gateway.ok("GET", f"/instances/{instance}/events?after={page['next']}&limit=1000")
            if not page["events"]:
                return events, page["newest"]
            events += (_logged(instance, event) for event in page["events"])


def _logged(instance: str, event: dict[str, Any]) -> Logged:
    body = {"event": event["event"], "instanceId": instance, "data": event["data"]}
    exact = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    return Logged(instance, event["sequence"], event["eventId"], event["event"], event["data"], exact)


@contextlib.contextmanager
def _opened(plan: InboundPlan, directory: Path, module: str, settings: dict[str, str]) -> Iterator[InboundChaos]:
    box = Box(directory / "sandbox")
    receiver = MoodyReceiver(WEBHOOK_SECRET, plan.seed, moody=plan.moody)
    gateway = Gateway(directory / "gateway", box, settings, module=module, hooks=receiver)
    wire = Wire(box)
    try:
        box.start()
        yield InboundChaos(plan, box, gateway, receiver, Town(gateway, box, plan), Reaper(gateway), wire)
    finally:
        wire.leave()
        for command in gateway.runs:
            command.kill()
        receiver.close()
        box.close()


def run_inbound(
    plan: InboundPlan, directory: Path, module: str = "wahub", *, forked: bool = False, **settings: str
) -> Outcome:
    """Run a plan in a directory of its own; everything it started is gone afterwards."""
    with _opened(plan, directory, module, dict(settings)) as chaos:
        chaos.gateway.forked = forked
        try:
            outcome = chaos.run()
        except (AssertionError, httpx.HTTPError, KeyError) as error:
            raise AssertionError(f"inbound chaos seed={plan.seed} shops={plan.shops}: {error}") from error
        for check in (lambda: chaos.box.check_strict(0), chaos.gateway.close):
            try:
                check()
            except AssertionError as error:
                outcome.verdict.findings.append(str(error))
        return outcome
