"""What an engine process holds when all garbage was just collected.

V8 collects the whole heap when it likes, once in minutes under light traffic, so what a process holds at any moment
says little. Node opens its inspector on SIGUSR1, also in the shipped engine, and the inspector can collect: the heap is
what is alive then, and V8 gives pages back. The inspector has one port for the whole machine: one process at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from tests.support.waiting import until
from websockets.sync.client import ClientConnection, connect

_INSPECTOR = "http://127.0.0.1:9229/json"
_PATIENCE = 20.0
_TURN = Path(tempfile.gettempdir()) / f"wahub-soak-inspector-{os.getuid()}.lock"


def collect(pid: int) -> float:
    """Collect all garbage of a Node process; returns MB (2^20 bytes) of its heap afterwards."""
    with _turn():
        os.kill(pid, signal.SIGUSR1)
        return _collected(pid)


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """Waits for other soaks, and before and after for the port to be free."""
    with _TURN.open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        until(lambda: _debugger() is None, _PATIENCE, "another Node process has the inspector's port")
        yield
        until(lambda: _debugger() is None, _PATIENCE, "the inspector does not go")


def _collected(pid: int) -> float:
    with connect(until(_debugger, _PATIENCE, "the inspector does not answer"), proxy=None) as inspector:
        asked = _call(inspector, "Runtime.evaluate", expression="process.pid")["result"]["value"]
        assert asked == pid, "another Node process took the inspector's port"
        # Twice: what finalizers let go goes with the second.
        for _ in range(2):
            _call(inspector, "HeapProfiler.collectGarbage")
        used = _call(inspector, "Runtime.getHeapUsage")["usedSize"]
        # The inspector goes, with what it keeps, when we have left: Node may crash if it goes with us in it.
        _call(inspector, "Runtime.evaluate", expression="void setTimeout(() => process._debugEnd(), 500)")
    return float(used) / 2**20


def _debugger() -> str | None:
    try:
        found = httpx.get(_INSPECTOR, trust_env=False).json()
    except httpx.TransportError:
        return None
    return str(found[0]["webSocketDebuggerUrl"])


def _call(inspector: ClientConnection, method: str, **params: str) -> dict[str, Any]:
    inspector.send(json.dumps({"id": 1, "method": method, "params": params}))
    while True:
        answer = json.loads(inspector.recv(timeout=_PATIENCE))
        if answer.get("id") == 1:
            assert "result" in answer, f"{method}: {answer}"
            return dict(answer["result"])
