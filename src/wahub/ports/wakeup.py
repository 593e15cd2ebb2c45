"""Hints that there is work. Never the truth: whoever waits also polls."""

from __future__ import annotations

from typing import Protocol


class Wakeup(Protocol):
    """Topics are plain strings such as `outbox:<instance>` or `webhooks`."""

    def notify(self, topic: str) -> None:
        """Say that there may be work. Never blocks, never raises."""

    async def wait(self, topic: str, timeout: float) -> bool:
        """Wait for a hint on the topic, at most `timeout` seconds.

        True if one came. A hint given before is not lost.
        """
