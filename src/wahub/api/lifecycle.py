"""The hub's routes about the life of an instance (contract A.1): restart, retry, diagnostics, pairing by code.

Restart, retry and pairing by code write down what is asked and give the worker a hint; it acts in its own time. Only
the pairing code is waited for, because nothing else can be done with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from wahub.api import diagnose, schemas
from wahub.api.body import Fields, read_fields
from wahub.api.deps import ApiDeps
from wahub.api.hub import path_id
from wahub.api.problems import problem
from wahub.domain.errors import CallerError, InvalidFieldError
from wahub.domain.ids import InstanceId
from wahub.domain.instance import Instance, State
from wahub.domain.lifecycle import Ask, Lifecycle
from wahub.domain.times import iso
from wahub.ports.store import Tx
from wahub.ports.wakeup import INSTANCES, asked_topic
from wahub.services import instance, lifecycle

_RESTARTS = {"soft": Ask.SOFT_RESTART, "hard": Ask.HARD_RESTART}
_LOOK = 0.5
"""Seconds between two looks at the record, should a hint be lost or the worker be another process."""
_WORTH_TYPING = 30.0
"""A code with fewer seconds left is not handed out again."""
_LONGEST_PHONE = 40
_PUNCTUATION = re.compile(r"[+\s()\[\]-]")
_PHONE = re.compile(r"[0-9]{8,15}")


class PairingSupersededError(CallerError):
    """The wish for a code is gone from the record: somebody asked for another, or the account was linked."""

    def __init__(self, wanted: InstanceId, *, by_another: bool) -> None:
        why = "another phone's code was asked for" if by_another else "it does not wait to be linked any more"
        super().__init__(f"Instance {wanted} gives no pairing code for this phone: {why} meanwhile")


@dataclass(frozen=True, slots=True)
class LifecycleRoutes:
    """Handlers."""

    deps: ApiDeps
    uptime: Callable[[], float]
    """Seconds since this process began to serve."""

    async def restart(self, request: Request) -> Response:
        """`POST /instances/{id}/restart`."""
        wanted = path_id(request)
        try:
            kind = (await self._fields(request)).choice("type", tuple(_RESTARTS)) or "soft"
        except CallerError:
            await self._known(wanted)
            raise
        found = await self._ask(wanted, _RESTARTS[kind])
        return schemas.success(
            {
                "message": f"Restart initiated (type: {kind})",
                "instanceId": wanted,
                "currentState": found.observed.state,
            }
        )

    async def retry(self, request: Request) -> Response:
        """`POST /instances/{id}/retry`: out of `error` or `failed_qr_timeout`."""
        wanted = path_id(request)
        await self._ask(wanted, Ask.RETRY)
        message = "Retry initiated: configuration and session are kept"
        return schemas.success({"message": message, "instanceId": wanted})

    async def debug_retry(self, request: Request) -> Response:
        """`POST /__debug/instances/{id}/retry`: the same, answered as a place in the row."""
        wanted = path_id(request)
        await self._ask(wanted, Ask.RETRY)
        return schemas.success({"queued": True, "instanceId": wanted, "message": "Retry queued"}, 202)

    async def diagnostics(self, request: Request) -> Response:
        """`GET /instances/{id}/diagnostics`."""
        wanted = path_id(request)
        view = await self.deps.database.read(lambda tx: diagnose.look(tx, wanted))
        process = diagnose.process(self.uptime(), self.deps.loop_lag_ms())
        return schemas.success({**diagnose.shown(view), "process": process})

    async def info_raw(self, request: Request) -> Response:
        """`GET /instances/{id}/client/info-raw`."""
        wanted = path_id(request)
        found, record = await self.deps.database.read(lambda tx: (instance.get(tx, wanted), tx.lifecycles.get(wanted)))
        return schemas.success(diagnose.info_raw(found, record))

    # --- pairing by code ---------------------------------------------------------------------------------------------

    async def pairing_code(self, request: Request) -> Response:
        """`POST /instances/{id}/client/pairing-code`: a code to type into the phone, instead of a QR code."""
        wanted = path_id(request)
        try:
            phone = _phone(await self._fields(request))
        except CallerError:
            await self._known(wanted)
            raise
        now, patience = self.deps.clock.now(), self.deps.settings.pairing_wait

        def ask(tx: Tx) -> Lifecycle:
            instance.get(tx, wanted)
            record = tx.lifecycles.get(wanted, for_update=True)
            if _serves(record, phone, now) or _under_way(record, phone, now - patience):
                return record
            return lifecycle.ask_pairing_code(tx, wanted, phone, now)

        record = await self.deps.database.write(ask)
        self.deps.wakeup.notify(INSTANCES)
        deadline = self.deps.clock.monotonic() + patience
        _check_answer(record, wanted, phone)
        while record.pairing_code is None:
            left = deadline - self.deps.clock.monotonic()
            if left <= 0:
                return problem(503, _no_answer(patience))
            await self.deps.wakeup.wait(asked_topic(wanted), min(left, _LOOK))
            record = await self.deps.database.read(lambda tx: _record(tx, wanted))
            _check_answer(record, wanted, phone)
        return _code(record)

    # --- common ------------------------------------------------------------------------------------------------------

    async def _ask(self, wanted: InstanceId, what: Ask) -> Instance:
        now = self.deps.clock.now()
        found = await self.deps.database.write(lambda tx: lifecycle.ask(tx, wanted, what, now))
        self.deps.wakeup.notify(INSTANCES)
        return found

    async def _known(self, wanted: InstanceId) -> Instance:
        """InstanceNotFoundError is the more helpful thing to say when the body is wrong as well."""
        return await self.deps.database.read(lambda tx: instance.get(tx, wanted))

    async def _fields(self, request: Request) -> Fields:
        return await read_fields(request, self.deps.settings.max_body)


def _phone(fields: Fields) -> str:
    """The number as digits. No error repeats it."""
    given = fields.identifier("phone", _LONGEST_PHONE)
    if given is None:
        raise InvalidFieldError("phone is required: the number of the phone that will type the code")
    digits = _PUNCTUATION.sub("", given)
    if not _PHONE.fullmatch(digits):
        raise InvalidFieldError("phone must be 8 to 15 digits with the country code, such as +49 151 23456789")
    return digits


def _serves(record: Lifecycle, phone: str, now: float) -> bool:
    """Whether the code that is there is for this phone and can still be typed. Each new one makes it worthless."""
    expires_at = record.pairing_code_expires_at
    same = record.pairing_phone == phone and record.pairing_code is not None
    return same and expires_at is not None and expires_at - now >= _WORTH_TYPING


def _under_way(record: Lifecycle, phone: str, since: float) -> bool:
    """Whether somebody asked for the same a moment ago and has no answer yet: two codes would not do."""
    unanswered = record.pairing_code is None and record.pairing_error is None
    recent = record.asked is Ask.PAIRING_CODE and record.asked_at is not None and record.asked_at > since
    return record.pairing_phone == phone and unanswered and recent


def _record(tx: Tx, wanted: InstanceId) -> Lifecycle:
    found = instance.get(tx, wanted)
    if found.observed.state is State.ERROR:
        raise InvalidFieldError(f"Instance {wanted} is in error: POST /instances/{wanted}/retry first")
    return tx.lifecycles.get(wanted)


def _check_answer(record: Lifecycle, wanted: InstanceId, phone: str) -> None:
    """Raise what the worker, or another caller, made of the wish."""
    if record.pairing_phone != phone:
        raise PairingSupersededError(wanted, by_another=record.pairing_phone is not None)
    if record.pairing_error is not None:
        raise InvalidFieldError(record.pairing_error)


def _no_answer(waited: float) -> str:
    return (
        f"No pairing code came within {waited:g} seconds: WhatsApp cannot be reached, or the instance is still being "
        "started. Ask again; GET …/diagnostics says what it does"
    )


def _code(record: Lifecycle) -> Response:
    code = record.pairing_code or ""
    shown = f"{code[:4]}-{code[4:]}" if len(code) == 8 else code
    expires_at = record.pairing_code_expires_at
    return schemas.success(
        {
            "pairingCode": {"data": {"pairing_code": shown}},
            "code": shown,
            "expiresAt": None if expires_at is None else iso(expires_at),
        },
        headers={"Cache-Control": "no-store"},
    )
