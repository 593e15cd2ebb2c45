"""One worker per SQLite store: an exclusive lock on a file beside the database.

The lock belongs to the open file, so the system releases it when the process ends, however it ends. It is not
passed on to programs that we start (a bare `fork` without `exec` would share it, but SQLite does not survive that
either).
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from wahub.domain.errors import StoreBusyError


class StoreLock:
    """Held from construction to `release()`. StoreBusyError if somebody else, also in this process, holds it."""

    def __init__(self, database: Path) -> None:
        path = database.with_name(database.name + ".lock")
        self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 32).decode("ascii", "replace").strip()
            os.close(self._file)
            self._file = None
            raise StoreBusyError(
                f"{database} is in use by another worker (pid {holder or 'unknown'}): SQLite serves exactly one. "
                "Stop it, or set DATABASE_URL to a PostgreSQL database to run several"
            ) from None
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let go. Twice is fine. The file stays: removing it would let two processes lock two different files."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
