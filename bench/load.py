"""Load over HTTP from one thread: as fast as possible on a few connections, or at a steady rate.

Requests are bytes made beforehand, and an answer is read just far enough to know its status and its end, because this
process takes its time from the same cores as the server.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from bench.processes import BenchError

PATIENCE = 120.0


@dataclass(slots=True)
class Load:
    """Requests, and what became of them. `due` are the times of an even load; without them all are due at once."""

    requests: Sequence[bytes]
    due: Sequence[float] = ()
    latencies: list[float] = field(default_factory=list)
    """Seconds from the time a request was due (an even load) or was written (otherwise) to the end of its answer."""
    sizes: set[int] = field(default_factory=set)
    """Lengths of the answers' bodies."""


def post(url: str, path: str, bodies: Sequence[dict[str, object]]) -> list[bytes]:
    """POST requests as they go over the wire."""
    host = urlsplit(url).netloc
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: "
    raw = [json.dumps(body, separators=(",", ":")).encode() for body in bodies]
    return [f"{head}{len(body)}\r\n\r\n".encode() + body for body in raw]


async def drive(url: str, load: Load, connections: int) -> float:
    """Send everything; seconds from the first request to the last answer. BenchError unless all are answered 202."""
    run = _Run(load)
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    loop = asyncio.get_running_loop()
    callers = [(await loop.create_connection(lambda: _Caller(run), host, port))[1] for _ in range(connections)]
    began = time.monotonic()
    run.start(callers)
    try:
        await asyncio.wait_for(run.over, PATIENCE)
    except TimeoutError:
        raise BenchError(f"{url} did not answer everything within {PATIENCE:.0f} s") from None
    finally:
        for caller in callers:
            caller.close()
    return run.ended - began


class _Run:
    """Hands requests to connections that are free."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._next = 0
        self._left = len(load.requests)
        self._free: deque[_Caller] = deque()
        self._began = 0.0
        self.ended = 0.0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, callers: Sequence[_Caller]) -> None:
        self._began = time.monotonic()
        self._free.extend(callers)
        if self._load.due:
            self._tick()
        else:
            self._hand_out(len(self._load.requests))

    def answered(self, caller: _Caller, asked_at: float, size: int) -> None:
        self.ended = time.monotonic()
        self._load.latencies.append(self.ended - asked_at)
        self._load.sizes.add(size)
        self._left -= 1
        if self._left == 0 and not self.over.done():
            self.over.set_result(None)
        self._free.append(caller)
        self._hand_out(self._due() if self._load.due else len(self._load.requests))

    def fail(self, text: str) -> None:
        if not self.over.done():
            self.over.set_exception(BenchError(text))

    def _tick(self) -> None:
        self._hand_out(self._due())
        if self._next < len(self._load.requests):
            at = self._began + self._load.due[self._next]
            # Late as it may be: the latency counts from when it was due.
            asyncio.get_running_loop().call_later(max(at - time.monotonic(), 0.0005), self._tick)

    def _due(self) -> int:
        """How many requests are due by now."""
        upto, passed = self._next, time.monotonic() - self._began
        while upto < len(self._load.due) and self._load.due[upto] <= passed:
            upto += 1
        return upto

    def _hand_out(self, upto: int) -> None:
        while self._free and self._next < upto:
            number, self._next = self._next, self._next + 1
            asked_at = self._began + self._load.due[number] if self._load.due else time.monotonic()
            self._free.popleft().ask(self._load.requests[number], asked_at)


class _Caller(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._asked_at = 0.0
        self._got = b""
        self._transport: asyncio.Transport | None = None

    def ask(self, request: bytes, asked_at: float) -> None:
        assert self._transport is not None
        self._asked_at = asked_at
        self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, but not the base class.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _error: Exception | None) -> None:
        self._run.fail("the server closed a connection")

    def data_received(self, data: bytes) -> None:
        got = self._got = self._got + data
        head = got.find(b"\r\n\r\n")
        if head < 0:
            return
        at = got.lower().find(b"content-length:", 0, head)
        size = int(got[at + 15 : got.index(b"\r\n", at)])
        if len(got) < head + 4 + size:
            return
        if not got.startswith(b"HTTP/1.1 202"):
            self._run.fail(f"the server answered {got[:400].decode(errors='replace')}")
            return
        self._got = b""
        self._run.answered(self, self._asked_at, size)
