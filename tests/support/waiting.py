"""Waiting across processes, where no signal reaches us: ask again until a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL = 0.03


def until(look: Callable[[], T | None], timeout: float, what: Callable[[], str] | str) -> T:
    """What `look` returns as soon as that is truthy; AssertionError with `what` when `timeout` seconds are over."""
    deadline = time.monotonic() + timeout
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout:.0f} s: {what if isinstance(what, str) else what()}")
        time.sleep(POLL)
