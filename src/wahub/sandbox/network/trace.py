"""The last stanzas, for people who look for a bug: tags and attributes, never bytes.

Every content that is bytes (keys, ciphertext, names, references) shows its length only. Rendering happens when
somebody asks; recording costs one append.
"""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime
from typing import Any

from wahub.sandbox.node import Node

CAPACITY = 5000


class Trace:
    """A ring of stanzas. `direction` is `in` (from the device) or `out` (to it)."""

    def __init__(self) -> None:
        self._sequence = 0
        self._ring: deque[tuple[int, float, str, int, str, Node]] = deque(maxlen=CAPACITY)

    def record(self, number: str, device: int, direction: str, stanza: Node) -> None:
        """Remember a stanza of a device."""
        self._sequence += 1
        self._ring.append((self._sequence, time.time(), number, device, direction, stanza))

    def as_json(self, number: str | None, after: int) -> list[dict[str, Any]]:
        """Entries with a sequence number above `after`, of one account or of all, newest last."""
        return [
            {
                "seq": sequence,
                "at": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "number": account,
                "deviceId": device,
                "direction": direction,
                "stanza": _render(stanza),
            }
            for sequence, at, account, device, direction, stanza in self._ring
            if sequence > after and number in (None, account)
        ]

    def clear(self) -> None:
        """Forget all; the numbers go on."""
        self._ring.clear()


def _render(node: Node) -> dict[str, Any]:
    out: dict[str, Any] = {"tag": node.tag, "attrs": dict(node.attrs)}
    if isinstance(node.content, bytes):
        out["bytes"] = len(node.content)
    elif node.content:
        out["children"] = [_render(child) for child in node.content]
    return out
