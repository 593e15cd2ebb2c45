"""How fast linked accounts are back when a gateway starts again, what that costs, and whether it answers meanwhile.

Instances are linked as people do it. Then the gateway is stopped and started on the same data, and the time runs from
`listening` until every instance is ready. The yardstick is a new Node process that opens as many plain sockets at once,
with keys that it reads from one file: from its start until all are open. Both times have the start of Node in them, and
the sandbox works equally for both.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.http_client import Connection
from bench.machine import Meter, memory, peak_memory, until_quiet
from bench.processes import Command, Plain
from bench.pulse import Pulse
from bench.report import Figure, Result, Verdict, percentile
from bench.stage import NO_LIMITS, Stage, patience, plain_account, until
from wahub.adapters.engines.baileys.install import InstalledEngine

STEPS = (30, 100)
AT_ONCE = {"RESTORE_JITTER_MS": "0,0", "RESTORE_CONCURRENCY": "1000"}
DEFAULTS: dict[str, str] = {}
GOAL_AT_ONCE_S = 30.0
GOAL_P99_MS = 50.0
GOALS_DEFAULTS_S = ((30, 120.0), (300, 300.0))
"""Up to so many accounts: within so many seconds (contract B.8)."""
_PATIENCE = 600.0
_QUIET_PATIENCE = 20.0
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Return:
    """One start. CPU seconds and MB (PSS when all were back, highest RSS) by process.

    `attempts`: WebSocket connections that were tried; `scans`: registrations that were offered codes; `most_sockets`:
    the most that one device had at once, ever.
    """

    seconds: float
    cpu: dict[str, float]
    pss: dict[str, float]
    peak: dict[str, float]
    others: float
    health_ms: tuple[float, ...] = ()
    attempts: int = 0
    scans: int = 0
    most_sockets: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """All starts with this many accounts."""

    count: int
    plain: list[Return]
    at_once: list[Return]
    defaults: list[Return]


async def run(stage: Stage, engine: InstalledEngine, steps: tuple[int, ...], rounds: int) -> Result:
    """At each of `steps` linked accounts: `rounds` starts of each side without delays, and one with the defaults."""
    keys = stage.data_dir.parent / "plain-keys.json"
    await stage.link_plain(max(steps))
    await stage.until_idle()
    await _leave(stage.plain, keys)
    found, on = [], stage
    for step in sorted(steps):
        await on.link_wahub(step)
        await on.until_idle()
        await _stop(on)
        at = Found(step, [], [], [])
        for _ in range(rounds):
            at.plain.append(await _plain_returns(stage, engine, keys, step))
            async with _wahub_returns(on, step, AT_ONCE) as (_on, back):
                at.at_once.append(back)
        async with _wahub_returns(on, step, DEFAULTS) as (_on, back):
            at.defaults.append(back)
        found.append(at)
        on = await _start(on, {})
    await _stop(on)
    await stage.check_clean()
    return _result(found)


# --- wahub ------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _wahub_returns(stage: Stage, count: int, settings: dict[str, str]) -> AsyncIterator[tuple[Stage, Return]]:
    """Start a gateway on the stage's data and wait until all are ready; it is stopped at the end of the block."""
    await _prepare(stage)
    before = await stage.stats()
    on = await _start(stage, settings)
    meter, began = Meter({"gateway": on.gateway.pid, "sandbox": on.sandbox.pid}), time.monotonic()
    try:
        async with Pulse(on.gateway.facts["url"]) as pulse:
            await _until_all_ready(on, count)
            seconds = time.monotonic() - began
        engines = [int(file.read_text()) for file in (stage.data_dir / "run").glob("engine-*.pid")]
        back = _measured(seconds, meter, {"gateway": [on.gateway.pid], "engine": engines})
        yield on, _with_counts(replace(back, health_ms=tuple(pulse.latencies_ms)), before, await stage.stats())
    finally:
        await _stop(on)


