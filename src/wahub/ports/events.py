"""The parts of a transaction that tell callers what happened: the event log, endpoints, dead letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from wahub.domain.endpoint import Held, Secrets, Trouble
from wahub.domain.event import LoggedEvent, Span
from wahub.domain.ids import InstanceId
from wahub.domain.webhook import Delivery


class Events(Protocol):
    """The event log. Whoever changes an instance adds what happened, in the same transaction."""

    def add_all(self, events: Sequence[LoggedEvent]) -> Sequence[int]:
        """Insert; returns their positions, which rise in this order."""

    def after(self, instance: InstanceId, sequence: int, limit: int) -> Sequence[LoggedEvent]:
        """Events of one instance beyond that number, in order."""

    def since(self, position: int, limit: int) -> Sequence[LoggedEvent]:
        """Events of all instances beyond that position, in order; none that an event under way could still precede."""

    def span(self, instance: InstanceId) -> Span:
        """What the log holds; InstanceNotFoundError when there is no such instance."""

    def end_secrets(self, before: float, instance: InstanceId | None = None) -> int:
        """Take the secrets out of bodies: those that died by then, or all of one instance. Returns how many."""

    def forget(self, before: float, position: int, limit: int) -> int | None:
        """Look at `limit` events beyond a position and remove those that are older, unless a delivery still waits.

        Returns the position to go on from; None when nothing older is left. How far it came is kept (`Places`).
        """


class Places(Protocol):
    """Positions in the log of all instances, for those who come back to it."""

    def of(self, instance: InstanceId, sequence: int) -> int | None:
        """The position of an event that is still kept."""

    def newest(self) -> int:
        """The position of the last event that is kept; 0 when there is none."""

    def given(self) -> int:
        """The last position that was given out, also to what is gone; 0 when there is none."""

    def forgotten(self, instance: InstanceId) -> int:
        """The position of the last event of an instance that retention removed; 0 when there is none."""

    def forgotten_beyond(self, position: int) -> Sequence[InstanceId]:
        """The instances, by id, of which retention removed events beyond that position."""


class Endpoints(Protocol):
    """What is known of endpoints, and the secrets of instances."""

    def trouble(self, instance: InstanceId, url: str) -> Trouble | None:
        """None while all is well."""

    def note(self, trouble: Trouble) -> None:
        """Insert or replace."""

    def recover(self, instance: InstanceId, url: str) -> Trouble | None:
        """Forget the trouble; returns what it was."""

    def held(self) -> Mapping[Held, int]:
        """How many endpoints of all instances are held, by why; without those of which there is none."""

    def wake(self, instance: InstanceId, url: str, now: float) -> int:
        """Make waiting retries due, except of events that stepped aside; returns how many."""

    def took_since(self, instance: InstanceId, url: str, since: float) -> bool:
        """Whether the endpoint took anything from then on."""

    def secrets(self, instance: InstanceId) -> Secrets:
        """Blank when the instance has none of its own."""

    def set_secrets(self, instance: InstanceId, secrets: Secrets) -> None:
        """Insert or replace."""


class DeadLetters(Protocol):
    """Deliveries that were given up."""

    def list(self, instance: InstanceId, limit: int) -> Sequence[Delivery]:
        """The latest first."""

    def count(self, instance: InstanceId | None) -> int:
        """How many there are, of one instance or of all."""

    def find(self, instance: InstanceId, event_id: str) -> Delivery | None: ...

    def revive(self, instance: InstanceId, event_id: str | None, url: str, now: float, expires_at: float) -> int:
        """Make one or all (None) pending again, to that URL, with no attempts counted; returns how many.

        A pairing code is left dead.
        """

    def forget_endpoints(self) -> int:
        """Forget the trouble of endpoints that no instance has and nothing waits for; returns how many there were."""

    def bury_overdue(self, now: float, reason: str) -> int:
        """Give up what waits for an endpoint that is held, and whose time is over; returns how many."""
