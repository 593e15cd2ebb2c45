"""Instances, as use cases: create, change, delete, and write down what their links report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from wahub.domain.errors import InstanceExistsError, InstanceNotFoundError
from wahub.domain.ids import InstanceId, QueueId, instance_id
from wahub.domain.instance import Config, Disconnect, Event, Instance, Observed, State, transition
from wahub.domain.lease import Lease
from wahub.ports.engine import OwnIdentity
from wahub.ports.store import Tx
from wahub.services import outbox, qr, webhook


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """Which parts of the configuration a caller changes; None leaves a part as it is."""

    name: str | None = None
    webhook_url: str | None = None
    webhook_events: tuple[str, ...] | None = None
    typing_enabled: bool | None = None
    apply_typing_to: tuple[str, ...] | None = None

    def apply(self, config: Config) -> Config:
        """The configuration after the change."""
        given = {name: getattr(self, name) for name in self.__slots__ if getattr(self, name) is not None}
        return replace(config, **given)


def create(tx: Tx, config: Config, now: float) -> Instance:
    """Add an instance in `connecting`.

    InstanceExistsError when the id is taken, InvalidInstanceIdError for an empty one.
    """
    wanted = instance_id(config.name)
    if tx.instances.get(wanted) is not None:
        raise InstanceExistsError(wanted)
    instance = Instance(wanted, config, Observed(state_at=now), created_at=now)
    tx.instances.add(instance)
    return instance


def get(tx: Tx, wanted: InstanceId) -> Instance:
    """The instance, or InstanceNotFoundError; one that is being deleted counts as gone."""
    instance = tx.instances.get(wanted)
    if instance is None or instance.deleting:
        raise InstanceNotFoundError(wanted)
    return instance


def update(tx: Tx, wanted: InstanceId, change: ConfigChange) -> Instance:
    """Change the configuration; the id never changes."""
    instance = tx.instances.get(wanted, for_update=True)
    if instance is None or instance.deleting:
        raise InstanceNotFoundError(wanted)
    changed = replace(instance, config=change.apply(instance.config))
    tx.instances.save(changed)
    return changed


def ask_delete(tx: Tx, wanted: InstanceId) -> bool:
    """Mark for deletion.

    No new sends, no new links. The worker that holds it does the rest. False if it did not exist.
    """
    instance = tx.instances.get(wanted, for_update=True)
    if instance is None:
        return False
    if not instance.deleting:
        tx.instances.save(replace(instance, deleting=True))
    return True


def ask_unlink(tx: Tx, wanted: InstanceId) -> None:
    """Ask that the account is unlinked and may be paired anew, with its queue kept (contract 0.13, `keep=1`)."""
    instance = tx.instances.get(wanted, for_update=True)
    if instance is None or instance.deleting:
        raise InstanceNotFoundError(wanted)
    if not instance.unlinking:
        tx.instances.save(replace(instance, unlinking=True))


def finish_unlink(tx: Tx, lease: Lease, now: float, event_id: str) -> Instance:
    """The account is unlinked: its session material is gone, it waits for a scan, and its queue is as it was."""
    instance = closed(tx, lease, Disconnect.LOGGED_OUT, "logged out by a caller", now, event_id)
    done = replace(instance, unlinking=False)
    tx.instances.save(done)
    return done


def prepare_delete(tx: Tx, lease: Lease, now: float) -> tuple[Instance | None, tuple[QueueId, ...]]:
    """Cancel what waits; returns the instance and what was cancelled, for the farewell to its webhook."""
    tx.fence(lease)
    return tx.instances.get(lease.instance), outbox.cancel_waiting(tx, lease.instance, now)


def finish_delete(tx: Tx, lease: Lease, now: float) -> None:
    """Remove everything of the instance; of the audit only the hash of its id stays. Its links must be closed."""
    tx.fence(lease)
    tx.instances.delete(lease.instance)
    tx.tally.audit(now, "instance_deleted", lease.instance)


def boot(tx: Tx, now: float) -> list[Instance]:
    """At start no link is up.

    What was `ready` or connecting with credentials is listed as `disconnected` until it is.
    """
    instances = []
    for found in tx.instances.list():
        instance = found
        if found.observed.state in (State.READY, State.CONNECTING, State.DISCONNECTED) and found.observed.phone:
            observed = replace(found.observed, state=State.DISCONNECTED, state_at=now, qr=None, qr_expires_at=None)
            instance = replace(found, observed=observed)
            tx.instances.save(instance)
        elif found.observed.qr is not None:
            instance = replace(found, observed=replace(found.observed, qr=None, qr_expires_at=None))
            tx.instances.save(instance)
        instances.append(instance)
    return instances


# --- what links report ------------------------------------------------------------------------------------------------


def link_started(tx: Tx, lease: Lease, now: float) -> Instance:
    """A link is being opened."""
    return _move(tx, lease, Event.LINK_STARTED, now, {})


def qr_shown(tx: Tx, lease: Lease, text: str, ttl: float, now: float, event_id: str) -> Instance:
    """A pairing code to scan; webhook `qr` carries its picture and dies with it."""
    instance = _move(tx, lease, Event.QR, now, {"qr": text, "qr_expires_at": now + ttl})
    if instance.observed.state is State.NEEDS_QR:
        data = {"qr": qr.png_base64(text)}
        webhook.emit(tx, instance, "qr", data, now=now, event_id=event_id, ttl=ttl)
    return instance


def paired(tx: Tx, lease: Lease, me: OwnIdentity, now: float, event_id: str) -> Instance:
    """A phone scanned the code."""
    before = _current(tx, lease)
    changes = {**_identity(me), "authenticated_at": now, "qr": None, "qr_expires_at": None, "last_error": None}
    instance = _move(tx, lease, Event.PAIRED, now, changes)
    webhook.emit(tx, instance, "authenticated", {}, now=now, event_id=event_id)
    if before.observed.phone not in (None, me.phone):
        _hold_queue(tx, instance, now, event_id)
    return instance


def _hold_queue(tx: Tx, instance: Instance, now: float, event_id: str) -> None:
    """Another number than before: what waited must not go out from it unasked."""
    held = outbox.hold_for_new_account(tx, instance, now)
    if held:
        data = {"queueIds": list(held), "reason": outbox.ACCOUNT_CHANGED}
        webhook.emit(tx, instance, "queue_held", data, now=now, event_id=f"{event_id}-held")


def opened(tx: Tx, lease: Lease, me: OwnIdentity, now: float, event_id: str) -> Instance:
    """Logged in: ready. The held QR code is dropped.

    A crash may have come between the pairing in the engine and its report: then another number shows first here.
    """
    before = _current(tx, lease)
    changes = {
        **_identity(me),
        "ready_at": now,
        "last_ready_at": now,
        "qr": None,
        "qr_expires_at": None,
        "last_error": None,
        "restart_attempts": 0,
    }
    instance = _move(tx, lease, Event.OPENED, now, changes)
    webhook.emit(tx, instance, "ready", {"status": "ready"}, now=now, event_id=event_id)
    if before.observed.phone not in (None, me.phone):
        _hold_queue(tx, instance, now, event_id)
    return instance


def closed(tx: Tx, lease: Lease, reason: Disconnect, detail: str, now: float, event_id: str) -> Instance:
    """A link ended.

    Credentials that WhatsApp declared dead are purged; `disconnected` is posted when the state changed.
    """
    before = _current(tx, lease)
    dead = reason.event is Event.LOGGED_OUT
    changes: dict[str, Any] = {"qr": None, "qr_expires_at": None, "ready_at": None}
    if reason not in (Disconnect.RESTART_REQUIRED, Disconnect.QR_EXPIRED):
        changes |= {
            "last_disconnect_reason": str(reason),
            "last_disconnect_at": now,
            "last_error": detail or str(reason),
            "restart_attempts": before.observed.restart_attempts + 1,
        }
    if before.observed.state is State.READY and reason is not Disconnect.RESTART_REQUIRED:
        tx.tally.add_disconnect(lease.instance, now)
    if dead:
        tx.sessions.purge(lease.instance)
        changes |= {"authenticated_at": None, "restart_attempts": 0}
    instance = _move(tx, lease, reason.event, now, changes)
    news = before.observed.state is State.READY or dead
    if news and reason is not Disconnect.RESTART_REQUIRED:
        webhook.emit(tx, instance, "disconnected", {"reason": str(reason)}, now=now, event_id=event_id)
    return instance


def _identity(me: OwnIdentity) -> dict[str, Any]:
    found: dict[str, Any] = {"phone": me.phone}
    if me.lid:
        found["lid"] = me.lid
    if me.name:
        found["display_name"] = me.name
    return found


def _current(tx: Tx, lease: Lease) -> Instance:
    tx.fence(lease)
    instance = tx.instances.get(lease.instance, for_update=True)
    if instance is None:
        raise InstanceNotFoundError(lease.instance)
    return instance


def _move(tx: Tx, lease: Lease, event: Event, now: float, changes: Mapping[str, Any]) -> Instance:
    """Apply an event of a link under its lease, and store what it brought."""
    instance = _current(tx, lease)
    state = transition(instance.observed.state, event)
    moved = {"state": state, "state_at": now} if state is not instance.observed.state else {}
    observed = replace(instance.observed, **{**changes, **moved}, last_event=str(event), last_event_at=now)
    changed = replace(instance, observed=observed)
    tx.instances.save(changed)
    return changed