async def _start(stage: Stage, settings: dict[str, str]) -> Stage:
    arguments = ["serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", str(stage.data_dir)]
    environment = stage.whatsapp | NO_LIMITS | settings
    gateway = await Command.start(f"again-{next(_numbers)}", arguments, stage.data_dir.parent, environment)
    return replace(stage, gateway=gateway, hub=Connection(gateway.facts["url"]))


async def _stop(on: Stage) -> None:
    await on.hub.close()
    await on.gateway.stop()


async def _until_all_ready(on: Stage, count: int) -> None:
    """Ask the sandbox until all are logged in, and only then the gateway, which has other things to do."""

    async def logged_in() -> bool:
        on.gateway.check()
        return int((await on.stats())["connections"]) >= count

    async def ready() -> bool:
        return sum(known["status"] == "ready" for known in await on.hub.call("GET", "/instances")) >= count

    async with patience(f"{count} instances to be ready", _PATIENCE):
        await until(logged_in, 0.1)
        await until(ready, 0.1)


# --- the yardstick ----------------------------------------------------------------------------------------------------


async def _plain_returns(stage: Stage, engine: InstalledEngine, keys: Path, count: int) -> Return:
    """Start a process that opens so many of the linked sockets at once, and wait until they are open."""
    await _prepare(stage)
    before = await stage.stats()
    meter, began = Meter({"sandbox": stage.sandbox.pid}), time.monotonic()
    facts, home = stage.sandbox.facts, stage.data_dir.parent
    plain = await Plain.start(engine, home, facts["wsUrl"], facts["trustRoot"], f"plain-{next(_numbers)}")
    try:
        plain.tell(do="load", path=str(keys), open=count)
        for index in range(count):
            await plain.hear("open", plain_account(index))
        back = _measured(time.monotonic() - began, meter, {"plain Baileys": [plain.pid]})
        back = _with_counts(back, before, await stage.stats())
        # What a client does right after it opened changes keys: all of that belongs into the file.
        await asyncio.sleep(1.0)
        await _leave(plain, keys)
        return back
    finally:
        await plain.stop()


async def _leave(plain: Plain, keys: Path) -> None:
    """Close all sockets and leave the keys in a file."""
    plain.tell(do="leave")
    await plain.hear("left")
    plain.tell(do="save", path=str(keys))
    await plain.hear("saved")


# --- both -------------------------------------------------------------------------------------------------------------


async def _prepare(stage: Stage) -> None:
    """Nobody is connected, and nothing else runs."""

    async def alone() -> bool:
        return int((await stage.stats())["connections"]) == 0

    async with patience("every socket to be closed"):
        await until(alone, 0.1)
    await until_quiet(_QUIET_PATIENCE)


def _measured(seconds: float, meter: Meter, processes: dict[str, list[int]]) -> Return:
    """What /proc says now; processes that the meter does not know are as old as the measurement."""
    cpu, others = meter.used({name: pids for name, pids in processes.items() if name not in meter.names})
    pss = {name: sum(memory(pid).pss for pid in pids) for name, pids in processes.items()}
    peak = {name: sum(map(peak_memory, pids)) for name, pids in processes.items()}
    return Return(seconds, cpu, pss, peak, others)


def _with_counts(back: Return, before: dict[str, Any], after: dict[str, Any]) -> Return:
    return replace(
        back,
        attempts=after["attempts"] - before["attempts"],
        scans=after["qrShown"] - before["qrShown"],
        most_sockets=after["maxConnectionsPerDevice"],
    )


# --- what came out ----------------------------------------------------------------------------------------------------


def _result(found: list[Found]) -> Result:
    head = ["", "s to all ready", "CPU s: gateway", "engine or plain", "sandbox", "MB: gateway", "engine or plain"]
    rows = [[*head, "`/health` p50 ms", "p99 ms", "worst ms", "other cores busy"]]
    for at in found:
        for name, backs in _sides(at).items():
            rows.append(_row(f"{at.count}: {name}", backs))
    notes = [f"{name}: {Figure(values).show(2)}" for name, values in _ratios(found[-1]).items()]
    figures = {
        str(at.count): {name: [asdict(one) for one in backs] for name, backs in _sides(at).items()} for at in found
    }
    shape = "Seconds: median (lowest to highest); MB: PSS when all were back, with the highest RSS in brackets."
    return Result("Restore", rows, tuple(_verdicts(found)), figures, ("", shape, "", *(f"- {note}" for note in notes)))


