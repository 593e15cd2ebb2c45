"""What timers do to an instance (contract B.4 and B.7): each function is one transaction under its worker's lease.

A timer rings by what was seen a moment ago. Each function looks again, inside its transaction, and raises
OvertakenError when the fact it rang for is gone.
"""

from __future__ import annotations

from dataclasses import replace

from wahub.domain.errors import OvertakenError
from wahub.domain.instance import ENDED, Event, State
from wahub.domain.lease import Lease
from wahub.domain.lifecycle import IncidentKind, Lifecycle
from wahub.domain.times import iso
from wahub.domain.watchdog import MuteEvidence
from wahub.ports.store import Tx
from wahub.services import webhook
from wahub.services.lifecycle.moves import Moved, current, keep, move, not_ready_any_more, report

CONNECTED_MUTE = "CONNECTED_MUTE"
"""The word of `change_state` for a link that is up and of no use."""


def restart(tx: Tx, lease: Lease, now: float, why: str, *, asked: bool) -> Moved:
    """A restart begins: the link is about to be opened anew. `asked`: by a person; a timer restarts nothing ready."""
    instance, record = found = current(tx, lease)
    if not asked and instance.observed.state is State.READY:
        raise OvertakenError
    begun = replace(
        record,
        asked=None,
        last_restart_at=now,
        restart_count=record.restart_count + 1,
        qr_received_during_restart=False,
        connecting_watchdog_at=record.connecting_watchdog_at or now,
    )
    changes = {"ready_at": None, "restart_attempts": 0}
    if instance.observed.state in ENDED:
        return move(tx, found, Event.RETRY, now, changes=changes, record=begun, reason=why)
    if instance.observed.state is State.NEEDS_QR:
        # Nothing is linked; a new round of codes is all that a restart can do.
        keep(tx, record, begun)
        return Moved(instance, instance, begun, Event.RESTART, why)
    return move(tx, found, Event.RESTART, now, changes=changes, record=begun, reason=why)


def failed(tx: Tx, lease: Lease, kind: IncidentKind, text: str, now: float, event_id: str) -> Moved:
    """It is over until someone asks: state `error`, and why. Who takes it for ready is told `disconnected`."""
    instance, record = found = current(tx, lease)
    if instance.observed.state is State.READY:
        raise OvertakenError
    changes = {"last_error": text, "qr": None, "qr_expires_at": None, "ready_at": None}
    ended = replace(record, last_error_at=now, connecting_watchdog_at=None, ready_watchdog_at=None)
    moved = move(tx, found, Event.FAILED, now, changes=changes, record=ended, reason=text)
    moved = report(tx, moved, kind, text, now)
    if moved.record.told_ready:
        webhook.emit(tx, moved.after, "disconnected", {"reason": "error"}, now=now, event_id=event_id)
    return not_ready_any_more(tx, moved)


def ready_timed_out(tx: Tx, lease: Lease, took: float, pause: float, now: float, event_id: str) -> Moved:
    """The account did not become ready in time: say so, pause, then one soft restart (contract B.4, I-9).

    `took` and `pause` are seconds; the former is not asked of the wall clock, which may have been set. Where nobody
    scanned yet there is nothing to restart: then it is only said.
    """
    instance, record = found = current(tx, lease)
    if record.ready_watchdog_at is None or record.ready_timed_out:
        raise OvertakenError
    state, paired_at = instance.observed.state, instance.observed.authenticated_at
    data = {
        "elapsedMs": round(took * 1000),
        "authenticatedAt": None if paired_at is None else iso(paired_at),
        "state": str(state),
    }
    webhook.emit(tx, instance, "ready_timeout", data, now=now, event_id=event_id)
    text = f"not ready after {round(took)} s, state {state}"
    used = replace(record, ready_timed_out=True)
    if state is State.NEEDS_QR:
        keep(tx, record, used)
        only_said = Moved(instance, instance, used, Event.READY_TIMED_OUT)
        return report(tx, only_said, IncidentKind.READY_TIMEOUT, text, now)
    paused = replace(used, paused_until=now + pause, pause_reason="ready_timeout", connecting_watchdog_at=None)
    changes = {"qr": None, "qr_expires_at": None, "last_error": "not ready in time"}
    moved = move(tx, found, Event.READY_TIMED_OUT, now, changes=changes, record=paused, reason="ready watchdog")
    return report(tx, moved, IncidentKind.READY_TIMEOUT, text, now)


