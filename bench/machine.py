"""What the figures were measured on, and what /proc says of a process. Linux only."""

from __future__ import annotations

import asyncio
import os
import platform
import sqlite3
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

QUIET = 0.2
"""Cores that may be busy with other things."""
_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and all its threads so far, in user and kernel mode. Steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


@dataclass(frozen=True, slots=True)
class Memory:
    """MB (2^20 bytes): `rss` is what is mapped, `pss` shares common pages out among the processes that map them."""

    rss: float
    pss: float


def memory(pid: int) -> Memory:
    """Memory of a process."""
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        sizes[name] = int(rest.split()[0]) / 1024
    return Memory(rss=sizes["Rss"], pss=sizes["Pss"])


def peak_memory(pid: int) -> float:
    """The most that a process ever had resident, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def busy_seconds() -> float:
    """CPU time that all cores gave away since the start of the machine, to whomever."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / _TICK


class Meter:
    """CPU time of processes from now on."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        self._busy, self._began = busy_seconds(), time.monotonic()

    @property
    def names(self) -> set[str]:
        """The processes that are metered."""
        return set(self._pids)

    def per_unit(self, units: int) -> tuple[dict[str, float], float]:
        """Milliseconds per unit and process; cores that others took."""
        used, others = self.used()
        return {name: seconds * 1000 / units for name, seconds in used.items()}, others

    def used(self, born: Mapping[str, Sequence[int]] | None = None) -> tuple[dict[str, float], float]:
        """Seconds per process, and per group of `born`, which began since; cores that others took."""
        used = {name: cpu_seconds(pid) - self._before[name] for name, pid in self._pids.items()}
        used |= {name: sum(map(cpu_seconds, pids)) for name, pids in (born or {}).items()}
        others = (busy_seconds() - self._busy - sum(used.values())) / (time.monotonic() - self._began)
        return used, max(others, 0.0)


async def until_quiet(patience: float) -> None:
    """Wait until hardly anything runs on this machine, but no longer than `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        busy, began = busy_seconds(), time.monotonic()
        await asyncio.sleep(1.0)
        if (busy_seconds() - busy) / (time.monotonic() - began) < QUIET:
            return


def describe(node: Path) -> dict[str, str]:
    """The machine and the versions that matter."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    total = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    version = subprocess.run([str(node), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return {
        "cpu": f"{os.cpu_count()} x {names[0].partition(':')[2].strip() if names else platform.machine()}",
        "memory": f"{total:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "node": version,
        "sqlite": sqlite3.sqlite_version,
    }