def _sides(at: Found) -> dict[str, list[Return]]:
    return {"plain Baileys": at.plain, "wahub, no delays": at.at_once, "wahub, defaults": at.defaults}


def _row(name: str, backs: list[Return]) -> list[str]:
    def shown(values: list[float], digits: int) -> str:
        return Figure(tuple(values)).show(digits)

    def size(process: str) -> str:
        middle = Figure(tuple(one.pss[process] for one in backs)).median
        return f"{middle:.0f} ({max(one.peak[process] for one in backs):.0f})"

    other = "plain Baileys" if "plain Baileys" in backs[0].cpu else "engine"
    ours = other == "engine"
    health = [value for one in backs for value in one.health_ms]
    return [
        name,
        shown([one.seconds for one in backs], 1),
        shown([one.cpu["gateway"] for one in backs], 1) if ours else "",
        shown([one.cpu[other] for one in backs], 1),
        shown([one.cpu["sandbox"] for one in backs], 1),
        size("gateway") if ours else "",
        size(other),
        *(f"{percentile(health, share):.1f}" if health else "" for share in (0.5, 0.99, 1.0)),
        shown([one.others for one in backs], 2),
    ]


def _ratios(at: Found) -> dict[str, tuple[float, ...]]:
    """Of the pairs of starts without delays."""
    pairs = list(zip(at.at_once, at.plain, strict=True))
    engine = [ours.cpu["engine"] / theirs.cpu["plain Baileys"] for ours, theirs in pairs]
    both = [(ours.cpu["engine"] + ours.cpu["gateway"]) / theirs.cpu["plain Baileys"] for ours, theirs in pairs]
    return {
        f"time until all {at.count} are back, of plain Baileys'": tuple(o.seconds / p.seconds for o, p in pairs),
        "CPU of the engine, of plain Baileys'": tuple(engine),
        "CPU of engine and gateway, of plain Baileys'": tuple(both),
    }


def _verdicts(found: list[Found]) -> list[Verdict]:
    most = found[-1]
    slowest = max(one.seconds for one in most.at_once)
    verdicts = [
        Verdict(
            f"{most.count} back without delays within {GOAL_AT_ONCE_S:.0f} s",
            f"{slowest:.1f} s",
            slowest < GOAL_AT_ONCE_S,
        )
    ]
    for at in found:
        limit = next((seconds for upto, seconds in GOALS_DEFAULTS_S if at.count <= upto), None)
        if limit is not None:
            took = max(one.seconds for one in at.defaults)
            verdicts.append(
                Verdict(f"{at.count} back with the defaults within {limit:.0f} s", f"{took:.0f} s", took < limit)
            )
    for name, of in (("without delays", most.at_once), ("with the defaults", most.defaults)):
        p99 = percentile([value for one in of for value in one.health_ms], 0.99)
        verdicts.append(
            Verdict(f"p99 of `/health` {name} under {GOAL_P99_MS:.0f} ms", f"{p99:.1f} ms", p99 < GOAL_P99_MS)
        )
    every = [(at.count, one) for at in found for one in (*at.at_once, *at.defaults)]
    scans, most_sockets = sum(one.scans for _, one in every), max(one.most_sockets for _, one in every)
    extra = sum(one.attempts - count for count, one in every)
    verdicts.append(Verdict("no scan asked for", f"{scans} in {len(every)} starts", scans == 0))
    verdicts.append(Verdict("one attempt for each instance", f"{extra} more", extra == 0))
    verdicts.append(Verdict("one socket for each device", f"{most_sockets} at most", most_sockets == 1))
    return verdicts