def rearm_connecting(tx: Tx, lease: Lease, now: float) -> Lifecycle:
    """The network is what keeps it from connecting: the watchdog begins anew and counts nothing (contract 0.12)."""
    _, record = current(tx, lease)
    again = replace(record, connecting_watchdog_at=now)
    keep(tx, record, again)
    return again


def connecting_timed_out(tx: Tx, lease: Lease, most: int, now: float) -> bool:
    """Count a restart by the connecting watchdog; False when it had as many as it may."""
    _, record = current(tx, lease)
    if record.connecting_watchdog_at is None:
        raise OvertakenError
    if record.connecting_watchdog_restarts >= most:
        return False
    counted = replace(
        record, connecting_watchdog_restarts=record.connecting_watchdog_restarts + 1, connecting_watchdog_at=now
    )
    keep(tx, record, counted)
    return True


def cooldown_over(tx: Tx, lease: Lease, now: float) -> Moved:
    """A pause ended by itself."""
    return move(tx, current(tx, lease), Event.COOLDOWN_OVER, now, reason="the pause is over")


def qr_recovery(tx: Tx, lease: Lease, now: float) -> Moved:
    """Another attempt to have a code scanned (contract B.7)."""
    instance, record = current(tx, lease)
    if instance.observed.state is not State.NEEDS_QR:
        raise OvertakenError
    tried = replace(
        record,
        qr_recovery_attempts=record.qr_recovery_attempts + 1,
        qr_recovery_at=now,
        connecting_watchdog_at=record.connecting_watchdog_at or now,
    )
    keep(tx, record, tried)
    return Moved(instance, instance, tried, Event.QR_ENDED, "the QR code is stale")


def qr_given_up(tx: Tx, lease: Lease, now: float) -> Moved:
    """Nobody scanned: no more codes before someone asks."""
    instance, record = found = current(tx, lease)
    if instance.observed.state is not State.NEEDS_QR:
        raise OvertakenError
    text = "no QR code was scanned in time: POST /retry shows a new one"
    changes = {"qr": None, "qr_expires_at": None, "last_error": text}
    ended = replace(record, connecting_watchdog_at=None, ready_watchdog_at=None, last_error_at=now)
    moved = move(tx, found, Event.QR_GIVEN_UP, now, changes=changes, record=ended, reason="no scan")
    return report(tx, moved, IncidentKind.QR_TIMEOUT, text, now)


def polled(tx: Tx, lease: Lease, error: str | None) -> Lifecycle:
    """The ready poll asked; `error` says why the account is not ready, None that it is."""
    _, record = current(tx, lease)
    asked = replace(record, ready_poll_attempts=record.ready_poll_attempts + 1, last_ready_poll_error=error)
    keep(tx, record, asked)
    return asked


def health_checked(tx: Tx, lease: Lease, now: float) -> None:
    """A health check was made."""
    _, record = current(tx, lease)
    keep(tx, record, replace(record, health_checked_at=now))


def stale(tx: Tx, lease: Lease) -> None:
    """The stale monitor is about to close a link that was not heard of: OvertakenError if it is not up any more."""
    instance, _ = current(tx, lease)
    if instance.observed.state is not State.READY:
        raise OvertakenError


def mute(tx: Tx, lease: Lease, evidence: MuteEvidence, now: float, event_id: str) -> Moved:
    """The link is up and of no use: webhook `change_state`, which changes no state (contract B.3)."""
    instance, record = current(tx, lease)
    if instance.observed.state is not State.READY:
        raise OvertakenError
    seen = replace(record, mute_since=record.mute_since or now, mute_evidence=str(evidence), mutes=record.mutes + 1)
    keep(tx, record, seen)
    observed = replace(instance.observed, last_event=f"change_state:{CONNECTED_MUTE}", last_event_at=now)
    after = replace(instance, observed=observed)
    tx.instances.save(after)
    webhook.emit(tx, after, "change_state", {"status": CONNECTED_MUTE}, now=now, event_id=event_id)
    moved = Moved(instance, after, seen, Event.LINK_LOST, str(evidence))
    return report(tx, moved, IncidentKind.CONNECTED_MUTE, str(evidence), now)
