"""Endpoints of webhooks: when one is paused or disabled, and with which secrets it is signed for.

An endpoint is (instance, URL). One that fails for long is *paused*: a single delivery at growing intervals asks whether
it is back, everything else waits. One that answers 410 is *disabled* until somebody sets the URL again or replays.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from wahub.domain.ids import InstanceId
from wahub.domain.retry import Backoff

PAUSE_AFTER_FAILURES: Final = 20
PAUSE_AFTER: Final = 900.0
"""Seconds. Both must be reached, without a success in between."""

ASIDE_AFTER: Final = 5
"""Failed attempts after which an event steps aside, if the endpoint takes others (contract 0.7)."""

OUTAGE: Final = 60.0
"""Seconds without a success after which the first one lets all waiting retries go at once."""

FOREVER: Final = 1e15
"""A time that does not come."""

_FIRST_PROBE: Final = 30
"""The first wait of a paused endpoint, in first waits of a retry."""


class Held(StrEnum):
    """Why nothing is posted to an endpoint."""

    PAUSED = "paused"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Trouble:
    """An endpoint that failed since it last took anything. Times are Unix seconds."""

    instance: InstanceId
    url: str
    failures: int
    failing_since: float
    last_error: str
    held: Held | None = None
    held_at: float | None = None
    held_until: float | None = None
    """When a paused endpoint is asked again."""
    probes: int = 0


def after_failure(
    before: Trouble, *, status: int | None, probe: bool, now: float, unit: float, retry: Backoff
) -> Trouble:
    """One more failed attempt. `before` is what was known, or a blank; `unit` is random in [0, 1)."""
    after = replace(before, failures=before.failures + 1)
    if status == 410:
        if before.held is Held.DISABLED:
            return after
        return replace(after, held=Held.DISABLED, held_at=now, held_until=FOREVER)
    probes = Backoff(min(retry.base * _FIRST_PROBE, retry.cap), retry.cap)
    if before.held is Held.PAUSED and probe:
        wait = min(probes.jittered(before.probes + 2, unit), probes.cap)
        return replace(after, probes=before.probes + 1, held_until=now + wait)
    if before.held is None and after.failures >= PAUSE_AFTER_FAILURES and now - after.failing_since >= PAUSE_AFTER:
        wait = min(probes.jittered(1, unit), probes.cap)
        return replace(after, held=Held.PAUSED, held_at=now, held_until=now + wait)
    return after


def ends_outage(trouble: Trouble, now: float) -> bool:
    """Whether a success after this trouble should let all waiting retries of the endpoint go at once.

    Not after a single refusal: an event that the receiver never takes would be tried again with every other one.
    """
    return trouble.held is not None or now - trouble.failing_since >= OUTAGE


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secret of one instance beside the gateway's own; None stands for the latter.

    Until `previous_until` (Unix seconds) the previous one is live, too.
    """

    current: str | None = field(default=None, repr=False)
    previous: str | None = field(default=None, repr=False)
    previous_until: float | None = None

    def rotated(self, secret: str | None, now: float, overlap: float) -> Secrets:
        """With another secret; the one before stays live for `overlap` seconds. The same one changes nothing."""
        if secret == self.current:
            return self
        if overlap <= 0:
            return Secrets(secret)
        return Secrets(secret, self.current, now + overlap)

    def live(self, common: str | None, now: float) -> tuple[str, ...]:
        """The secrets to sign with at `now`, the current one first. `common` is the gateway's own."""
        current = self.current or common
        if current is None:
            return ()
        previous = (self.previous or common) if self.previous_until is not None and now < self.previous_until else None
        return (current,) if previous is None or previous == current else (current, previous)
