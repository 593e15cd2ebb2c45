"""Faults: what the sandbox does wrong on request.

An armed fault waits for a stanza (or a login) that matches, skips `nth - 1` of them, then fires `times` times. Socket
faults hit the socket of the account that `number` names, whichever way the stanza goes; stanza faults also match the
other end of the chat. `stanza` is a tag (message, receipt, iq, presence, chatstate, ack, notification), `login` or
`handshake`. In the handshake and before it nobody has said yet who connects, so those faults match no number.
`notOnWhatsApp` counts questions about the account of `number` (or questions that it asks); `retryReceipt` counts
messages for the phone of `number`, which cannot read them and asks for another copy; `noRetry` counts requests for
another copy that this phone leaves unanswered. `gone` is not counted: it lasts
for a time, or until it is disarmed. `reorder` holds a delivery back until the next message. `lidMigration` happens at
once and is not armed. `mediaError` counts uploads and downloads of clients. `docs/sandbox.md` lists them all.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wahub.sandbox.model import RefusedError

LOGIN = "login"
HANDSHAKE = "handshake"
UPGRADE = "upgrade"
GONE = "gone"
MIGRATION = "lidMigration"
MEDIA_PLACES = ("upload", "download")

SOCKET_FAULTS = frozenset(
    ("drop", "silent", "streamError", "failure", "replaced", "mute", "slow", "duplicate", "corrupt", "reorder")
)
LOGIN_FAULTS = frozenset(("neverReady", "neverOpen"))
THEFTS = frozenset(("steal",))
UPGRADE_FAULTS = frozenset(("upgradeSilent",))
HANDSHAKE_FAULTS = frozenset(("handshakeSilent", "slow", "drop", "silent"))
STANZA_FAULTS = frozenset(("noAck", "lateAck", "ackError", "dropStanza"))
MEDIA_FAULTS = frozenset(("mediaError",))
PHONE_FAULTS = frozenset(("retryReceipt",))
DEAF_FAULTS = frozenset(("noRetry",))
ANSWER_FAULTS = frozenset(("notOnWhatsApp",))
_ALL = (
    SOCKET_FAULTS
    | LOGIN_FAULTS
    | THEFTS
    | UPGRADE_FAULTS
    | HANDSHAKE_FAULTS
    | STANZA_FAULTS
    | PHONE_FAULTS
    | DEAF_FAULTS
    | ANSWER_FAULTS
    | MEDIA_FAULTS
    | {GONE, MIGRATION}
)
_BY_EITHER_END = STANZA_FAULTS | ANSWER_FAULTS
_BEFORE_ANY_NAME = frozenset(("upgradeSilent", "handshakeSilent"))
DELIVERY_ONLY = frozenset(("duplicate", "corrupt", "reorder"))
"""Faults of what the server sends, not of what it gets."""
INCOMING_FAULTS = SOCKET_FAULTS - DELIVERY_ONLY
ARMED_ONLY = LOGIN_FAULTS | _BEFORE_ANY_NAME | MEDIA_FAULTS | {GONE}
"""Faults that cannot be injected into a live socket."""

_REQUIRED: dict[str, dict[str, type]] = {
    "streamError": {"code": int},
    "failure": {"reason": int},
    "lateAck": {"ms": int},
    "ackError": {"code": int},
    "slow": {"ms": int},
    "steal": {"afterMs": int},
    GONE: {"ms": int},
    MIGRATION: {"number": str},
    "mediaError": {"status": int},
}
_OPTIONAL: dict[str, dict[str, type]] = {
    "silent": {"deaf": bool},
    "steal": {"times": int},
    "reorder": {"ms": int},
    "streamError": {"child": str, "type": str},
}
_KINDS: dict[type, str] = {int: "a number", str: "a text", bool: "true or false"}
_MATCH: dict[str, type] = {"number": str, "deviceId": int, "stanza": str, "nth": int}


@dataclass(frozen=True, slots=True)
class Action:
    """One fault with its arguments."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(slots=True)
class Fault:
    """An armed fault. `left` is how often it still fires; None means until it is disarmed.

    `until` (monotonic seconds) ends a fault that lasts for a time.
    """

    id: str
    action: Action
    number: str | None
    device: int | None
    stanza: str | None
    nth: int
    left: int | None
    times: int | None
    match: dict[str, Any]
    until: float | None = None
    seen: int = field(default=0)

    def as_json(self) -> dict[str, Any]:
        """The shape of `GET /control/faults`."""
        do = {self.action.name: dict(self.action.arguments)}
        return {"id": self.id, "match": self.match, "do": do, "times": self.times}


