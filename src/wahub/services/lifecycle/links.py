"""What links report, written down: each function is one transaction under the lease of the instance's worker."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from wahub.domain.instance import Disconnect, Event, Instance, State
from wahub.domain.lease import Lease
from wahub.domain.lifecycle import Lifecycle
from wahub.domain.reconnect import Ended, Next, ReconnectPolicy, after_close
from wahub.domain.times import iso
from wahub.ports.engine import OwnIdentity
from wahub.ports.store import Tx
from wahub.services import outbox, qr, webhook
from wahub.services.lifecycle.moves import Moved, current, move, not_ready_any_more, report


@dataclass(frozen=True, slots=True)
class Closing:
    """What the end of a link did, and what follows."""

    moved: Moved
    next: Next


def attempt(tx: Tx, lease: Lease, now: float, *, slow: bool) -> Moved:
    """A link is being opened. `slow`: the fast attempts are used up.

    An account that is not linked yet has nothing to get back: it goes on being set up. A pairing code dies with the
    link that it was asked of.
    """
    found = current(tx, lease)
    event = Event.LINK_RETRIED if slow and found[0].observed.linked else Event.LINK_STARTED
    return move(tx, found, event, now, record=_without_code(found[1]))


def qr_shown(tx: Tx, lease: Lease, text: str, ttl: float, now: float, event_id: str) -> Moved:
    """A pairing code to scan; webhook `qr` carries its picture and dies with it."""
    found = current(tx, lease)
    record = replace(found[1], qr_received_during_restart=True, connecting_watchdog_restarts=0)
    changes = {"qr": text, "qr_expires_at": now + ttl, "restart_attempts": 0}
    if found[0].observed.awaits_ready or found[0].observed.state in (State.READY, State.FAILED_QR_TIMEOUT):
        changes, record = {}, found[1]
    moved = move(tx, found, Event.QR, now, changes=changes, record=record)
    if moved.after.observed.state is not State.NEEDS_QR:
        return moved
    seen = replace(
        moved.record,
        last_qr_at=now,
        connecting_watchdog_at=None,
        ready_watchdog_at=moved.record.ready_watchdog_at or now,
    )
    tx.lifecycles.save(seen)
    webhook.emit(tx, moved.after, "qr", {"qr": qr.png_base64(text)}, now=now, event_id=event_id, ttl=ttl)
    return replace(moved, record=seen)


def paired(tx: Tx, lease: Lease, me: OwnIdentity, now: float, event_id: str) -> Moved:
    """A phone scanned the code, or its owner typed ours."""
    found = current(tx, lease)
    record = replace(
        _of_account(found, me, now),
        ready_watchdog_at=now,
        ready_timed_out=False,
        authenticated_to_ready_ms=None,
        ready_poll_attempts=0,
        last_ready_poll_error=None,
        connecting_watchdog_at=None,
        connecting_watchdog_restarts=0,
        quick_restarts=0,
    )
    changes = {**_identity(me), "authenticated_at": now, "qr": None, "qr_expires_at": None, "last_error": None}
    changes["restart_attempts"] = 0
    moved = move(tx, found, Event.PAIRED, now, changes=changes, record=record)
    webhook.emit(tx, moved.after, "authenticated", {}, now=now, event_id=event_id)
    _hold_queue_of_another(tx, moved, me, now, event_id)
    return moved


def opened(tx: Tx, lease: Lease, me: OwnIdentity, now: float, event_id: str, *, by_poll: bool = False) -> Moved:
    """Logged in: ready. The held QR code is dropped.

    A crash may have come between the pairing in the engine and its report: then another number shows first here.
    """
    found = current(tx, lease)
    before = found[0].observed
    if before.state is State.READY:
        return move(tx, found, Event.OPENED, now)
    changes = {
        **_identity(me),
        "authenticated_at": before.authenticated_at or now,
        "ready_at": now,
        "last_ready_at": now,
        "qr": None,
        "qr_expires_at": None,
        "last_error": None,
        "restart_attempts": 0,
    }
    took = found[1].authenticated_to_ready_ms
    if before.awaits_ready and before.authenticated_at is not None:
        took = round((now - before.authenticated_at) * 1000)
    source = "poll" if by_poll else "event"
    record = _of_account(found, me, now)
    record = replace(record, ready_source=source, authenticated_to_ready_ms=took, told_ready=True)
    moved = move(tx, found, Event.OPENED, now, changes=changes, record=record)
    webhook.emit(tx, moved.after, "ready", {"status": "ready"}, now=now, event_id=event_id)
    _hold_queue_of_another(tx, moved, me, now, event_id)
    return moved


def closed(tx: Tx, lease: Lease, ended: Ended, detail: str, policy: ReconnectPolicy, event_id: str) -> Closing:
    """A link ended: decide what follows (domain/reconnect.py), and write it down.

    Credentials that WhatsApp declared dead are purged. `disconnected` is posted when a ready instance lost its link,
    or when nothing brings it back by itself.
    """
    found = current(tx, lease)
    now, before = ended.at, found[0].observed
    follows = after_close(before, found[1], ended, policy)
    changes: dict[str, Any] = {"ready_at": None, "restart_attempts": follows.attempts}
    if not follows.keep_qr:
        changes |= {"qr": None, "qr_expires_at": None}
    text = _text(ended.reason, detail)
    follows = replace(follows, record=_without_code(follows.record))
    if follows.counts:
        changes |= {"last_disconnect_reason": str(ended.reason), "last_disconnect_at": now, "last_error": text}
        follows = replace(follows, record=replace(follows.record, last_error_at=now))
        if before.state is State.READY:
            tx.tally.add_disconnect(lease.instance, now)
            follows = replace(follows, record=replace(follows.record, reconnects=follows.record.reconnects + 1))
    elif follows.event is Event.QR_GIVEN_UP:
        changes |= {"last_error": "the QR code expired before it was scanned: POST /retry shows a new one"}
    if follows.purge:
        tx.sessions.purge(lease.instance)
    if follows.purge or follows.record.credentials_dead:
        changes |= {"authenticated_at": None}
    moved = move(tx, found, follows.event, now, changes=changes, record=follows.record, reason=str(ended.reason))
    if follows.incident is not None:
        moved = report(tx, moved, follows.incident, text, now)
    told = _tell(tx, moved, ended.reason, text, now, event_id, over=follows.wait is None)
    return Closing(told, follows)


def unlinked(tx: Tx, lease: Lease, now: float, event_id: str) -> Moved:
    """A caller unlinked it and keeps its queue (contract 0.13): its session material goes, it waits for a scan."""
    instance, record = found = current(tx, lease)
    tx.sessions.purge(lease.instance)
    changes = {
        "ready_at": None,
        "qr": None,
        "qr_expires_at": None,
        "authenticated_at": None,
        "restart_attempts": 0,
        "last_disconnect_reason": str(Disconnect.LOGGED_OUT),
        "last_disconnect_at": now,
        "last_error": "logged out by a caller",
    }
    fresh = replace(
        record,
        qr_rounds_left=None,
        credentials_dead=False,
        ready_watchdog_at=None,
        ready_timed_out=False,
        bad_sessions=0,
    )
    moved = move(tx, found, Event.LOGGED_OUT, now, changes=changes, record=fresh, reason="logged out by a caller")
    if instance.observed.state is State.NEEDS_QR:
        # It waited for a scan before: its age counts from now.
        again = replace(moved.record, needs_qr_since=now, last_qr_at=None, qr_recovery_attempts=0, qr_recovery_at=None)
        tx.lifecycles.save(again)
        moved = replace(moved, record=again)
    data = {"reason": str(Disconnect.LOGGED_OUT)}
    webhook.emit(tx, moved.after, "disconnected", data, now=now, event_id=event_id)
    moved = not_ready_any_more(tx, moved)
    after = replace(moved.after, unlinking=False)
    tx.instances.save(after)
    return replace(moved, after=after)


def purge_again(tx: Tx, lease: Lease) -> None:
    """A link that was being opened while the account was unlinked may have written keys after they were purged."""
    tx.fence(lease)
    tx.sessions.purge(lease.instance)


def _without_code(record: Lifecycle) -> Lifecycle:
    return replace(record, pairing_code=None, pairing_code_expires_at=None)


def _text(reason: Disconnect, detail: str) -> str:
    if reason is Disconnect.BANNED:
        return "banned"
    return detail or str(reason)


_QUIET = frozenset({Event.RESTART_REQUIRED, Event.QR_ENDED, Event.QR_GIVEN_UP, Event.PAIRING_LOST})
_FINAL = frozenset({Event.LOGGED_OUT, Event.AUTH_FAILED, Event.RESTRICTED, Event.FAILED})


def _tell(tx: Tx, moved: Moved, reason: Disconnect, text: str, now: float, event_id: str, *, over: bool) -> Moved:
    """Post what callers should hear of an ending. `over`: nothing brings the link back by itself.

    Who was told `ready` is told when it is over, also where a restart came between that nobody was told of.
    """
    instance, event = moved.after, moved.event
    if event in _QUIET:
        return moved
    if event is Event.AUTH_FAILED:
        webhook.emit(tx, instance, "auth_failure", {"message": text}, now=now, event_id=f"{event_id}-auth")
    if event is Event.RESTRICTED:
        data = {
            "reason": text,
            "restrictedUntil": _iso(moved.record),
            "message": "WhatsApp refuses this account; nothing is tried before someone asks",
        }
        webhook.emit(tx, instance, "restricted", data, now=now, event_id=f"{event_id}-held")
    if not (moved.record.told_ready or event in _FINAL or over):
        return moved
    webhook.emit(tx, instance, "disconnected", {"reason": str(reason)}, now=now, event_id=event_id)
    return not_ready_any_more(tx, moved)


def _iso(record: Lifecycle) -> str | None:
    return None if record.restricted_until is None else iso(record.restricted_until)


def _identity(me: OwnIdentity) -> dict[str, Any]:
    found: dict[str, Any] = {"phone": me.phone}
    if me.lid:
        found["lid"] = me.lid
    if me.name:
        found["display_name"] = me.name
    return found


def _of_account(found: tuple[Instance, Lifecycle], me: OwnIdentity, now: float) -> Lifecycle:
    """Another number than before: what is stored of that one's messages is not shown any more (contract 0.13).

    WhatsApp tells times in whole seconds.
    """
    instance, record = found
    return record if instance.observed.phone in (None, me.phone) else replace(record, account_since=float(int(now)))


def _hold_queue_of_another(tx: Tx, moved: Moved, me: OwnIdentity, now: float, event_id: str) -> None:
    """Another number than before: what waited must not go out from it unasked (contract 0.13)."""
    if moved.before.observed.phone in (None, me.phone):
        return
    instance: Instance = moved.after
    held = outbox.hold_for_new_account(tx, instance, now)
    if held:
        data = {"queueIds": list(held), "reason": outbox.ACCOUNT_CHANGED}
        webhook.emit(tx, instance, "queue_held", data, now=now, event_id=f"{event_id}-queue")
