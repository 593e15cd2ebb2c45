"""How much memory this machine could give now."""

from __future__ import annotations

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")


def free_memory_mb() -> float | None:
    """Megabytes that could be had without swapping; None where the system does not say."""
    try:
        for line in _MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError, IndexError):
        return None
    return None


def memory_limit() -> int | None:
    """Bytes that this process may use by its control group; None: no limit is set, or the system does not say."""
    for path in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        try:
            limit = int(path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        return limit if limit < 1 << 60 else None
    return None
