"""Locks and pid files of the side processes in the run directory.

The lock `engine-<n>.lock` is held by the side process alone: the gateway takes it, passes the open file to the
child and closes its own copy. Whatever kills the child frees it, and nothing else does. While any such lock of a
predecessor is held, an old process may still have sockets open, so no link may be opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

_POLL_SECONDS = 0.02


def lock_path(run_dir: Path, number: int) -> Path:
    return run_dir / f"engine-{number}.lock"


def pid_path(run_dir: Path, number: int) -> Path:
    return run_dir / f"engine-{number}.pid"


async def take_lock(path: Path, timeout: float) -> int:
    """The descriptor of the locked file, not inheritable. TimeoutError when somebody else keeps it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = asyncio.get_running_loop().time() + timeout
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if asyncio.get_running_loop().time() >= deadline:
                    raise TimeoutError from None
            else:
                return descriptor
            await asyncio.sleep(_POLL_SECONDS)
    except BaseException:
        os.close(descriptor)
        raise


async def wait_for_predecessors(run_dir: Path, timeout: float) -> Path | None:
    """Wait until no side process of an earlier gateway lives. The lock that stayed held, or None when all are free."""
    for path in _locks(run_dir):
        try:
            os.close(await take_lock(path, timeout))
        except TimeoutError:
            return path
    return None


def write_pid(path: Path, pid: int) -> None:
    """Put the pid there in one step: a reader sees a whole number or no file."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{pid}\n")
    Path(temporary).replace(path)


def remove_pid(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _locks(run_dir: Path) -> Iterable[Path]:
    return sorted(run_dir.glob("engine-*.lock"))
