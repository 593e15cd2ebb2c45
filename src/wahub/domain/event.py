"""The event log: what happened to an instance, numbered without gaps, kept whether or not a webhook wanted it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from wahub.domain.ids import InstanceId

_MARK = re.compile(r"([A-Za-z0-9_-]+):([0-9]{1,15})(?::([0-9]{1,15}))?")

UNLOGGED = frozenset({"presence"})
"""Posted to those who ask for them, but worth nothing afterwards: no number, no retry, not in the log."""

LOGGED = frozenset(
    {
        *("qr", "authenticated", "ready", "ready_timeout", "auth_failure", "disconnected", "restricted"),
        *("change_state", "queue_held", "message", "vote_update", "reaction", "message_edit", "message_revoked"),
        *("group_update", "call", "contact_merged"),
        *("message_ack", "message_unknown", "message_expired", "message_failed"),
    }
)
"""All that the log may hold."""

SECRETS = frozenset({"qr"})
"""Events that hold a pairing secret: the log forgets it when it dies."""

ENDS_SECRETS = frozenset({*SECRETS, "authenticated"})
"""After one of these no earlier code works any more."""


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One event of an instance. `body` is the exact text that webhooks get; `created_at` is Unix seconds.

    `sequence` counts the events of the instance from 1 without gaps; 0 means that it is not in the log. The body of an
    event with `secret_until` holds a secret until then.
    """

    event_id: str
    instance: InstanceId
    event: str
    body: str = field(repr=False)
    sequence: int
    created_at: float
    secret_until: float | None = None
    position: int = 0
    """Order of all events of the gateway, given by the store."""

    @property
    def mark(self) -> Mark:
        """What a follower of all instances hands back to go on after it."""
        return Mark(self.instance, self.sequence, self.position)

    def at(self, now: float) -> LoggedEvent:
        """What may be shown of it at `now`: a secret that died is gone."""
        if self.secret_until is None or now < self.secret_until:
            return self
        return replace(self, body=without_secret(self.event, self.instance), secret_until=None)


def without_secret(event: str, instance: str) -> str:
    """The body of an event whose secret died, in the shape of contract D.4 (`{error}`)."""
    return f'{{"event":"{event}","instanceId":"{instance}","data":{{"error":"expired"}}}}'


@dataclass(frozen=True, slots=True)
class Span:
    """What the log holds of one instance. `oldest` is one more than `newest` when it holds nothing."""

    oldest: int
    newest: int


@dataclass(frozen=True, slots=True)
class Mark:
    """The last event that a follower of all instances saw. Marks of earlier versions have no position."""

    instance: InstanceId
    sequence: int
    position: int | None = None

    @classmethod
    def parse(cls, text: str) -> Mark:
        """Read `<instance>:<sequence>[:<position>]`; ValueError if it is something else."""
        found = _MARK.fullmatch(text)
        if found is None:
            raise ValueError("no mark of an event")
        instance, sequence, position = found.groups()
        return cls(InstanceId(instance), int(sequence), None if position is None else int(position))

    def __str__(self) -> str:
        place = "" if self.position is None else f":{self.position}"
        return f"{self.instance}:{self.sequence}{place}"


@dataclass(frozen=True, slots=True)
class Gap:
    """Events of an instance that a follower has not seen and that are kept no more.

    They lie beyond the sequence `after` and may go on behind `oldest`, the first that is kept; None: not known.
    """

    instance: InstanceId
    after: int | None
    oldest: int | None


@dataclass(frozen=True, slots=True)
class Start:
    """Where a follower goes on: right after a sequence of its instance, or after a position in the log of all."""

    at: int
    gaps: tuple[Gap, ...] = ()
