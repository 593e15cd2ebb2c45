"""`python -m bench [part]`: prints Markdown tables and verdicts; progress goes to stderr."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from bench import accepts, dispatcher, inbound, latency, memory, restore, throughput
from bench.http_client import CallError
from bench.machine import describe
from bench.processes import BenchError
from bench.report import Result
from bench.stage import Stage, stage
from wahub.adapters.engines.baileys.install import InstalledEngine, ensure_installed

ALL = ("throughput", "latency", "memory", "accepts", "restore", "inbound", "dispatcher")


def main() -> int:
    """Run what was asked for. Exit code 0 when it ran, met or not; 1 when it could not; 3 with --strict if not met."""
    options = _parse()
    parts = ALL if options.part == "all" else (options.part,)
    engine = ensure_installed(_cache_directory(), _say)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
            results = loop.run(_run(parts, options, engine))
    except (BenchError, CallError, EOFError, OSError) as error:
        _say(f"The benchmark could not be run: {error}")
        return 1
    if options.json is not None:
        found = {"machine": describe(engine.node), **{name: result.as_json() for name, result in results.items()}}
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    met = all(verdict.met for result in results.values() for verdict in result.verdicts)
    return 0 if met or not options.strict else 3


async def _run(parts: tuple[str, ...], options: argparse.Namespace, engine: InstalledEngine) -> dict[str, Result]:
    work: dict[str, Callable[[Stage], Awaitable[Result]]] = {
        "throughput": lambda on: throughput.run(on, options.instances, options.messages, options.rounds),
        "latency": lambda on: latency.run(on, options.latency_messages),
        "memory": lambda on: memory.run(on, tuple(options.steps)),
        "accepts": lambda on: accepts.run(on, options.requests, options.accept_rounds, options.sends, options.seconds),
        "restore": lambda on: restore.run(on, engine, tuple(options.restore_steps), options.restore_rounds),
    }
    print(" · ".join(f"{name} {value}" for name, value in describe(engine.node).items()), flush=True)
    results = {}
    for part in parts:
        began = time.monotonic()
        _say(f"{part} …")
        if part == "dispatcher":  # it needs neither engine nor sandbox
            results[part] = await dispatcher.run(options.events, options.dispatcher_rounds)
        elif part == "inbound":  # its sandbox is a special one
            size = inbound.Size(options.arrivals, options.inbound_rounds, options.inbound_seconds)
            results[part] = await inbound.run(engine, size)
        else:
            # A stage of its own for each part: what one part leaves in heaps and tables is not measured by the next.
            async with stage(engine) as on:
                results[part] = await work[part](on)
        _say(f"{part}: {time.monotonic() - began:.0f} s")
        print("\n" + results[part].text(), flush=True)
    return results


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks of wahub against plain Baileys.")
    parser.add_argument("part", nargs="?", choices=(*ALL, "all"), default="all")
    parser.add_argument("--instances", type=_positive, default=10, help="throughput: accounts at the same time")
    parser.add_argument("--messages", type=_positive, default=200, help="throughput: messages per account and round")
    parser.add_argument("--rounds", type=_positive, default=3, help="throughput: bursts of each side")
    parser.add_argument("--latency-messages", type=_positive, default=300, help="latency: messages of each side")
    parser.add_argument("--steps", type=_positive, nargs="+", default=memory.STEPS, help="memory: linked accounts")
    parser.add_argument("--requests", type=_positive, default=3_000, help="accepts: requests per burst")
    parser.add_argument("--sends", type=_positive, default=300, help="accepts: messages per burst, through the sandbox")
    parser.add_argument("--accept-rounds", type=_positive, default=5, help="accepts: bursts of each side")
    parser.add_argument("--seconds", type=_positive, default=10, help="accepts: how long the steady load lasts")
    parser.add_argument("--restore-steps", type=_positive, nargs="+", default=restore.STEPS, help="restore: accounts")
    parser.add_argument("--restore-rounds", type=_positive, default=3, help="restore: starts of each side at once")
    parser.add_argument("--events", type=_positive, default=200, help="dispatcher: events for each endpoint")
    parser.add_argument("--dispatcher-rounds", type=_positive, default=3, help="dispatcher: passes of each setting")
    parser.add_argument("--arrivals", type=_positive, default=1_000, help="inbound: messages per burst")
    parser.add_argument("--inbound-rounds", type=_positive, default=3, help="inbound: bursts of each side")
    parser.add_argument("--inbound-seconds", type=_positive, default=20, help="inbound: how long people write steadily")
    parser.add_argument("--json", type=Path, help="write all figures into this file")
    parser.add_argument("--strict", action="store_true", help="exit code 3 when a goal is not met")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("a number above 0 is needed")
    return number


def _cache_directory() -> Path:
    given = os.environ.get("WAHUB_CACHE_DIR")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wahub"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
