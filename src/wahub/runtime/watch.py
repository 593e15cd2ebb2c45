"""The timers of one instance: rings what domain/watchdog.py says is due, and does what it asks for.

Promise: an alarm that is due is acted on once, as soon as the facts are looked at; facts that change are looked at on a
hint (`watch:<instance>`), and at the latest at the time of the next alarm. Nothing is saved here: after a restart the
stored facts give the same alarms.

A crash while an alarm is acted on leaves either all of its transaction or nothing; then the alarm rings again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import structlog

from wahub.domain.errors import InstanceNotFoundError, OvertakenError, StaleLeaseError
from wahub.domain.instance import Disconnect, Stage, State
from wahub.domain.lease import Lease
from wahub.domain.lifecycle import IncidentKind
from wahub.domain.watchdog import Alarm, Restart, Timers, View, alarms, mute_evidence
from wahub.ports.wakeup import WEBHOOKS, watch_topic
from wahub.runtime import journal
from wahub.runtime.deps import RuntimeDeps
from wahub.runtime.ending import Verdict
from wahub.services import lifecycle

if TYPE_CHECKING:
    from wahub.runtime.runner import Runner
    from wahub.runtime.serving import Serving

log = structlog.get_logger("wahub.watch")

_LONG = 3_600.0
_SAME_AGAIN = 1.0
"""Seconds before an alarm that changed nothing rings again."""
_FAILED_HEALTH_PAUSE = 5.0


class Watch:
    """Watches over one runner."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._deps: RuntimeDeps = runner.deps
        self._timers: Timers = runner.deps.settings.timers
        self._rang: tuple[Alarm, float] | None = None
        self._serving: Serving | None = None
        """Whose facts the last look saw: no alarm of one link may close the next."""

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                await self._deps.wakeup.wait(watch_topic(self._runner.instance), await self._round())
            except (StaleLeaseError, InstanceNotFoundError, OvertakenError):
                await self._deps.clock.sleep(_SAME_AGAIN)
            except Exception as error:  # noqa: BLE001 - the store may come back, and timers must go on
                log.error("a timer will ring again", instance=self._runner.instance, error=type(error).__name__)
                await self._deps.clock.sleep(_SAME_AGAIN)

    async def _round(self) -> float:
        """Ring what is due; returns how long nothing will be."""
        lease = self._runner.lease
        if lease is None or self._runner.sight.instance is None:
            return _LONG
        self._serving = self._runner.serving
        # A link that is being closed rings no more: its end is on its way.
        closing = self._serving is not None and self._serving.verdict is not None
        view = self._runner.sight.view(self._deps.clock, with_link=not closing)
        found = alarms(view, self._timers)
        if not found:
            return _LONG
        at, alarm = found[0]
        if at > view.now:
            return self._aligned(at - view.now, view.now) if alarm is Alarm.LOOK else at - view.now
        if self._rang is not None and self._rang[0] is alarm and 0 <= view.now - self._rang[1] < _SAME_AGAIN:
            # What it changed may not be seen yet: a link that was closed is still there until its end was served.
            return _SAME_AGAIN
        self._rang = (alarm, view.now)
        await self._ring(alarm, lease, view)
        return 0.0

    def _aligned(self, seconds: float, now: float) -> float:
        """Looks of all instances fall on the same moments, so that an idle worker wakes up rarely."""
        every = max(seconds, 0.001)
        return every - math.fmod(now, every) or every

    async def _ring(self, alarm: Alarm, lease: Lease, view: View) -> None:
        match alarm:
            case Alarm.MUTE:
                await self._mute(lease, view)
            case Alarm.STALE:
                await self._deps.database.write(lambda tx: lifecycle.stale(tx, lease))
                await self._end(Disconnect.TIMED_OUT, "stale")
            case Alarm.QR_RELOAD | Alarm.QR_RECREATE:
                await self._recover_qr(lease, recreate=alarm is Alarm.QR_RECREATE)
            case Alarm.QR_GIVE_UP:
                await self._give_up_qr(lease)
            case Alarm.INIT_TIMEOUT:
                await self._init_timeout(lease)
            case Alarm.READY_TIMEOUT:
                await self._ready_timeout(lease, view)
            case Alarm.RESTART_TIMEOUT:
                await self._restart_timeout(lease, view)
            case Alarm.CONNECTING_TIMEOUT:
                await self._connecting_timeout(lease)
            case Alarm.CONNECT_TIMEOUT:
                await self._end(Disconnect.TIMED_OUT, "Connection timeout")
            case Alarm.READY_POLL:
                await self._poll(lease)
            case Alarm.HEALTH_CHECK:
                await self._check_health(lease)
            case Alarm.RECYCLE:
                journal.note(self._runner.instance, "link_recycled", reason="idle")
                if self._serving is not None:
                    await self._serving.stop_sender(self._deps.settings.delete_patience)
                await self._end(Disconnect.RECYCLED, "no message for a day")
            case Alarm.LOOK:
                pass

    async def _end(self, reason: Disconnect, detail: str, cooldown: float | None = None) -> None:
        if self._serving is not None and self._serving is self._runner.serving:
            await self._serving.end(Verdict(reason, detail, cooldown))

    async def _end_silently(self, detail: str) -> None:
        """What there is to store is stored."""
        if self._serving is not None and self._serving is self._runner.serving:
            await self._serving.end(Verdict(Disconnect.RECYCLED, detail, silent=True))

    # --- liveness ----------------------------------------------------------------------------------------------------

    async def _mute(self, lease: Lease, view: View) -> None:
        evidence = mute_evidence(view, self._timers)
        if evidence is None:
            return
        now, event_id = self._deps.clock.now(), self._deps.new_id()
        self._runner.sight.take(
            await self._deps.database.write(lambda tx: lifecycle.mute(tx, lease, evidence, now, event_id))
        )
        self._deps.wakeup.notify(WEBHOOKS)
        journal.alert(lease.instance, "change_state", status=lifecycle.CONNECTED_MUTE, evidence=str(evidence))
        await self._end(Disconnect.TIMED_OUT, "connected_mute")

    async def _check_health(self, lease: Lease) -> None:
        facts = self._runner.sight.link
        if facts is None:
            return
        now, checked_at = self._deps.clock.now(), self._deps.clock.monotonic()
        facts.checked_at = checked_at
        idle = checked_at - max(facts.active_at, facts.opened_at or 0.0) > self._timers.inactive
        answered = (await facts.link.probe()).answered if idle else True
        journal.note(lease.instance, "health_check_idle" if idle else "health_check", ok=answered)
        if not answered:
            pause = self._deps.settings.reconnect.cooldown or _FAILED_HEALTH_PAUSE
            await self._end(Disconnect.TIMED_OUT, "health_check_failed", pause)
            return
        await self._deps.database.write(lambda tx: lifecycle.health_checked(tx, lease, now))

    async def _poll(self, lease: Lease) -> None:
        facts = self._runner.sight.link
        if facts is None:
            return
        facts.polled_at = self._deps.clock.monotonic()
        found = await facts.link.probe()
        error = None if found.logged_in and found.answered else "no answer" if found.logged_in else "not logged in yet"
        self._runner.sight.record = await self._deps.database.write(lambda tx: lifecycle.polled(tx, lease, error))

    # --- pairing -----------------------------------------------------------------------------------------------------

    async def _recover_qr(self, lease: Lease, *, recreate: bool) -> None:
        now = self._deps.clock.now()
        moved = await self._deps.database.write(lambda tx: lifecycle.qr_recovery(tx, lease, now))
        self._runner.sight.take(moved)
        journal.note(lease.instance, "qr_recovery", attempt=moved.record.qr_recovery_attempts)
        self._runner.turns.open_after(0.0, new_term=recreate)
        await self._end_silently("the QR code is stale")

    async def _give_up_qr(self, lease: Lease) -> None:
        now = self._deps.clock.now()
        moved = await self._deps.database.write(lambda tx: lifecycle.qr_given_up(tx, lease, now))
        self._runner.sight.take(moved)
        journal.moved(moved)
        self._runner.turns.plan(None)
        await self._end_silently("nobody scanned")

    async def _init_timeout(self, lease: Lease) -> None:
        sight, timers = self._runner.sight, self._timers
        if sight.init_attempts >= timers.init_attempts:
            text = f"Failed to initialize after {timers.init_attempts} attempts"
            await self._fail(lease, IncidentKind.INIT_FAILED, text)
            return
        pause = timers.init_pause * sight.init_attempts
        sight.init_attempts += 1
        sight.init_since = self._deps.clock.monotonic() + pause
        self._runner.turns.open_after(pause)
        await self._end_silently("not initialised in time")

    # --- getting ready -----------------------------------------------------------------------------------------------

    async def _ready_timeout(self, lease: Lease, view: View) -> None:
        now, event_id, pause = self._deps.clock.now(), self._deps.new_id(), self._timers.ready_pause
        took = view.now - (view.record.ready_watchdog_at or view.now)
        moved = await self._deps.database.write(
            lambda tx: lifecycle.ready_timed_out(tx, lease, took, pause, now, event_id)
        )
        self._runner.sight.take(moved)
        self._deps.wakeup.notify(WEBHOOKS)
        journal.alert(lease.instance, "ready_timeout")
        journal.moved(moved)
        if moved.after.observed.state is State.PAUSED:
            self._runner.sight.restart = None
            self._runner.turns.open_after(pause)
            await self._end_silently("not ready in time")

    async def _restart_timeout(self, lease: Lease, view: View) -> None:
        restart = view.restart
        if restart is None or self._network_is_gone:
            # Losing the network is no failure of the restart: the ladder goes on by itself (contract 0.12).
            self._runner.sight.restart = None
            return
        if restart.hard:
            await self._fail(lease, IncidentKind.RESTART_FAILED, "not ready after a soft and a hard restart")
            return
        wait = self._timers.restart_wait(2)
        harder = Restart(hard=True, since=self._deps.clock.monotonic() + wait, asked=restart.asked)
        await self._runner.restart(harder, "the soft restart did not help", after=wait)

    async def _connecting_timeout(self, lease: Lease) -> None:
        now, most = self._deps.clock.now(), self._timers.connecting_restarts
        if self._network_is_gone:
            self._runner.sight.record = await self._deps.database.write(
                lambda tx: lifecycle.rearm_connecting(tx, lease, now)
            )
            return
        journal.alert(lease.instance, "connecting_watchdog_timeout")
        if not await self._deps.database.write(lambda tx: lifecycle.connecting_timed_out(tx, lease, most, now)):
            await self._fail(lease, IncidentKind.RESTART_FAILED, f"not connected after {most} restarts by the watchdog")
            return
        if self._runner.sight.observed.state is State.NEEDS_QR:
            self._runner.turns.open_after(0.0)
            await self._end_silently("connecting watchdog")
            return
        restart = Restart(hard=False, since=self._deps.clock.monotonic(), asked=False)
        await self._runner.restart(restart, "connecting watchdog", after=self._timers.restart_wait(1))

    @property
    def _network_is_gone(self) -> bool:
        sight = self._runner.sight
        return sight.last_stage is Stage.UNREACHED and not (sight.link is not None and sight.link.reached)

    async def _fail(self, lease: Lease, kind: IncidentKind, text: str) -> None:
        now, event_id = self._deps.clock.now(), self._deps.new_id()
        moved = await self._deps.database.write(lambda tx: lifecycle.failed(tx, lease, kind, text, now, event_id))
        self._deps.wakeup.notify(WEBHOOKS)
        self._runner.sight.take(moved)
        self._runner.sight.restart = self._runner.sight.init_since = None
        journal.moved(moved)
        journal.alert(lease.instance, "incident", kind=str(kind))
        self._runner.turns.plan(None)
        await self._end_silently(text)
