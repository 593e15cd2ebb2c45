"""The event log: what happened to an instance, numbered without gaps, kept whether or not a webhook wanted it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from wahub.domain.ids import InstanceId

UNLOGGED = frozenset({"presence"})
"""Posted to those who ask for them, but worth nothing afterwards: no number, no retry, not in the log."""

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
