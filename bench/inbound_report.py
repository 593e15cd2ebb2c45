"""What bench/inbound.py found, as one table with verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.machine import QUIET
from bench.report import Figure, Result, Verdict, percentile

GOAL_SHARE, GOAL_P50_MS = 0.70, 10.0
NOTHING = 0.03
"""Milliseconds per message below which a process had no part in it."""
_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_PROCESSES = ("plain Baileys", "gateway", "engine", "sandbox", "benchmark")


@dataclass(frozen=True, slots=True)
class Burst:
    """Messages per second from the first frame on the socket; `written`: until the sandbox had written the last one.

    For plain Baileys `received` and `posted` are the same. CPU is milliseconds per message and process; `others`: cores
    that everything else on the machine took meanwhile.
    """

    received: float
    posted: float
    written: float
    cpu_ms: dict[str, float]
    others: float

    @classmethod
    def of(
        cls, count: int, let_go: dict[str, float], received: float, posted: float, cpu: dict[str, float], others: float
    ) -> Burst:
        """From the epoch seconds at which the last message was received, and posted."""
        began, ended = let_go["began"], let_go["ended"]
        # So few that one write held them all.
        written = count / max(ended - began, 1e-4)
        return cls(count / (received - began), count / (posted - began), written, cpu, others)


@dataclass(frozen=True, slots=True)
class Delays:
    """Milliseconds of each message, by side; CPU milliseconds per message, by side and process."""

    sides: dict[str, list[float]]
    cpu_ms: dict[str, dict[str, float]]
    others: float


@dataclass(frozen=True, slots=True)
class Found:
    """All of it; `bursts` are pairs (plain Baileys, wahub) by the number of accounts."""

    per_second: int
    messages: int
    delays: Delays
    bursts: dict[int, list[tuple[Burst, Burst]]]


def result(found: Found) -> Result:
    """The table, the verdicts and the figures."""
    p50 = percentile(found.delays.sides["wahub"], 0.5)
    verdicts = [Verdict(f"socket to webhook, p50 under {GOAL_P50_MS:.0f} ms", f"{p50:.1f} ms", p50 < GOAL_P50_MS)]
    rows = [["", "plain Baileys", "wahub"], *_delay_rows(found)]
    for accounts, pairs in found.bursts.items():
        rows += _burst_rows(accounts, pairs)
        verdicts += _verdicts(accounts, pairs)
    others = max(
        found.delays.others, *(one.others for pairs in found.bursts.values() for pair in pairs for one in pair)
    )
    counts = " and ".join(str(len(pairs)) for pairs in found.bursts.values())
    shape = (
        f"{len(found.delays.sides['wahub'])} messages on each side for the delays, {found.messages} in each burst, "
        f"{counts} bursts of each side: median (lowest to highest). "
        f"Cores busy with other things: at most {others:.2f}."
    )
    notes = ["", shape]
    if others > QUIET:
        notes.append("The machine was busy with other things: the figures are too low, and the ratios may be off.")
    return Result("Inbound", rows, tuple(verdicts), _figures(found), tuple(notes))


def _delay_rows(found: Found) -> list[list[str]]:
    sides, what = found.delays.sides, f"at {found.per_second}/s, ms from the socket"
    rows = [
        [f"{what}: {name}", *(f"{percentile(sides[side], share):.1f}" for side in ("plain", "wahub"))]
        for name, share in _SHARES.items()
    ]
    cpu = found.delays.cpu_ms
    return rows + _cpu_rows(f"at {found.per_second}/s", cpu["plain"], cpu["wahub"])


def _burst_rows(accounts: int, pairs: Sequence[tuple[Burst, Burst]]) -> list[list[str]]:
    what = "1 account" if accounts == 1 else f"{accounts} accounts"
    plain, wahub = [one for one, _ in pairs], [one for _, one in pairs]
    return [
        [f"{what}: messages/s received (wahub: in the log)", _show(plain, _received), _show(wahub, _received)],
        [f"{what}: messages/s posted to the webhook", "", _show(wahub, lambda one: one.posted)],
        [
            f"{what}: messages/s that the sandbox wrote",
            *(_show(side, lambda one: one.written) for side in (plain, wahub)),
        ],
        *_cpu_rows(what, _median_cpu(plain), _median_cpu(wahub)),
    ]


def _cpu_rows(what: str, plain: dict[str, float], wahub: dict[str, float]) -> list[list[str]]:
    rows = [
        [f"{what}: CPU ms, {name}", *(f"{side[name]:.2f}" if side[name] >= NOTHING else "" for side in (plain, wahub))]
        for name in _PROCESSES
    ]
    return [*rows, [f"{what}: CPU ms, sum", *(f"{sum(side.values()):.2f}" for side in (plain, wahub))]]


def _verdicts(accounts: int, pairs: Sequence[tuple[Burst, Burst]]) -> list[Verdict]:
    verdicts = []
    for what, value in (("in the log", _received), ("posted", lambda one: one.posted)):
        share = _share(pairs, value)
        goal = f"{accounts} account{'s' * (accounts > 1)}, {what}: at least {GOAL_SHARE:.0%} of plain Baileys"
        shown = f"{100 * share.median:.0f} % ({100 * min(share.values):.0f} to {100 * max(share.values):.0f})"
        verdicts.append(Verdict(goal, shown, share.median >= GOAL_SHARE))
    return verdicts


def _share(pairs: Sequence[tuple[Burst, Burst]], value: Callable[[Burst], float]) -> Figure:
    """wahub's figure as a share of what plain Baileys received, round by round."""
    return Figure(tuple(value(wahub) / plain.received for plain, wahub in pairs))


def _received(one: Burst) -> float:
    return one.received


def _show(bursts: Sequence[Burst], value: Callable[[Burst], float]) -> str:
    return Figure(tuple(map(value, bursts))).show()


def _median_cpu(bursts: Sequence[Burst]) -> dict[str, float]:
    return {name: Figure(tuple(one.cpu_ms[name] for one in bursts)).median for name in bursts[0].cpu_ms}


def _figures(found: Found) -> dict[str, Any]:
    return {
        "delaysMs": found.delays.sides,
        "delaysCpuMs": found.delays.cpu_ms,
        "bursts": {
            str(accounts): [
                {
                    side: {"received": one.received, "posted": one.posted, "written": one.written, "cpuMs": one.cpu_ms}
                    for side, one in zip(("plain", "wahub"), pair, strict=True)
                }
                for pair in pairs
            ]
            for accounts, pairs in found.bursts.items()
        },
    }
