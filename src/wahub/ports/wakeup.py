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


INSTANCES = "instances"
"""Instances were created, changed or marked for deletion."""

WEBHOOKS = "webhooks"
"""Deliveries were added, or events that nobody wants posted."""

EVENTS = "events"
"""There is more in the event log, for those who follow it."""

MEDIA = "media"
"""Files of messages are wanted."""


def outbox_topic(instance: str) -> str:
    """The topic of new work in an instance's outbox."""
    return f"outbox:{instance}"


def settled_topic(instance: str) -> str:
    """The topic of items of an instance whose fate became known."""
    return f"outbox-settled:{instance}"


def link_topic(instance: str) -> str:
    """The topic of callers who want an instance's link back without sitting out a pause."""
    return f"link:{instance}"


def deleted_topic(instance: str) -> str:
    """The topic of the end of a delete."""
    return f"deleted:{instance}"


def watch_topic(instance: str) -> str:
    """The topic of changes that an instance's timers should look at."""
    return f"watch:{instance}"


def asked_topic(instance: str) -> str:
    """The topic of answers to what a caller asked of an instance's worker."""
    return f"asked:{instance}"
