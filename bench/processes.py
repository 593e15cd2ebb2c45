"""The commands under measurement, and the yardstick, as child processes.

A child gets an environment without settings of wahub but those named here, so that the figures are the same
everywhere. All end when the block that started them ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wahub.adapters.engines.baileys.install import InstalledEngine

START_TIMEOUT = 60.0
STOP_TIMEOUT = 35.0
REPLY_TIMEOUT = 120.0
_KEPT = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "XDG_CACHE_HOME", "WAHUB_CACHE_DIR", "WAHUB_NODE")
_LONGEST_LINE = 2**22
"""Bytes; the times of some thousand messages come in one line."""
_SCRIPT = Path(__file__).parent / "plain_baileys.mjs"


class BenchError(Exception):
    """A part did not do what the benchmark needs; the text says which."""


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | dict(settings)


class Command:
    """`wahub <arguments>` until `stop`; `facts` is what it wrote into its ready file."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path, facts: dict[str, Any]) -> None:
        self.name = name
        self.facts = facts
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(
        cls,
        name: str,
        arguments: list[str],
        home: Path,
        settings: Mapping[str, str],
        program: Sequence[str] = ("-m", "wahub"),
    ) -> Command:
        """Start it in an empty directory below `home` and wait until it is ready; a name may be used once."""
        directory, log, ready = home / f"{name}-cwd", home / f"{name}.log", home / f"{name}.ready"
        directory.mkdir()
        with log.open("wb") as sink:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *program, *arguments, "--ready-file", str(ready)),
                cwd=directory,
                env=_environment(settings),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=sink,
            )
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while not ready.exists():
                    if process.returncode is not None:
                        raise BenchError(f"{name} ended with code {process.returncode}:\n{_tail(log)}")
                    await asyncio.sleep(0.02)
        except BaseException:
            await _end(process)
            raise
        return cls(name, process, log, json.loads(ready.read_text()))

    def check(self) -> None:
        """BenchError if it has ended."""
        if self._process.returncode is not None:
            raise BenchError(f"{self.name} ended with code {self._process.returncode}:\n{_tail(self.log)}")

    async def stop(self) -> None:
        """Stop it in order, by force if that takes too long."""
        await _end(self._process)


class Plain:
    """The yardstick: one Node process with plain Baileys sockets."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self._events: dict[tuple[str, str], asyncio.Queue[dict[str, Any]]] = defaultdict(asyncio.Queue)
        self._failure: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(cls, engine: InstalledEngine, home: Path, url: str, trust_root: str, name: str = "plain") -> Plain:
        """Start it with the Node and the libraries that wahub's engine runs with; a name may be used once."""
        directory = home / name
        directory.mkdir()
        # Node looks for packages from a file's own place upwards.
        (directory / "node_modules").symlink_to(engine.directory.parent / "node_modules")
        shutil.copyfile(_SCRIPT, directory / _SCRIPT.name)
        log = home / f"{name}.log"
        with log.open("wb") as sink:
            process = await asyncio.create_subprocess_exec(
                *(str(engine.node), str(directory / _SCRIPT.name)),
                cwd=directory,
                env=_environment({}),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=sink,
                limit=_LONGEST_LINE,
            )
        plain = cls(process, log)
        plain.tell(do="configure", url=url, trustRoot=trust_root)
        return plain

    def tell(self, **command: Any) -> None:
        """Give it a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def hear(self, event: str, name: str = "") -> dict[str, Any]:
        """The next event of this kind (and account). BenchError when it fails or takes too long."""
        arrival = asyncio.ensure_future(self._events[event, name].get())
        either: set[asyncio.Future[Any]] = {arrival, self._failure}
        try:
            await asyncio.wait(either, timeout=REPLY_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
            if arrival.done():
                return arrival.result()
        finally:
            arrival.cancel()
        reason = self._failure.result() if self._failure.done() else f"no event {event} in {REPLY_TIMEOUT:.0f} s"
        raise BenchError(f"plain Baileys: {reason}\n{_tail(self._log)}")

    async def stop(self) -> None:
        """End its input, which ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await _end(self._process, ask=lambda: None)
        self._reader.cancel()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            event = json.loads(line)
            if event["event"] == "failed":
                self._fail(event["text"])
            else:
                self._events[event["event"], event.get("name", "")].put_nowait(event)
        self._fail("it ended")

    def _fail(self, text: str) -> None:
        if not self._failure.done():
            self._failure.set_result(text)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


async def _end(process: asyncio.subprocess.Process, ask: Callable[[], None] | None = None) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            (ask or (lambda: process.send_signal(signal.SIGTERM)))()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
        except TimeoutError:
            process.kill()
            await process.wait()
