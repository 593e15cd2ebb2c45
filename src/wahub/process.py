"""What a long-running command does around its work: pid file, ready file, the lines on stdout, signals, the socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path


def announce(event: str, **fields: object) -> str:
    """Print one JSON line on stdout (contract 0.11) and return it."""
    line = json.dumps({"event": event, **fields}, separators=(",", ":"))
    # A reader that went away must not take the gateway with it.
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return line


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.touch(mode=0o600)
    temporary.write_text(text)
    temporary.replace(path)


@contextlib.contextmanager
def pid_file(path: Path) -> Iterator[None]:
    """Name this process in a file while it runs."""
    write_atomically(path, f"{os.getpid()}\n")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def prepare_data_directory(path: Path) -> None:
    """Create the data directory and its parts, for this user only (contract 0.11)."""
    for part in (path, path / "run", path / "spool", path / "media"):
        part.mkdir(parents=True, exist_ok=True, mode=0o700)
        part.chmod(0o700)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one. OSError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def url_of(listener: socket.socket) -> str:
    """The base URL of what listens there."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class StopSignals:
    """SIGTERM and SIGINT: the first asks for a clean stop, the second ends the process with 128 + its number."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    def install(self) -> None:
        """Take both signals over from the running loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._caught, number)

    def _caught(self, number: signal.Signals) -> None:
        if self.asked.is_set():
            os._exit(128 + number)
        self.asked.set()
