"""Memory of linked accounts that do nothing: the gateway and its engine, against plain sockets in one process.

The same processes grow from step to step, each account pairing as people do. After each step everything rests before
it is measured. PSS counts: pages that several processes share are counted once in all.
"""

from __future__ import annotations

import asyncio

from bench.machine import Memory, cpu_seconds, memory
from bench.report import Result, Verdict
from bench.stage import Stage

STEPS = (1, 20, 100)
REST_SECONDS = 15.0
GOAL_RATIO = 1.2
GOAL_PYTHON_MB = 1.0


async def run(stage: Stage, steps: tuple[int, ...] = STEPS) -> Result:
    """Link `steps` accounts on each side and measure at each step."""
    found: list[dict[str, Memory]] = []
    idle: dict[str, float] = {}
    for step in steps:
        await stage.link_wahub(step)
        await stage.link_plain(step)
        await stage.until_idle()
        pids = {
            "gateway": stage.gateway.pid,
            "engine": stage.engine_pid,
            "plain": stage.plain.pid,
            "sandbox": stage.sandbox.pid,
        }
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        await asyncio.sleep(REST_SECONDS)
        idle = {name: (cpu_seconds(pid) - before[name]) / REST_SECONDS * 100 for name, pid in pids.items()}
        found.append({name: memory(pid) for name, pid in pids.items()})
    await stage.check_clean()
    return _result(steps, found, idle)


def _result(steps: tuple[int, ...], found: list[dict[str, Memory]], idle: dict[str, float]) -> Result:
    rows = [["MB (PSS; RSS in brackets)", *(f"{step} linked" for step in steps), f"CPU at {steps[-1]}, idle"]]
    names = {"engine": "engine process", "plain": "plain Baileys process", "gateway": "gateway process"}
    for name, title in names.items():
        cells = [f"{at[name].pss:.0f} ({at[name].rss:.0f})" for at in found]
        rows.append([title, *cells, f"{idle[name]:.1f} %"])
    ratios = [at["engine"].pss / at["plain"].pss for at in found]
    rows.append(["engine / plain", *(f"{ratio:.2f}" for ratio in ratios), ""])
    more = max(steps[-1] - steps[0], 1)
    growth = {name: (found[-1][name].pss - found[0][name].pss) / more for name in names}
    verdicts = (
        Verdict(
            f"engine process at most {GOAL_RATIO} times plain Baileys at {steps[-1]} linked",
            f"{ratios[-1]:.2f} times",
            ratios[-1] <= GOAL_RATIO,
        ),
        Verdict(
            f"gateway process under {GOAL_PYTHON_MB:.0f} MB per instance",
            f"{growth['gateway']:.2f} MB",
            growth["gateway"] < GOAL_PYTHON_MB,
        ),
    )
    note = "Growth per account: " + ", ".join(f"{title} {growth[name]:.2f} MB" for name, title in names.items()) + "."
    figures = {
        "steps": list(steps),
        "mb": [{name: {"pss": each.pss, "rss": each.rss} for name, each in at.items()} for at in found],
        "idleCpuPercent": idle,
        "growthMb": growth,
    }
    return Result("Memory", rows, verdicts, figures, ("", note))
