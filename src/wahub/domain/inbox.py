"""What comes in: a received message and the key that makes a second arrival harmless."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wahub.domain.ids import InstanceId, MessageId

_LAST_SECOND = 253_402_300_799
"""The end of the year 9999."""


@dataclass(frozen=True, slots=True)
class Vote:
    """A vote on a poll of ours: the chosen names in the order of the poll; empty when it was withdrawn."""

    poll_id: MessageId
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Received:
    """A message that reached an instance. Unique by (instance, chat, sender, message_id).

    `chat` and `sender` are JIDs; `sender_phone` are digits where known; `timestamp` is Unix seconds; `raw` is the
    WhatsApp message as JSON text.
    """

    instance: InstanceId
    chat: str
    sender: str
    sender_phone: str | None
    message_id: MessageId
    from_me: bool
    type: str
    text: str
    timestamp: int
    raw: str | None = None
    vote: Vote | None = None


def from_engine(instance: InstanceId, body: Mapping[str, Any]) -> Received:
    """Read the body of an engine's `Inbound` event (ports/engine.py)."""
    return Received(
        instance=instance,
        chat=str(body["chat"]),
        sender=str(body["sender"]),
        sender_phone=body.get("sender_phone"),
        message_id=MessageId(str(body["message_id"])),
        from_me=bool(body.get("from_me")),
        type=str(body.get("type") or "unknown"),
        text=str(body.get("text") or ""),
        # A sender writes this number, and a webhook must not carry one that JavaScript would round (contract 0.7).
        timestamp=min(max(int(body.get("timestamp") or 0), 0), _LAST_SECOND),
        raw=body.get("raw"),
        vote=_vote(body),
    )


def _vote(body: Mapping[str, Any]) -> Vote | None:
    if body.get("type") != "vote" or body.get("poll_id") is None:
        return None
    return Vote(MessageId(str(body["poll_id"])), tuple(str(name) for name in body.get("options") or ()))
