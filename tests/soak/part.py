"""One part of the soak: fifty shops under traffic while links, processes and the server fail, and the reckoning.

A part goes on where the last one stopped: same accounts, same store, same phones. It has three stretches of traffic:

1. a storm in which engine processes die, too, ended by kill -9 of the gateway;
2. a storm in which no process dies, then rest: the first figures of the new processes;
3. a longer storm of the same kind, then rest: the second figures. They may not have grown.

At the end nothing may be lost, doubled or out of order, every instance is ready, nobody was asked to scan, and the
figures are compared with those of the first part, which is ten minutes old then and whose processes were as old: what
grows with the store, the sessions and the queues shows. Within a part no memory is compared, for its processes are
young: caches fill, and for five minutes Baileys keeps what it sent. What grows with the age of a process is for the
long part to show: its first figures are of processes that are ten minutes old, the second of processes of half an
hour.
"""

from __future__ import annotations

import contextlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.chaos.books import Books
from tests.chaos.town import Shop, Town
from tests.chaos.verdict import judge
from tests.soak.engine_heap import collect
from tests.soak.figures import Figures, Recorder, growth, resident, spool_files
from tests.soak.storm import Storm
from tests.soak.weather import make_storm
from tests.support.box import Box, Phone
from tests.support.gateway import Account, Gateway
from tests.support.waiting import until

SETTINGS = {
    "SEND_ACK_TIMEOUT_MS": "4000",
    "LINK_KEEP_ALIVE_MS": "8000",
    "MAX_RESTARTS_PER_WINDOW": "0",
    "RESTORE_CONCURRENCY": "50",
    "RETURN_SPACING_MS": "50",
    "LOG_LEVEL": "info",
}
"""Short waits, and no pause for links that are lost again and again."""
SHARES = (0.25, 0.25, 0.5)
LONG_SHARES = (0.1, 0.32, 0.58)
DEATHS = 3
READY_PATIENCE = 150.0
SETTLE_PATIENCE = 90.0
REST = 12.0
OLD = 600.0
"""Seconds after which the memory of a process is a measure for its later memory."""
WINDOW = 60.0
"""Seconds over which the least memory of the gateway is taken: the end of the storm and the rest."""


@dataclass(frozen=True, slots=True)
class Task:
    """What to run: part `number` (from 1) of the soak in this directory."""

    directory: Path
    number: int
    seed: int
    seconds: float
    """Of traffic."""
    shops: int
    rate: float
    """Texts per second in all."""
    long: bool = False
    """Whether the processes shall grow old."""

    @property
    def stretches(self) -> tuple[float, float, float]:
        """Seconds of each."""
        first, second, third = LONG_SHARES if self.long else SHARES
        return first * self.seconds, second * self.seconds, third * self.seconds

    @property
    def grows_old(self) -> bool:
        """Whether the processes are old at the first figures already."""
        return self.stretches[1] >= OLD


@dataclass(slots=True)
class Outcome:
    """What a part showed; no findings means that it passed."""

    findings: list[str]
    counts: dict[str, int]
    figures: list[Figures]
    seconds: float

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        rows = [f"figures {number}: {figures}" for number, figures in enumerate(self.figures, 1)]
        verdict = "VERDICT: " + ("wrong" if self.findings else "holds")
        return "\n".join([f"{self.seconds:.0f} s: {counts}", *rows, *self.findings[:40], verdict])


