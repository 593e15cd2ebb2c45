"""What WhatsApp itself delivered late, read from the sandbox's trace.

Of what it held back, garbled or lost on purpose, no gateway can know the order in which it was sent. A message counts
as late if, as far as its account's device was told,
- it came after a later one (in one connection, or first of all), or
- it came again when a receipt for a later one had left, or
- the device asked its sender for another copy.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.box import Box

_EVERY = 1.0
"""Seconds between two looks: the trace keeps the last 5,000 stanzas."""


@dataclass(slots=True)
class Wire:
    """Follows the trace in a thread of its own, from `start` to `stop`."""

    box: Box
    steps: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """By number of the account: (`login`, `told`, `heard` or `again`, message id), in order."""
    missed: int = 0
    """Stanzas that fell out of the trace before they were read."""
    _seq: int = 0
    _leaving: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """What comes from now on counts."""
        stanzas = self.box.control("GET", "trace")["stanzas"]
        self._seq = stanzas[-1]["seq"] if stanzas else 0
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read the rest."""
        self.leave()
        self._look()

    def leave(self) -> None:
        """End the thread."""
        self._leaving.set()
        if self._thread is not None:
            self._thread.join()

    def late(self, number: str, order: Mapping[str, int]) -> set[str]:
        """Which messages of an account came late. `order`: when they were sent, by id."""
        return find_late(self.steps.get(number, []), order)

    def _follow(self) -> None:
        while not self._leaving.wait(_EVERY):
            self._look()

    def _look(self) -> None:
        stanzas = self.box.control("GET", f"trace?after={self._seq}")["stanzas"]
        if stanzas:
            self.missed += stanzas[0]["seq"] - self._seq - 1
            self._seq = stanzas[-1]["seq"]
        for entry in stanzas:
            # Device 0 is the phone.
            if entry["deviceId"] and (step := _step(entry)):
                self.steps.setdefault(entry["number"], []).append(step)


def _step(entry: dict[str, Any]) -> tuple[str, str] | None:
    stanza, incoming = entry["stanza"], entry["direction"] == "in"
    attrs = stanza["attrs"]
    match stanza["tag"]:
        case "success" if not incoming:
            return "login", ""
        case "message" if not incoming:
            return "told", attrs["id"]
        case "receipt" if incoming:
            return ("again" if attrs.get("type") == "retry" else "heard"), attrs["id"]
        case _:
            return None


def find_late(steps: list[tuple[str, str]], order: Mapping[str, int]) -> set[str]:
    """Which of these messages came late, by what a device was told and answered."""
    late: set[str] = set()
    told: set[str] = set()
    ever = here = heard = -1
    for kind, message_id in steps:
        number = order.get(message_id, -1)
        if kind == "login":
            here = -1
        elif number < 0:
            continue
        elif kind == "again":
            late.add(message_id)
        elif kind == "heard":
            heard = max(heard, number)
        else:
            if number < max(here, heard) or (message_id not in told and number < ever):
                late.add(message_id)
            told.add(message_id)
            ever, here = max(ever, number), max(here, number)
    return late
