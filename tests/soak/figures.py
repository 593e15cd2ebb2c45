"""What two processes hold, measured all the time and compared at rest: memory, file descriptors, tasks, handles.

Like is compared with like, and at rest: nothing is under way, and everybody is ready. Of the gateway it is the least
memory of a minute; of the engine what it holds when all garbage was just collected.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
import threading
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import httpx
from tests.support.gateway import API_KEY, Gateway

EVERY = 1.0
MEMORY_SHARE = 1.05
"""Memory may be at most this much of what it was (the issue's 5 %)."""
MORE_HANDLES = 3
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SAMPLE = re.compile(r"^(wahub_tasks|wahub_engine_heap_bytes|wahub_engine_handles) ([0-9.e+]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Figures:
    """Memory in MB (2^20 bytes); `engine_heap`: what V8 uses; descriptors and tasks by number.

    A link opens its file of the spool with the first message that it receives, and keeps it: how many are open says who
    was written to, so `engine_fds` leaves them out, and `spool_files` counts them.
    """

    gateway_rss: float
    engine_rss: float
    engine_heap: float
    gateway_fds: float
    engine_fds: float
    engine_handles: float
    tasks: float

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.1f}".removesuffix(".0") for name, value in asdict(self).items())


class Recorder:
    """Takes figures every second in a thread of its own, until `stop`, and leaves all of them in a CSV file."""

    def __init__(self, gateway: Gateway, file: Path) -> None:
        self._gateway = gateway
        self._file = file
        self._taken: list[tuple[float, Figures]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        began = self._taken[0][0] if self._taken else 0.0
        rows = [{"second": round(at - began, 1)} | asdict(figures) for at, figures in self._taken]
        with self._file.open("w", newline="") as sink:
            table = csv.DictWriter(sink, ["second", *(field.name for field in fields(Figures))])
            table.writeheader()
            table.writerows(rows)

    def least(self, seconds: float) -> Figures:
        """The least of each figure in the last so many seconds. AssertionError if none were taken."""
        since = time.monotonic() - seconds
        rows = [asdict(figures) for at, figures in self._taken if at >= since]
        assert rows, "no figures could be taken"
        return Figures(**{name: min(row[name] for row in rows) for name in rows[0]})

    def _run(self) -> None:
        with httpx.Client(timeout=10.0, trust_env=False, headers={"X-API-Key": API_KEY}) as client:
            while not self._stopping.wait(EVERY):
                # The gateway, or its engine, may be dead at this moment.
                with contextlib.suppress(httpx.HTTPError, OSError, KeyError, ValueError):
                    self._taken.append((time.monotonic(), self._take(client)))

    def _take(self, client: httpx.Client) -> Figures:
        told = dict(_SAMPLE.findall(client.get(f"{self._gateway.url}/metrics").text))
        (engine,) = self._gateway.engine_pids()
        gateway = self._gateway.command.pid
        heap = float(told["wahub_engine_heap_bytes"])
        if not heap:
            raise ValueError("the engine said nothing yet")
        return Figures(
            gateway_rss=resident(gateway),
            engine_rss=resident(engine),
            engine_heap=heap / 2**20,
            gateway_fds=descriptors(gateway),
            engine_fds=descriptors(engine),
            engine_handles=float(told["wahub_engine_handles"]),
            tasks=float(told["wahub_tasks"]),
        )


def growth(before: Figures, after: Figures, *, memory_too: bool = True) -> list[str]:
    """What grew more than it may, in words. Memory compares only between processes of one age, or old ones."""
    found = []
    old, new = asdict(before), asdict(after)
    for name in old:
        if _is_memory(name) and not memory_too:
            continue
        most = old[name] * MEMORY_SHARE if _is_memory(name) else old[name] + MORE_HANDLES
        if new[name] > most:
            found.append(f"{name} grew from {old[name]:.1f} to {new[name]:.1f}")
    return found


def _is_memory(name: str) -> bool:
    return name.endswith(("_rss", "_heap"))


def resident(pid: int) -> float:
    """Resident memory of a process, in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 2**20


def descriptors(pid: int) -> int:
    """How many descriptors a process has open, those of the spool left out."""
    return sum(not _is_spool(target) for target in _open_files(pid))


def spool_files(pid: int) -> int:
    """How many files of the spool a process has open."""
    return sum(_is_spool(target) for target in _open_files(pid))


def _is_spool(target: str) -> bool:
    return "/spool/" in target


def _open_files(pid: int) -> list[str]:
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        # One may be closed meanwhile.
        with contextlib.suppress(FileNotFoundError):
            found.append(str(descriptor.readlink()))
    return found
