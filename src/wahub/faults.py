"""Named points at which a test may have the process die (contract 0.11).

`WAHUB_FAULT=<point>[:nth]`, only with WAHUB_ENV=test.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

POINTS = (
    "after_accept",
    "after_claim",
    "after_wire",
    "after_ack",
    "after_settle",
    "after_spool",
    "after_key_commit",
    "after_receipt",
    "after_ingest",
)
"""All points. after_wire, after_spool, after_key_commit and after_receipt are reached in the engine process."""


def parse(text: str) -> tuple[str, int]:
    """Read `<point>[:nth]`; nth counts from 1. ValueError names what is wrong."""
    point, colon, count = text.partition(":")
    if point not in POINTS:
        raise ValueError(f"WAHUB_FAULT: unknown point {point!r}; one of {', '.join(POINTS)}")
    if colon and not (count.isdecimal() and int(count) > 0):
        raise ValueError("WAHUB_FAULT: the number after the colon must be 1 or more")
    return point, int(count) if colon else 1


def killer(text: str | None) -> Callable[[str], None]:
    """A hook to call at each point: the nth time the named one is reached, the process gets SIGKILL."""
    if not text:
        return lambda _point: None
    wanted, left = parse(text)

    def reached(point: str) -> None:
        nonlocal left
        if point != wanted:
            return
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached
