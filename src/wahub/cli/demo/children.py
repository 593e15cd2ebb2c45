"""The commands of wahub as child processes of the demo.

Promised: a child is asked to stop (SIGTERM) when the demo ends in any way, SIGKILL included; a clean end waits for it,
and kills it if it does not go. Each child has a process group of its own, so Ctrl-C reaches the demo alone, which then
stops the children in order. When the demo itself is killed, its temporary directory stays behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# Waits for the end of its input, which comes when the demo closes it or dies, and then asks the child to stop.
_KEEPER = 'read -r _; kill -TERM "$1" 2>/dev/null'

_KEPT_VARIABLES = frozenset({"PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "NODE_EXTRA_CA_CERTS"})
_KEPT_SETTINGS = frozenset({"WAHUB_CACHE_DIR", "WAHUB_NODE"})
_KEPT_PREFIXES = ("LC_", "XDG_", "SSL_", "PYTHON", "NPM_CONFIG_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")

STOP_TIMEOUT = 12.0
_POLL = 0.02
_TAIL_LINES = 15
_PATIENCE = 4.0
"""Seconds after which a person should hear that a start takes long."""


class ChildFailedError(Exception):
    """A child did not start, or ended by itself. The text says which, and how."""


def plain_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment without any setting of wahub, so that the demo is the same everywhere, plus `extra`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_VARIABLES | _KEPT_SETTINGS or name.upper().startswith(_KEPT_PREFIXES)
    }
    return kept | dict(extra)


class Child:
    """One command, running until `stop`."""

    def __init__(self, name: str, arguments: list[str], home: Path, settings: Mapping[str, str]) -> None:
        self.name = name
        self.log = home / f"{name}.log"
        self._ready_file = home / f"{name}.ready.json"
        # Its working directory is empty: a `.env` of the place where the demo was called must not count.
        directory = home / name
        directory.mkdir()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "wahub", *arguments, "--ready-file", str(self._ready_file)],
                cwd=directory,
                env=plain_environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        self._keeper = subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, "keeper", str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait_ready(self, timeout: float, still_waiting: Callable[[], None]) -> dict[str, Any]:
        """What the child wrote into its ready file. Calls `still_waiting` once if that takes long.

        Raises ChildFailedError when the child ends first or `timeout` seconds are over.
        """
        began, told = time.monotonic(), False
        while not self._ready_file.exists():
            self.check()
            waited = time.monotonic() - began
            if waited > timeout:
                raise ChildFailedError(f"the {self.name} did not start within {timeout:.0f} s")
            if waited > _PATIENCE and not told:
                told = True
                still_waiting()
            time.sleep(_POLL)
        facts = json.loads(self._ready_file.read_text())
        assert isinstance(facts, dict)
        return facts

    @property
    def ended(self) -> bool:
        """Whether it ended by itself or was stopped."""
        return self._process.poll() is not None

    def check(self) -> None:
        """Raise ChildFailedError if the child has ended."""
        code = self._process.poll()
        if code is not None:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise ChildFailedError(f"the {self.name} {how}")

    def log_tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    def stop(self) -> None:
        """Ask it to stop, wait, and kill what does not go. Does nothing the second time."""
        if not self.ended:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        if self._keeper.poll() is None:
            # Only now, and by force: left to itself it would signal a process number that is free again.
            self._keeper.kill()
            self._keeper.wait()
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