class Faults:
    """The armed faults, oldest first."""

    def __init__(self) -> None:
        self.armed: list[Fault] = []
        self._next = 1

    def arm(self, match: Mapping[str, Any], do: Mapping[str, Any], times: int | None) -> str:
        """Arm a fault; without `times` it fires once, with 0 until it is disarmed. RefusedError 400."""
        action = parse_action(do)
        _check(match, {}, _MATCH, "match")
        _check_place(action.name, match)
        if times is not None and times < 0:
            raise RefusedError(400, "times must be a number, 0 for no limit")
        nth = match.get("nth", 1)
        if nth < 1:
            raise RefusedError(400, "match.nth counts from 1")
        fault = Fault(
            id=f"f{self._next}",
            action=action,
            number=match.get("number"),
            device=match.get("deviceId"),
            stanza=match.get("stanza"),
            nth=nth,
            left=_times(action, times) or None,
            times=_times(action, times),
            match=dict(match),
            until=_end(action),
        )
        self._next += 1
        self.armed.append(fault)
        return fault.id

    def disarm(self, fault_id: str) -> None:
        """Forget a fault; RefusedError 404 when there is none."""
        for fault in self.armed:
            if fault.id == fault_id:
                self.armed.remove(fault)
                return
        raise RefusedError(404, f"no fault {fault_id}")

    def take(self, kinds: frozenset[str], number: str, peer: str | None, device: int, stanza: str) -> Action | None:
        """The action of the first fault that fires now; `number` and `device` name the socket, `peer` the other end."""
        for fault in self.armed:
            name = fault.action.name
            if name not in kinds or not _fits(fault, number, peer, device, stanza):
                continue
            fault.seen += 1
            if fault.seen < fault.nth:
                continue
            if fault.left is not None:
                fault.left -= 1
                if fault.left == 0:
                    self.armed.remove(fault)
            return fault.action
        return None

    def is_gone(self, number: str | None) -> bool:
        """Whether the whole server is gone: for everybody, or (with a number) for that account."""
        if not self.armed:
            return False
        self.forget_past()
        return any(fault.action.name == GONE and fault.number in (None, number) for fault in self.armed)

    def forget_past(self) -> None:
        """Disarm what lasted for a time that is over."""
        now = time.monotonic()
        self.armed[:] = [fault for fault in self.armed if fault.until is None or fault.until > now]

    def clear(self) -> None:
        """Forget all."""
        self.armed.clear()


def _fits(fault: Fault, number: str, peer: str | None, device: int, stanza: str) -> bool:
    name = fault.action.name
    if stanza in MEDIA_PLACES or name in MEDIA_FAULTS:
        return stanza in MEDIA_PLACES and name in MEDIA_FAULTS and fault.stanza in (None, stanza)
    if stanza in (HANDSHAKE, UPGRADE):
        return name in _BEFORE_ANY_NAME or fault.stanza == stanza
    if name == MIGRATION:
        return False
    if name in LOGIN_FAULTS | THEFTS and stanza != LOGIN:
        return False
    if fault.stanza is not None and fault.stanza != stanza:
        return False
    if fault.stanza is None and name in STANZA_FAULTS | PHONE_FAULTS | DELIVERY_ONLY and stanza != "message":
        return False
    if fault.number not in (None, number) and not (name in _BY_EITHER_END and fault.number == peer):
        return False
    return fault.device in (None, device)


def _times(action: Action, times: int | None) -> int:
    """How often a fault fires; 0 means no limit."""
    if action.name == GONE:
        return 0
    if times is None:
        times = action.arguments.get("times", 1) if action.name in THEFTS else 1
    return times


def _end(action: Action) -> float | None:
    milliseconds = action.arguments["ms"] if action.name == GONE else 0
    return time.monotonic() + milliseconds / 1000 if milliseconds else None


def _check_place(name: str, match: Mapping[str, Any]) -> None:
    if name == MIGRATION and match.keys() != {"number"}:
        raise RefusedError(400, "match: lidMigration needs number, the account whose chat moves, and nothing else")
    stanza = match.get("stanza")
    if name in MEDIA_FAULTS and (stanza not in (None, *MEDIA_PLACES) or not match.keys() <= {"stanza", "nth"}):
        raise RefusedError(400, "match: mediaError takes stanza (upload or download) and nth; nobody says who it is")
    if stanza == HANDSHAKE and name not in HANDSHAKE_FAULTS:
        raise RefusedError(400, f"match.stanza: {name} cannot happen in the handshake")
    if name in _BEFORE_ANY_NAME and stanza not in (None, HANDSHAKE):
        raise RefusedError(400, f"match.stanza: {name} happens before any stanza; leave it out")
    if (name in _BEFORE_ANY_NAME or stanza == HANDSHAKE) and not match.keys().isdisjoint(("number", "deviceId")):
        raise RefusedError(400, "match.number, match.deviceId: before the login nobody has said who connects")


def parse_action(do: Mapping[str, Any]) -> Action:
    """Check `{name: {arguments}}`; RefusedError 400 names what is wrong."""
    if len(do) != 1:
        raise RefusedError(400, "do must name exactly one fault")
    name, arguments = next(iter(do.items()))
    if name not in _ALL:
        known = ", ".join(sorted(_ALL))
        raise RefusedError(400, f"do: unknown fault {name}; known are {known}")
    if not isinstance(arguments, Mapping):
        raise RefusedError(400, f"do.{name} must be an object, {{}} when it takes no arguments")
    _check(arguments, _REQUIRED.get(name, {}), _OPTIONAL.get(name, {}), f"do.{name}")
    return Action(name, dict(arguments))


def _check(given: Mapping[str, Any], required: dict[str, type], optional: dict[str, type], where: str) -> None:
    for key in required:
        if key not in given:
            raise RefusedError(400, f"{where}.{key} is required")
    for key, value in given.items():
        kind = required.get(key) or optional.get(key)
        if kind is None:
            raise RefusedError(400, f"{where}.{key} is not known")
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            raise RefusedError(400, f"{where}.{key} must be {_KINDS[kind]}")
