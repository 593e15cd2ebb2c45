"""What accepting a send costs: beside an endpoint that stores nothing, at a steady rate, and with a full store.

Three gateways with a store each: one account has 100 settled items, one 100,000, one 100,000 that wait. For accepting,
WhatsApp is away, so nothing leaves; for sending, the first two are linked to the sandbox. Sides alternate, and after
each burst what it added is deleted, so that each burst meets what the first one met. Rounds during which the machine
was busy with other things do not count.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from bench import endpoint
from bench.load import Load, drive, post
from bench.machine import QUIET, Meter, until_quiet
from bench.processes import BenchError, Command
from bench.report import Figure, Result, Verdict, percentile
from bench.shop import Shop
from bench.stage import Stage

FEW, MANY = 100, 100_000
CONNECTIONS = 16
PEOPLE = 10
STEADY_CONNECTIONS = 32
STEADY_PER_SECOND = 200
GOAL_SHARE, GOAL_P99_MS, GOAL_GROWTH = 0.50, 25.0, 1.3
WARM_UP = 300
_SEND_AT_ONCE = 4
_ATTEMPTS = 4
"""How many rounds are run, per round asked for, until enough of them were quiet."""
_PATIENCE, _PAUSE = 15.0, 0.3
_ENDPOINT = str(Path(endpoint.__file__).resolve())
_ALIKE = 12
"""Bytes by which the answers of the two sides may differ: the depth has more digits, or fewer."""


@dataclass(frozen=True, slots=True)
class Burst:
    """Requests per second, CPU milliseconds of the server per request, cores that others took."""

    per_second: float
    cpu_ms: float
    others: float
    p99_ms: float


Sides = dict[str, list[Burst]]
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Target:
    """Something that accepts sends. `afterwards` brings it back to where it was."""

    url: str
    path: str
    pid: int
    afterwards: Callable[[], None]


async def run(stage: Stage, requests: int, rounds: int, sends: int, seconds: int) -> Result:
    """`rounds` bursts of `requests` accepts and of `sends` messages on each side; `seconds` of steady load."""
    people = await stage.make_people(PEOPLE)
    few, many = Shop(stage, 0, "few"), Shop(stage, 1, "many")
    await few.link(people)
    await many.link(people)
    queued = few.branch("queued")
    await few.fill(FEW)
    await many.fill(MANY)
    await queued.fill(FEW, queued=MANY)
    accepts, steady = await _accepting(stage, few, many, queued, requests, rounds, seconds)
    sending = await _sending(few, many, people, sends, rounds)
    return _result(accepts, steady, sending)


# --- accepting --------------------------------------------------------------------------------------------------------


async def _accepting(
    stage: Stage, few: Shop, many: Shop, queued: Shop, requests: int, rounds: int, seconds: int
) -> tuple[Sides, Sides]:
    shops = (few, many, queued)
    home = stage.data_dir.parent
    yardstick = await Command.start("endpoint", [], home, {}, program=[_ENDPOINT])
    try:
        for shop in shops:
            await shop.start(away=True)
        await few.on.until_idle()
        targets = {
            **{kind: _endpoint(yardstick, path) for kind, path in endpoint.PATHS.items()},
            **{shop.name: _gateway(shop) for shop in shops},
        }
        await _check_alike(targets)
        bursts = await _in_turns(targets, rounds, lambda on: _burst(on, requests))
        steady = {"few": targets["few"], "many": targets["many"], "queued": targets["queued"]}
        return bursts, await _in_turns(steady, 1, lambda on: _steady(on, seconds))
    finally:
        for shop in shops:
            await shop.stop()
        await yardstick.stop()


def _endpoint(command: Command, path: str) -> Target:
    return Target(str(command.facts["url"]), path.replace("{instance}", "bench-0"), command.pid, lambda: None)


def _gateway(shop: Shop) -> Target:
    mark = shop.mark()
    return Target(shop.url, shop.path, shop.on.gateway.pid, lambda: shop.forget_after(mark))


async def _in_turns(targets: dict[str, Target], rounds: int, measure: Callable[[Target], Awaitable[Burst]]) -> Sides:
    async def turn(target: Target) -> Burst:
        burst = await measure(target)
        target.afterwards()
        await asyncio.sleep(_PAUSE)
        return burst

    return await _quiet_rounds(targets, rounds, turn)


async def _quiet_rounds(sides: dict[str, S], rounds: int, measure: Callable[[S], Awaitable[Burst]]) -> Sides:
    """Rounds of all sides during which nothing else ran; all rounds if the machine never was quiet."""
    done: list[dict[str, Burst]] = []
    quiet: list[dict[str, Burst]] = []
    while len(quiet) < rounds and len(done) < rounds * _ATTEMPTS:
        await until_quiet(_PATIENCE)
        done.append({name: await measure(side) for name, side in sides.items()})
        quiet = [one for one in done if max(burst.others for burst in one.values()) <= QUIET]
    return {name: [one[name] for one in quiet or done] for name in sides}


async def _check_alike(targets: dict[str, Target]) -> None:
    """Warm everybody up. BenchError if the endpoint's answers are not about as long as the gateway's."""
    sizes: list[int] = []
    for target in targets.values():
        load = Load(post(target.url, target.path, _bodies(WARM_UP)))
        await drive(target.url, load, CONNECTIONS)
        target.afterwards()
        sizes += load.sizes
    if max(sizes) - min(sizes) > _ALIKE:
        raise BenchError(f"answers differ in length: {sorted(set(sizes))}")


_numbers = itertools.count()


def _bodies(count: int) -> list[dict[str, object]]:
    """Sends that are all new, to 50 chats."""
    return [
        {"chatId": f"1606555{number % 50:04}", "message": f"Your order {number} is on its way, said at {time.time()}."}
        for number in itertools.islice(_numbers, count)
    ]


async def _burst(target: Target, requests: int) -> Burst:
    load = Load(post(target.url, target.path, _bodies(requests)))
    return await _measure(target, load, CONNECTIONS)


async def _steady(target: Target, seconds: int) -> Burst:
    count = seconds * STEADY_PER_SECOND
    due = [number / STEADY_PER_SECOND for number in range(count)]
    return await _measure(target, Load(post(target.url, target.path, _bodies(count)), due), STEADY_CONNECTIONS)


async def _measure(target: Target, load: Load, connections: int) -> Burst:
    meter = Meter({"server": target.pid, "benchmark": os.getpid()})
    took = await drive(target.url, load, connections)
    cpu, others = meter.per_unit(len(load.requests))
    p99 = percentile(load.latencies, 0.99) * 1000
    return Burst(len(load.requests) / took, cpu["server"], others, p99)


# --- sending ----------------------------------------------------------------------------------------------------------


async def _sending(few: Shop, many: Shop, people: list[str], sends: int, rounds: int) -> Sides:
    shops = (few, many)
    try:
        for shop in shops:
            await shop.start()
        for shop in shops:
            await _sent(shop, people, sends // 2)
        sides = {shop.name: shop for shop in shops}
        return await _quiet_rounds(sides, rounds, lambda shop: _sent(shop, people, sends))
    finally:
        for shop in shops:
            await shop.stop()


async def _sent(shop: Shop, people: list[str], sends: int) -> Burst:
    """From the first request to the server's last ack."""
    on, mark = shop.on, shop.mark()
    await on.until_idle()
    already = (await on.stats())["messages"]["accepted"]
    meter = Meter(on.pids() | {"benchmark": os.getpid()})
    began = time.time()
    bodies = [{**body, "chatId": people[at % len(people)]} for at, body in enumerate(_bodies(sends))]
    load = Load(post(shop.url, shop.path, bodies))
    await drive(shop.url, load, _SEND_AT_ONCE)
    await on.until_accepted(already + sends)
    cpu, others = meter.per_unit(sends)
    ended = max(at for _, at in await on.acks())
    await on.until_idle()
    shop.forget_after(mark)
    return Burst(sends / (ended - began), cpu["gateway"], others, percentile(load.latencies, 0.99) * 1000)


