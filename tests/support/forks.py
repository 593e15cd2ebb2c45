"""Commands in processes of their own without the second that each takes to import a web server and a database.

A process that has imported everything forks one child per command, and the child runs what `wahub` runs: its own
directory, environment, output, signals, locks and exit code. What a fork cannot show is that a command imports what it
needs, so each command is also started for real somewhere (`commands.started`, `processes.Command`).

The process has one thread and opens nothing before it forks, so a child inherits no lock and no loop. It reads a
request per line, and kills its children and ends when its input ends: when the test process does, however that happens.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_IMPORTED = (
    "aiohttp.web",
    "anyio._backends._asyncio",
    "certifi",
    "httpcore",
    "httpx",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "wahub.adapters.engines.baileys.install",
    "wahub.adapters.sql.migrate",
    "wahub.cli.app",
    "wahub.cli.checks",
    "wahub.cli.demo",
    "wahub.cli.gateway",
    "wahub.cli.idempotency_file",
    "wahub.cli.outbox_work",
    "wahub.cli.receiving",
    "wahub.compose",
    "wahub.config",
)


class Forks:
    """The process that forks. One for all tests of a test process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            # -P: the modules beside this file are none that a command should find.
            [sys.executable, "-P", __file__],
            # No setting of this machine, as for a command that is started.
            env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._one_at_a_time = threading.Lock()

    def ask(self, **request: Any) -> Any:
        """Have it do something; returns what it answers."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._one_at_a_time:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        assert line, "the process that forks has ended"
        return json.loads(line)

    def close(self) -> None:
        """End it, and what it still runs."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


_running: list[Forks] = []


def _forks() -> Forks:
    """The process that forks, started by the first test that needs it."""
    if not _running:
        _running.append(Forks())
        atexit.register(_running[0].close)
    return _running[0]


class Fork:
    """`wahub …` in a child of the process that forks, its output in files; used like `subprocess.Popen`."""

    def __init__(self, arguments: Sequence[str], directory: Path, env: Mapping[str, str], out: Path, err: Path) -> None:
        # Here and not in the child: whoever has this object may read them.
        for path in (out, err):
            path.write_bytes(b"")
        paths = {"directory": str(directory), "out": str(out.absolute()), "err": str(err.absolute())}
        self._forks = _forks()
        self._code: int | None = None
        # Its number stays its own until its exit code is taken.
        self.pid: int = self._forks.ask(arguments=list(arguments), environment=dict(env), **paths)

    def poll(self) -> int | None:
        """Its exit code (negative: the signal that killed it), None while it runs."""
        if self._code is None:
            self._code = self._forks.ask(look=self.pid)
        return self._code

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; returns the exit code. TimeoutExpired leaves it running."""
        deadline = time.monotonic() + (timeout or math.inf)
        pause = 0.001
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"wahub, process {self.pid}", timeout or 0)
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        return code


# --- in the process that forks ----------------------------------------------------------------------------------------


def _serve() -> None:
    """Fork as told until the input ends. Returns in children only, set up as their command."""
    children: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "look" in request:
            pid, status = os.waitpid(request["look"], os.WNOHANG)
            children.discard(pid)
            _answer(os.waitstatus_to_exitcode(status) if pid else None)
            continue
        pid = os.fork()
        if pid == 0:
            _become(request)
            return
        children.add(pid)
        _answer(pid)
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    # By force: to return would mean to be a child.
    os._exit(0)


def _answer(number: int | None) -> None:
    os.write(1, json.dumps(number).encode() + b"\n")


def _become(request: dict[str, Any]) -> None:
    """Have nothing of the process that forks but what it imported."""
    os.setsid()
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["out"], os.O_WRONLY),
        (2, request["err"], os.O_WRONLY),
    ):
        opened = os.open(path, flags)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    sys.argv[:] = ["wahub", *request["arguments"]]


def _run() -> None:
    """Run the command and end as Python does, but without taking apart every module: that is half of the time."""
    code: Any = None
    try:
        importlib.import_module("wahub.cli").main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 - whatever it is, Python would print it and end with 1
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    for module in _IMPORTED:
        importlib.import_module(module)
    # Children share these pages as long as nobody looks for garbage in them.
    gc.freeze()
    _serve()
    _run()
