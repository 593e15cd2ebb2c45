"""What callers ask of the worker that holds an instance.

A request writes down what it wants; the worker takes it up on the hint `instances`, or when it looks by itself. So a
request survives the death of its worker, and the API needs no way to the worker but the store.
"""

from __future__ import annotations

from dataclasses import replace

from wahub.domain.errors import InvalidFieldError
from wahub.domain.ids import InstanceId
from wahub.domain.instance import ENDED, Event, Instance, State
from wahub.domain.lease import Lease
from wahub.domain.lifecycle import Ask, Lifecycle
from wahub.domain.times import iso
from wahub.ports.engine import PairingCode
from wahub.ports.store import Tx
from wahub.services.known import known
from wahub.services.lifecycle.moves import Moved, current, keep, move


def ask(tx: Tx, wanted: InstanceId, what: Ask, now: float) -> Instance:
    """Ask for a restart, a retry or a reconnect; returns the instance as it is.

    InvalidFieldError where contract A.1 refuses it, and while a restriction lasts.
    """
    instance, record = _find(tx, wanted)
    state = instance.observed.state
    if what in (Ask.SOFT_RESTART, Ask.HARD_RESTART):
        _check_restart(instance, record, now)
        what = Ask.RETRY if state is State.ERROR else what
    elif what is Ask.RETRY and state not in ENDED:
        way = _way_out(instance, record)
        if state is State.NEEDS_QR:
            way = f"a restart does not help either: {way}"
        raise InvalidFieldError(f"retry works in error or failed_qr_timeout only. Current state: {state}; {way}")
    tx.lifecycles.save(replace(record, asked=what, asked_at=now))
    return instance


def _check_restart(instance: Instance, record: Lifecycle, now: float) -> None:
    state, wanted = instance.observed.state, instance.id
    if state is State.NEEDS_QR:
        way = _way_out(instance, record)
        raise InvalidFieldError(f"Instance {wanted} waits for a QR scan and cannot be restarted: {way}")
    if state is State.FAILED_QR_TIMEOUT:
        raise InvalidFieldError(f"Instance {wanted} gave up waiting for a QR scan: POST /instances/{wanted}/retry")
    if state is State.RESTRICTED and record.restricted_until is not None and now < record.restricted_until:
        raise InvalidFieldError(
            f"Instance {wanted} is restricted by WhatsApp until {iso(record.restricted_until)}: restart it then"
        )


def _way_out(instance: Instance, record: Lifecycle) -> str:
    """What helps in a state in which a retry or a restart does not."""
    path = f"/instances/{instance.id}"
    if instance.observed.state is State.RESTRICTED:
        return f"POST {path}/restart works when the restriction is over"
    if instance.observed.state is not State.NEEDS_QR:
        return f"POST {path}/restart restarts it"
    if record.credentials_dead:
        return f"WhatsApp refused its credentials; pair it by POST {path}/client/pairing-code"
    return f"GET {path}/client/qr"


def ask_pairing_code(tx: Tx, wanted: InstanceId, phone: str, now: float) -> Lifecycle:
    """Ask for a code to type into the phone of this number (digits). InvalidFieldError unless it waits for pairing."""
    instance, record = _find(tx, wanted)
    state = instance.observed.state
    if state in ENDED:
        raise InvalidFieldError(f"Instance {wanted} is in {state}: POST /instances/{wanted}/retry first")
    if instance.observed.linked:
        raise InvalidFieldError(
            f"Instance {wanted} is linked already: POST /instances/{wanted}/client/action/logout with keep=1 unlinks it"
        )
    asked = replace(
        record,
        asked=Ask.PAIRING_CODE,
        asked_at=now,
        pairing_phone=phone,
        pairing_code=None,
        pairing_code_expires_at=None,
        pairing_error=None,
    )
    tx.lifecycles.save(asked)
    return asked


def drop_ask(tx: Tx, wanted: InstanceId) -> None:
    """Nothing is to be done about what was asked: the instance is gone, or in a state that needs nothing of it."""
    record = tx.lifecycles.get(wanted, for_update=True)
    if record.asked is not None:
        tx.lifecycles.save(replace(record, asked=None))


def retry(tx: Tx, lease: Lease, now: float) -> Moved:
    """Begin anew from `error` or `failed_qr_timeout`, with configuration and session as they are.

    Credentials that WhatsApp declared dead are cleared first: with them every pairing would end as the last login did
    (contract B.6).
    """
    instance, record = found = current(tx, lease)
    again = replace(
        record,
        asked=None,
        qr_rounds_left=None,
        credentials_dead=False,
        bad_sessions=0,
        connecting_watchdog_at=now,
        connecting_watchdog_restarts=0,
        quick_restarts=0,
        replaced_at=None,
    )
    if instance.observed.state not in ENDED:
        # Someone was quicker, or it healed by itself.
        keep(tx, record, replace(record, asked=None))
        return Moved(instance, instance, replace(record, asked=None), Event.RETRY)
    _clear_dead(tx, record)
    changes = {"last_error": None, "restart_attempts": 0}
    return move(tx, found, Event.RETRY, now, changes=changes, record=again, reason="asked to retry")


def begin_pairing(tx: Tx, lease: Lease, now: float) -> Lifecycle:
    """A person is there to pair it: the clocks of the wait for a scan begin anew, and dead credentials go."""
    instance, record = current(tx, lease)
    _clear_dead(tx, record)
    waiting = instance.observed.state is State.NEEDS_QR
    fresh = replace(
        record,
        credentials_dead=False,
        qr_rounds_left=None,
        qr_recovery_attempts=0,
        qr_recovery_at=None,
        needs_qr_since=now if waiting else record.needs_qr_since,
    )
    keep(tx, record, fresh)
    return fresh


def _clear_dead(tx: Tx, record: Lifecycle) -> None:
    if record.credentials_dead:
        tx.sessions.purge(record.instance)


def pairing_code_given(tx: Tx, lease: Lease, code: PairingCode, now: float) -> None:
    """The code is there; whoever asked reads it from the record."""
    _, record = current(tx, lease)
    given = replace(
        record, asked=None, pairing_code=code.code, pairing_code_expires_at=now + code.ttl, pairing_error=None
    )
    keep(tx, record, given)


def pairing_code_refused(tx: Tx, lease: Lease, why: str) -> None:
    """There is none; `why` never holds the number."""
    _, record = current(tx, lease)
    keep(tx, record, replace(record, asked=None, pairing_code=None, pairing_code_expires_at=None, pairing_error=why))


def _find(tx: Tx, wanted: InstanceId) -> tuple[Instance, Lifecycle]:
    instance = known(tx, wanted, for_update=True)
    return instance, tx.lifecycles.get(wanted, for_update=True)