# --- what came out ----------------------------------------------------------------------------------------------------

_NAMES = {
    "fastapi": "endpoint as FastAPI has it",
    "route": "endpoint in FastAPI that handles bytes",
    "plain": "endpoint behind a bare route that handles bytes",
    "few": f"gateway with {FEW} settled items",
    "many": f"gateway with {MANY:,} settled items",
    "queued": f"gateway with {MANY:,} queued items",
}


def _result(accepts: Sides, steady: Sides, sending: Sides) -> Result:
    ratios = {
        "accepts/s, of the endpoint as FastAPI has it": _ratio(accepts["few"], accepts["fastapi"]),
        "accepts/s, of the endpoint in FastAPI that handles bytes": _ratio(accepts["few"], accepts["route"]),
        "accepts/s, of the endpoint behind a bare route": _ratio(accepts["few"], accepts["plain"]),
        "time per accept, many settled to few": _ratio(accepts["few"], accepts["many"]),
        "CPU per accept, many settled to few": _cpu_ratio(accepts["many"], accepts["few"]),
        "time per accept, many queued to few": _ratio(accepts["few"], accepts["queued"]),
        "time per send, many settled to few": _ratio(sending["few"], sending["many"]),
        "gateway's CPU per send, many settled to few": _cpu_ratio(sending["many"], sending["few"]),
    }
    share, _, _, accept_growth, _, _, send_growth, _ = ratios.values()
    p99 = steady["few"][0].p99_ms
    verdicts = (
        Verdict(f"at least {GOAL_SHARE:.0%} of the endpoint's accepts/s", share.show(2), share.median >= GOAL_SHARE),
        Verdict(f"p99 at {STEADY_PER_SECOND}/s under {GOAL_P99_MS:.0f} ms", f"{p99:.1f} ms", p99 < GOAL_P99_MS),
        _growth("accept", accept_growth),
        _growth("send", send_growth),
    )
    rows = [["", "per second", "CPU ms each", "p99 ms", "other cores busy"]]
    rows += [_row(f"accept: {_NAMES[name]}", bursts) for name, bursts in accepts.items()]
    rows += [_row(f"accept at {STEADY_PER_SECOND}/s: {_NAMES[name]}", bursts) for name, bursts in steady.items()]
    rows += [_row(f"send: {_NAMES[name]}", bursts, p99=False) for name, bursts in sending.items()]
    notes = [f"- {name}: {figure.show(2)}" for name, figure in ratios.items()]
    figures = {
        "ratios": {name: figure.as_json() for name, figure in ratios.items()},
        **{name: _as_json(sides) for name, sides in (("accepts", accepts), ("steady", steady), ("sending", sending))},
    }
    return Result("Accepts", rows, verdicts, figures, ("", *notes))


def _growth(what: str, found: Figure) -> Verdict:
    goal = f"time per {what} with {MANY:,} stored items at most {GOAL_GROWTH} times that with {FEW}"
    return Verdict(goal, found.show(2), found.median <= GOAL_GROWTH)


def _ratio(these: list[Burst], those: list[Burst]) -> Figure:
    """Of the rates, round by round."""
    return Figure(tuple(one.per_second / other.per_second for one, other in zip(these, those, strict=True)))


def _cpu_ratio(these: list[Burst], those: list[Burst]) -> Figure:
    return Figure(tuple(one.cpu_ms / other.cpu_ms for one, other in zip(these, those, strict=True)))


def _row(name: str, bursts: list[Burst], *, p99: bool = True) -> list[str]:
    figures = [Figure(tuple(getattr(burst, field) for burst in bursts)) for field in Burst.__slots__]
    rate, cpu, others, slowest = figures
    return [name, rate.show(), cpu.show(2), slowest.show(1) if p99 else "", others.show(2)]


def _as_json(sides: Sides) -> dict[str, list[dict[str, float]]]:
    return {name: [asdict(burst) for burst in bursts] for name, bursts in sides.items()}
