"""Messages per second: so many accounts at the same time, through wahub and with plain Baileys, in turns.

Both sides write to the same people on the same sandbox, and on both the phones decrypt everything. For wahub the time
runs from the first HTTP request to the last ack of the server, so accepting counts; for plain Baileys from the first
send to the last ack. Every account waits for the ack of one message before it sends the next.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from dataclasses import dataclass

from bench.http_client import Connection
from bench.machine import QUIET, Meter, until_quiet
from bench.report import Figure, Result, Verdict
from bench.stage import Stage, instance, plain_account

PEOPLE = 10
CONNECTIONS = 4
GOAL = 0.70
NOTHING = 0.03
"""Milliseconds per message below which a process had no part in it."""
_ATTEMPTS = 4
"""How many rounds are run, per round asked for, until enough of them were quiet."""
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Round:
    """One burst. `accepted_per_second` is 0 where nothing is accepted; CPU is milliseconds per message and process.

    `others`: how many cores everything else on the machine took meanwhile.
    """

    per_second: float
    accepted_per_second: float
    cpu_ms: dict[str, float]
    others: float


async def run(stage: Stage, accounts: int, messages: int, rounds: int) -> Result:
    """Measure `rounds` bursts of `messages` per account on each side, alternating."""
    people = await stage.make_people(PEOPLE)
    await stage.link_wahub(accounts)
    await stage.link_plain(accounts)
    await stage.get_acquainted(people, accounts)
    # The first burst of each side compiles JavaScript and grows heaps; it counts for nothing.
    await plain_burst(stage, people, accounts, messages // 2)
    await wahub_burst(stage, people, accounts, messages // 2)
    pairs: list[tuple[Round, Round]] = []
    quiet: list[tuple[Round, Round]] = []
    while len(quiet) < rounds and len(pairs) < rounds * _ATTEMPTS:
        await until_quiet(_PATIENCE)
        plain = await plain_burst(stage, people, accounts, messages)
        pairs.append((plain, await wahub_burst(stage, people, accounts, messages)))
        quiet = [pair for pair in pairs if max(one.others for one in pair) <= QUIET]
    await stage.check_clean()
    chosen = quiet or pairs
    return _result([one for one, _ in chosen], [one for _, one in chosen], accounts, messages, len(pairs))


async def plain_burst(stage: Stage, people: list[str], accounts: int, messages: int) -> Round:
    """One burst of the yardstick."""
    await stage.until_idle()
    names = [plain_account(index) for index in range(accounts)]
    meter = Meter(stage.pids() | {"benchmark": os.getpid()})
    stage.plain.tell(do="burst", names=names, to=people, messages=messages)
    done = await stage.plain.hear("done")
    total = accounts * messages
    cpu, others = meter.per_unit(total)
    return Round(total / ((done["ended"] - done["began"]) / 1000), 0, cpu, others)


async def wahub_burst(stage: Stage, people: list[str], accounts: int, messages: int) -> Round:
    """One burst through the gateway."""
    await stage.until_idle()
    total = accounts * messages
    already = (await stage.stats())["messages"]["accepted"]
    meter = Meter(stage.pids() | {"benchmark": os.getpid()})
    began = time.time()
    requests = _requests(people, accounts, messages, began)
    connections = [Connection(stage.gateway.facts["url"]) for _ in range(CONNECTIONS)]
    await asyncio.gather(*(_post_all(stage, connection, requests) for connection in connections))
    accepted = time.time()
    await stage.until_accepted(already + total, every=0.1)
    cpu, others = meter.per_unit(total)
    ended = max(at for _, at in await stage.acks())
    for connection in connections:
        await connection.close()
    return Round(total / (ended - began), total / (accepted - began), cpu, others)


def _requests(people: list[str], accounts: int, messages: int, stamp: float) -> list[tuple[int, str, str]]:
    """What to send, last first: every account gets its first message before any gets its second."""
    return [
        (account, people[(account + number) % len(people)], f"Message {number} of {instance(account)}, {stamp}")
        for number in reversed(range(messages))
        for account in reversed(range(accounts))
    ]


async def _post_all(stage: Stage, connection: Connection, requests: list[tuple[int, str, str]]) -> None:
    while requests:
        account, to, text = requests.pop()
        await stage.send(connection, account, to, text)


def _result(plain: list[Round], wahub: list[Round], accounts: int, messages: int, attempts: int) -> Result:
    ratio = Figure(tuple(ours.per_second / theirs.per_second for ours, theirs in zip(wahub, plain, strict=True)))
    rows = [["", "plain Baileys", "wahub"]]
    speed = {side: Figure(tuple(r.per_second for r in rounds)) for side, rounds in _sides(plain, wahub)}
    accepts = Figure(tuple(one.accepted_per_second for one in wahub))
    rows.append(["messages/s, request to ack", speed["plain"].show(), speed["wahub"].show()])
    rows.append(["HTTP accepts/s meanwhile", "", accepts.show()])
    cpu = {side: _cpu(rounds) for side, rounds in _sides(plain, wahub)}
    for name in ("plain Baileys", "gateway", "engine", "sandbox", "benchmark"):
        cells = [figure.show(2) if (figure := cpu[side][name]).median >= NOTHING else "" for side in ("plain", "wahub")]
        rows.append([f"CPU ms per message: {name}", *cells])
    totals = [sum(figure.median for figure in cpu[side].values()) for side in ("plain", "wahub")]
    rows.append(["CPU ms per message: sum", *(f"{total:.2f}" for total in totals)])
    others = {side: Figure(tuple(r.others for r in rounds)) for side, rounds in _sides(plain, wahub)}
    rows.append(["cores busy with other things", others["plain"].show(2), others["wahub"].show(2)])
    verdict = Verdict(f"at least {GOAL:.0%} of the messages/s of plain Baileys", _percent(ratio), ratio.median >= GOAL)
    shape = f"{accounts} accounts, {messages} messages each per round, {len(plain)} rounds"
    figures = {
        "ratio": ratio.as_json(),
        "perSecond": {side: figure.as_json() for side, figure in speed.items()},
        "acceptsPerSecond": accepts.as_json(),
        "othersCores": {side: figure.as_json() for side, figure in others.items()},
        "cpuMs": {side: {name: figure.as_json() for name, figure in found.items()} for side, found in cpu.items()},
    }
    if attempts > len(plain):
        shape += f" ({attempts - len(plain)} more did not count, because the machine was busy with other things)"
    shape += ": median (lowest to highest)."
    disturbed = max(*others["plain"].values, *others["wahub"].values) > QUIET
    warning = ("The machine was busy with other things: the figures are too low, and the ratio may be off.",)
    return Result("Throughput", rows, (verdict,), figures, ("", shape, *(warning if disturbed else ())))


def _percent(ratio: Figure) -> str:
    return f"{100 * ratio.median:.0f} % ({100 * min(ratio.values):.0f} to {100 * max(ratio.values):.0f})"


def _sides(plain: list[Round], wahub: list[Round]) -> tuple[tuple[str, list[Round]], tuple[str, list[Round]]]:
    return ("plain", plain), ("wahub", wahub)


def _cpu(rounds: list[Round]) -> dict[str, Figure]:
    found: dict[str, list[float]] = defaultdict(list)
    for one in rounds:
        for name, value in one.cpu_ms.items():
            found[name].append(value)
    return {name: Figure(tuple(values)) for name, values in found.items()}
