"""When an instance may open its next link: the time that was decided, its turn after an outage, or somebody's wish."""

from __future__ import annotations

from collections.abc import Callable

from wahub.domain.ids import InstanceId
from wahub.domain.instance import AT_REST, Observed, State
from wahub.domain.lifecycle import Lifecycle
from wahub.domain.reconnect import RESTART_SPREAD
from wahub.ports.wakeup import link_topic
from wahub.runtime.deps import RuntimeDeps
from wahub.runtime.reach import Reach

_LONG = 3_600.0
_LONGEST_COOLDOWN = 60.0
_WISHES_APART = 5.0


class Turns:
    """The waits between the links of one instance."""

    def __init__(self, deps: RuntimeDeps, reach: Reach, wanted: InstanceId) -> None:
        self.new_term = False
        """The next link needs a new lease term, so that nothing of the last one can act any more."""
        self._deps = deps
        self._reach = reach
        self._instance = wanted
        self._due: float | None = 0.0
        """In monotonic seconds; None: not before someone asks."""
        self._go = False
        """Someone asked: wait for nothing."""
        self._wished_at = float("-inf")
        self._looks_again = False
        """The hint that comes is our own, and no wish."""

    @property
    def waits(self) -> bool:
        """Whether no link is due now."""
        return self._due is None or self._due > self._deps.clock.monotonic()

    def look_again(self) -> None:
        """Something changed that the wait should know of."""
        self._looks_again = True
        self._deps.wakeup.notify(link_topic(self._instance))

    def plan(self, seconds: float | None) -> None:
        """The next link: after so many seconds, or (None) when someone asks. Earlier wishes are void."""
        self._due = None if seconds is None else self._deps.clock.monotonic() + seconds
        self._go = False

    def open_after(self, seconds: float, *, new_term: bool = False) -> None:
        """Someone, or a timer, wants the next link: after so many seconds, whatever was decided before."""
        self._due = self._deps.clock.monotonic() + seconds
        self._go = seconds <= 0
        self.new_term = self.new_term or new_term
        self.look_again()

    def resume(self, seen: Observed, record: Lifecycle) -> None:
        """What was decided before this process began still holds."""
        if seen.state is State.PAUSED:
            until = record.paused_until
            left = None if until is None else max(until - self._deps.clock.now(), 0.0)
            # The wall clock may have been wrong when the pause began.
            self.plan(None if left is None else min(left, self._longest_pause(record.pause_reason)))
        elif seen.state in AT_REST or (seen.state is State.NEEDS_QR and record.qr_rounds_left == 0):
            self.plan(None)
        else:
            self.plan(0.0)

    def _wish(self) -> None:
        """Someone wants the link back; a client that asks every second gets no attempt every second."""
        now = self._deps.clock.monotonic()
        if now - self._wished_at >= _WISHES_APART:
            self._wished_at, self._go = now, True

    def _longest_pause(self, reason: str | None) -> float:
        policy, timers = self._deps.settings.reconnect, self._deps.settings.timers
        if reason == "ready_timeout":
            return timers.ready_pause
        if reason == "replaced":
            return policy.replaced_wait
        if reason == "cooldown":
            return max(policy.cooldown or 0.0, _LONGEST_COOLDOWN)
        return policy.window + policy.limit_extra + RESTART_SPREAD

    async def wait(self, state: Callable[[], State], interrupted: Callable[[], bool]) -> bool:
        """Wait until the next link may be opened; False as soon as something else has to be done first.

        A hint from outside (`link:<instance>`) is a wish to reconnect; it counts where a reconnect is under way.
        """
        clock, wakeup = self._deps.clock, self._deps.wakeup
        # A hint that came while the link was up is no wish of now.
        await wakeup.wait(link_topic(self._instance), 0.0)
        self._looks_again = False
        while not interrupted():
            if self.new_term:
                return False
            if self._go:
                self._go = False
                return True
            left = None if self._due is None else self._due - clock.monotonic()
            if left is None:
                self._reach.leave(self._instance)
            elif left <= 0:
                left = self._reach.hold(self._instance, clock.monotonic())
                if left <= 0:
                    return True
            hinted = await wakeup.wait(link_topic(self._instance), _LONG if left is None else left)
            ours, self._looks_again = self._looks_again, False
            if hinted and not ours and state() is State.DISCONNECTED:
                self._wish()
        return False
