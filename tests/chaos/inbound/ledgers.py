"""What is compared after a run of inbound chaos: what phones sent, the event log, what the receiver got.

`Sent` is written from the answers of the phones, `Logged` from `GET /instances/{id}/events`, `Attempt` by the receiver.
Orders are positions in the lists: `Sent` as WhatsApp took it, `Attempt` as it arrived, whatever the instance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Sent:
    """One thing that a person sent. `number` counts within its instance; `author` is digits, `chat` digits or a group.

    `id` is what WhatsApp calls it; of a vote `poll` and `options` are what it says.
    """

    instance: str
    number: int
    chat: str
    author: str
    id: str
    kind: str
    """`text`, `image` or `vote`."""
    text: str = ""
    poll: str = ""
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How findings call it."""
        return f"{self.kind} {self.number} of {self.instance}"


@dataclass(frozen=True, slots=True)
class Logged:
    """One event of the log. `body` is what webhooks of it must carry."""

    instance: str
    sequence: int
    event_id: str
    event: str
    data: Mapping[str, Any]
    body: bytes

    @property
    def name(self) -> str:
        """How findings call it."""
        return f"event {self.sequence} of {self.instance}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that the receiver got. `taken`: it was answered with 200; `genuine`: both signatures verified."""

    instance: str
    event_id: str
    event: str
    sequence: int
    attempt: int
    body: bytes
    taken: bool
    genuine: bool


@dataclass(frozen=True, slots=True)
class Ledgers:
    """All that is known in the end."""

    sent: list[Sent]
    logged: list[Logged]
    newest: Mapping[str, int]
    """The newest sequence number by instance, as the log says."""
    posted: list[Attempt]
    late: frozenset[str] = field(default_factory=frozenset)
    """Ids that WhatsApp itself delivered after later ones: no order is demanded of them."""
