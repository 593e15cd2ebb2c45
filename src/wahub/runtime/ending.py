"""The end of a link: stored together with what follows from it, and told to whom it concerns."""

from __future__ import annotations

from dataclasses import dataclass, replace

from wahub.domain.instance import Disconnect, Event, Stage
from wahub.domain.lease import Lease
from wahub.domain.reconnect import Ended, Next
from wahub.ports.engine import LOGIN_REFUSED, Closed
from wahub.ports.wakeup import WEBHOOKS
from wahub.runtime import journal
from wahub.runtime.deps import RuntimeDeps
from wahub.runtime.reach import Reach
from wahub.runtime.sight import Sight
from wahub.services import lifecycle

_OURS = (Disconnect.CLOSED_BY_US, Disconnect.TERM_EXPIRED)
_NETWORK = frozenset(
    {
        Disconnect.TIMED_OUT,
        Disconnect.CONNECTION_CLOSED,
        Disconnect.UNAVAILABLE,
        Disconnect.ENGINE_DIED,
        Disconnect.UNKNOWN,
    }
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why we end a link ourselves."""

    reason: Disconnect
    detail: str
    cooldown: float | None = None
    """Seconds of pause that it asks for."""
    silent: bool = False
    """What there is to store is stored already, and what comes next is decided."""


class Endings:
    """Stores ends of links of one instance under one lease."""

    def __init__(self, deps: RuntimeDeps, lease: Lease, sight: Sight, reach: Reach) -> None:
        self._deps = deps
        self._lease = lease
        self._sight = sight
        self._reach = reach

    async def note(self, event: Closed, verdict: Verdict | None, *, again: bool = False) -> Next | None:
        """Store the end and what follows; None if that was done by whoever ended it, or the term is over.

        `again`: it was tried before and could not be stored, so nobody else is told once more.
        """
        self._sight.last_stage = event.stage
        if verdict is not None and verdict.silent and event.reason in (*_OURS, *_NETWORK, verdict.reason):
            # Whether the network was quicker makes no difference to what was decided.
            self._reach.spare(self._lease.instance)
            return None
        if verdict is not None and event.reason in _OURS:
            event = replace(event, reason=verdict.reason, detail=verdict.detail)
        elif event.reason is Disconnect.CLOSED_BY_US:
            self._reach.spare(self._lease.instance)
            return None
        if not again:
            self._tell_reach(event, by_us=verdict is not None and verdict.reason is not Disconnect.TIMED_OUT)
        return await self._store(event, None if verdict is None else verdict.cooldown)

    async def _store(self, event: Closed, cooldown: float | None) -> Next:
        deps, lease = self._deps, self._lease
        refused = event.detail == LOGIN_REFUSED
        ended = Ended(event.reason, event.stage, deps.clock.now(), deps.random(), cooldown, refused)
        policy, event_id = deps.settings.reconnect, deps.new_id()
        closing = await deps.database.write(
            lambda tx: lifecycle.closed(tx, lease, ended, event.detail, policy, event_id)
        )
        self._sight.take(closing.moved)
        # One that follows a scan, or that we wanted, is no loss.
        name = "disconnected" if closing.next.counts else "link_ended"
        journal.note(lease.instance, name, reason=str(event.reason), code=event.code, stage=str(event.stage))
        if closing.moved.event is Event.AUTH_FAILED:
            journal.alert(lease.instance, "auth_failure")
        if closing.next.incident is not None:
            journal.alert(lease.instance, "incident", kind=str(closing.next.incident))
        journal.moved(closing.moved)
        deps.wakeup.notify(WEBHOOKS)
        return closing.next

    def _tell_reach(self, event: Closed, *, by_us: bool) -> None:
        instance, now = self._lease.instance, self._deps.clock.monotonic()
        if event.stage is Stage.UNREACHED:
            if by_us:
                self._reach.spare(instance)
            else:
                self._reach.missed(instance, now)
            return
        if event.stage is Stage.OPEN and event.reason in _NETWORK:
            # Its code may be the engine's own word for silence: it does not show that the way is open.
            if not by_us:
                self._reach.lost(instance, now)
        elif event.reason is not Disconnect.ENGINE_DIED and event.code is not None:
            # The server said something: the way is open.
            self._reach.reached(instance, now)
        else:
            self._reach.spare(instance)