class Part:
    """Carries a task out."""

    def __init__(self, task: Task, box: Box, gateway: Gateway) -> None:
        self.task = task
        self.box = box
        self.gateway = gateway
        self.town = Town(gateway, box)
        self.mark = f"soak-{task.seed}-{task.number}"
        self._state = task.directory / "soak.json"
        self._saved = json.loads(self._state.read_text()) if self._state.exists() else {"figures": []}

    def run(self) -> Outcome:
        """From the start of all processes to the verdict."""
        began = time.monotonic()
        self.gateway.start()
        self._people()
        books = Books(self.town, self._read_upto())
        scans = self.box.stats()["qrShown"]
        recorder = Recorder(self.gateway, self.task.directory / f"figures-{self.task.number}.csv")
        try:
            figures = self._storms(recorder)
        finally:
            recorder.stop()
        resolved = books.settle(SETTLE_PATIENCE)
        verdict = judge(books.ledgers(least="delivered"))
        stats = self.box.stats()
        findings = [*verdict.findings, *growth(*figures, memory_too=self.task.grows_old)]
        if self.replaced:
            findings.append("the engine process was replaced between the figures")
        if stats["qrShown"] != scans:
            findings.append(f"{stats['qrShown'] - scans} scans were asked for")
        findings += self._since_the_first(figures[-1])
        findings += self._spool_files()
        self._save(figures[-1])
        counts = verdict.figures | {"resolved": resolved, "logins": stats["logins"], **self.storm_counts}
        return Outcome(findings, counts, figures, time.monotonic() - began)

    # --- who takes part ----------------------------------------------------------------------------------------------

    def _people(self) -> None:
        """The shops and their customers: new ones in the first part, known ones later."""
        self.gateway.secrets.add(self.mark)
        if "shops" not in self._saved:
            self._open_shops()
        else:
            self._find_shops()
        for shop in self.town.shops:
            self.gateway.secrets |= {shop.account.phone.number, *(customer.number for customer in shop.customers)}

    def _open_shops(self) -> None:
        def build(number: int) -> Shop:
            account = self.gateway.create(f"shop-{number}", events=["*"])
            return Shop(account.pair(), [self.box.new_phone(), self.box.new_phone()], self.mark)

        with ThreadPoolExecutor(4) as pool:
            self.town.shops = list(pool.map(build, range(self.task.shops)))
        self._saved["shops"] = [
            [shop.account.id, shop.account.phone.number, [customer.number for customer in shop.customers]]
            for shop in self.town.shops
        ]

    def _find_shops(self) -> None:
        self.gateway.wait_restored(120.0)
        for wanted, number, customers in self._saved["shops"]:
            account = Account(self.gateway, wanted, Phone(self.box, number))
            # The receiver has another port in each part.
            self.gateway.ok(
                "PUT", f"/instances/{wanted}", {"webhook": {"url": self.gateway.hooks.url, "events": ["*"]}}
            )
            self.town.shops.append(Shop(account, [Phone(self.box, one) for one in customers], self.mark))
        self._wait_ready()

    def _read_upto(self) -> dict[str, int]:
        customers = [customer for shop in self.town.shops for customer in shop.customers]
        return {one.number: max((seen["seq"] for seen in one.messages()), default=0) for one in customers}

    # --- what happens ------------------------------------------------------------------------------------------------

    def _storms(self, recorder: Recorder) -> list[Figures]:
        self.storm_counts: dict[str, int] = {}
        first, second, third = self.task.stretches
        self._traffic(0)
        self._storm(0, first, deaths=DEATHS)
        self.gateway.kill()
        self.gateway.start()
        self._storm(1, second)
        figures = [self._at_rest(recorder)]
        engines = self.gateway.engine_pids()
        self._traffic(1)
        self._storm(2, third)
        # A young engine would hide what grows.
        self.replaced = self.gateway.engine_pids() != engines
        figures.append(self._at_rest(recorder))
        return figures

    def _traffic(self, number: int) -> None:
        self.town.open(self.task.seed * 100 + self.task.number * 10 + number, self.task.rate)

    def _storm(self, number: int, seconds: float, deaths: int = 0) -> None:
        # What is held at rest depends on what just happened, so before each rest every part has the same storm.
        part = self.task.number if deaths else 0
        seed = self.task.seed * 1_000 + part * 10 + number
        storm = Storm(self.town, make_storm(seed, seconds, len(self.town.shops), deaths=deaths))
        storm.run(seconds)
        for kind, count in storm.counts.items():
            self.storm_counts[kind] = self.storm_counts.get(kind, 0) + count
        print(
            f"  storm {number + 1} of part {self.task.number} is over: {sum(storm.counts.values())} troubles",
            flush=True,
        )

    def _at_rest(self, recorder: Recorder) -> Figures:
        """No fault, no traffic, everybody ready, every item settled: figures that may be compared."""
        for fault in self.box.control("GET", "faults")["faults"]:
            # Some end by themselves.
            with contextlib.suppress(AssertionError):
                self.box.control("DELETE", f"faults/{fault['id']}")
        self.town.switch_all_on()
        self.town.close()
        self._wait_ready()
        Books(self.town).settle(SETTLE_PATIENCE)
        time.sleep(REST)
        busy, calm = recorder.least(WINDOW), recorder.least(REST / 2)
        (engine,) = self.gateway.engine_pids()
        held = {"gateway_rss": busy.gateway_rss, "engine_heap": collect(engine), "engine_rss": resident(engine)}
        figures = replace(calm, **held)
        print(f"  at rest: {figures}", flush=True)
        return figures

    def _wait_ready(self) -> None:
        def all_ready() -> bool:
            return all(known["status"] == "ready" for known in self.gateway.http("GET", "/instances").json())

        def stuck() -> str:
            states = {known["id"]: known["status"] for known in self.gateway.http("GET", "/instances").json()}
            return f"not ready: { {name: state for name, state in states.items() if state != 'ready'} }"

        until(all_ready, READY_PATIENCE, stuck)

    def _spool_files(self) -> list[str]:
        """At rest nothing waits, so each link has one file open at most."""
        found = sum(spool_files(pid) for pid in self.gateway.engine_pids())
        return [f"{found} files of the spool are open"] if found > len(self.town.shops) else []

    # --- from part to part -------------------------------------------------------------------------------------------

    def _since_the_first(self, now: Figures) -> list[str]:
        """The processes of all parts are of one age when they are measured."""
        if not self._saved["figures"]:
            return []
        return [f"since the first part: {found}" for found in growth(Figures(**self._saved["figures"][0]), now)]

    def _save(self, figures: Figures) -> None:
        self._saved["figures"].append(asdict(figures))
        self._state.write_text(json.dumps(self._saved, indent=1) + "\n")


def run_part(task: Task) -> Outcome:
    """Run a part; everything it started is gone afterwards, and its directory is ready for the next one."""
    box = Box(task.directory / "sandbox", keep_state=True)
    gateway = Gateway(task.directory / "gateway", box, dict(SETTINGS))
    try:
        box.start()
        outcome = Part(task, box, gateway).run()
        for check in (lambda: box.check_strict(0), gateway.close, box.stop):
            try:
                check()
            except AssertionError as error:
                outcome.findings.append(str(error))
        return outcome
    finally:
        for command in gateway.runs:
            command.kill()
        box.close()
