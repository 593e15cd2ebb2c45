"""Memory of this machine and of this process, in bytes, as far as the system tells."""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """Bytes. `available` could be had without swapping; None where there is no /proc."""

    total: int
    available: int | None

    @property
    def used(self) -> int | None:
        """What could not be had."""
        return None if self.available is None else self.total - self.available


def machine_memory() -> MachineMemory:
    """As it is now."""
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
        figures = {name: rest.split()[0] for name, _, rest in (line.partition(":") for line in lines)}
        return MachineMemory(int(figures["MemTotal"]) * 1024, int(figures["MemAvailable"]) * 1024)
    except (OSError, KeyError, ValueError, IndexError):
        return MachineMemory(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None)


def free_memory_mb() -> float | None:
    """Megabytes that could be had without swapping; None where the system does not say."""
    available = machine_memory().available
    return None if available is None else available / _MEGABYTE


def own_memory() -> int:
    """What this process holds; where there is no /proc, the most it ever held."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return peak_memory()


def peak_memory() -> int:
    """The most that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory_limit() -> int | None:
    """What this process may use by its control group; None: no limit is set, or the system does not say."""
    for path in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        try:
            limit = int(path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        return limit if limit < 1 << 60 else None
    return None
