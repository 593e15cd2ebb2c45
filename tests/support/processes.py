"""Starting, stopping and killing the shipped commands from tests.

A command runs in a directory of its own and in an environment that holds nothing of this machine but the way to
programs and caches, so no setting and no `.env` counts but the test's. It dies when the test process dies, however that
happens: a shell between the two waits for the end of its input.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.folders import text_of
from tests.support.forks import Fork
from tests.support.waiting import until

START_TIMEOUT = 45.0
STOP_TIMEOUT = 30.0
"""What a clean stop may take (contract F.6)."""
GONE_TIMEOUT = 20.0
"""What the end of a process may take that was killed, or whose gateway is gone: moments, but on a busy machine more.
Shorter than a lease, by whose end an engine would notice, too.
"""

_KEEPER = 'read -r _; kill -KILL "$1" 2>/dev/null'
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "XDG_CACHE_HOME", "WAHUB_CACHE_DIR", "WAHUB_NODE")


def environment(**settings: str) -> dict[str, str]:
    """The environment of a command: what it needs to find programs and caches, and the test's settings."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | settings


def run_wahub(
    *arguments: str, directory: Path, timeout: float = 60.0, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "wahub", *arguments],
        cwd=directory,
        env=environment(**settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


class Command:
    """A running `wahub …` command with its output in files. A `forked` one is not loaded anew (forks.py)."""

    def __init__(
        self,
        name: str,
        arguments: list[str],
        directory: Path,
        settings: Mapping[str, str],
        module: str = "wahub",
        *,
        forked: bool = False,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.out = directory / f"{name}.out"
        self.err = directory / f"{name}.err"
        self._process: Fork | subprocess.Popen[bytes]
        if forked:
            assert module == "wahub", "what forks has loaded the shipped program"
            self._process = Fork(arguments, directory, environment(**settings), self.out, self.err)
        else:
            self._process = self._load([sys.executable, "-m", module, *arguments], directory, settings)
        self.pid = self._process.pid
        self._keeper = subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, "keeper", str(self.pid)], stdin=subprocess.PIPE, start_new_session=True
        )

    def _load(self, command: list[str], directory: Path, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with self.out.open("wb") as out, self.err.open("wb") as err:
            return subprocess.Popen(
                command,
                cwd=directory,
                env=environment(**settings),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    # --- what it says ------------------------------------------------------------------------------------------------

    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines of its stdout; anything else there is an error."""
        return [json.loads(line) for line in self.out.read_text().splitlines()]

    def said(self, event: str) -> dict[str, Any] | None:
        """The first stdout line with this event, or None."""
        # The last line may be half written.
        whole = self.out.read_text().rpartition("\n")[0].splitlines()
        return next((line for text in whole if (line := json.loads(text)).get("event") == event), None)

    def wait_said(self, event: str, timeout: float = START_TIMEOUT) -> dict[str, Any]:
        """Wait for a stdout line; fails at once if the command ends before it comes."""

        def look() -> dict[str, Any] | None:
            found = self.said(event)
            if found is None and self.code is not None:
                raise AssertionError(f"{self.name} ended with {self.code} before {event!r}:\n{self.log_tail()}")
            return found

        return until(look, timeout, lambda: f"{self.name}: no {event!r} line\n{self.log_tail()}")

    def log_tail(self, lines: int = 30) -> str:
        """The end of its log, for failure messages."""
        return "\n".join(self.err.read_text(errors="replace").splitlines()[-lines:])

    def children(self) -> list[int]:
        """Processes that it started and that run."""
        return [int(pid) for pid in text_of(Path(f"/proc/{self.pid}/task/{self.pid}/children")).split()]

    # --- its life ----------------------------------------------------------------------------------------------------

    @property
    def code(self) -> int | None:
        """Its exit code (negative: the signal that killed it), None while it runs."""
        return self._process.poll()

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self, timeout: float = STOP_TIMEOUT) -> int:
        """Wait for its end; returns the exit code."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {timeout:.0f} s:\n{self.log_tail()}") from None
        self._release_keeper()
        return code

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop and wait; returns the exit code."""
        self.send_signal(number)
        return self.wait()

    def kill(self) -> None:
        """Kill it with -9, as `kill -9 $(cat gateway.pid)` does: only the process itself."""
        if self.code is None:
            self.send_signal(signal.SIGCONT)
            self.send_signal(signal.SIGKILL)
            self._process.wait()
        self._release_keeper()

    def _release_keeper(self) -> None:
        if self._keeper.poll() is None:
            # By force: left to itself it would signal a process number that is free again.
            self._keeper.kill()
            self._keeper.wait()
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not collected yet counts as ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def wait_gone(pid: int, timeout: float, what: Callable[[], str] | str) -> None:
    """Wait until a process has ended."""
    until(lambda: not alive(pid), timeout, what)
