"""Webhooks: what is posted, to whom, in which order, signed how (contract D.3, D.4, 0.7)."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from wahub.domain.endpoint import Secrets
from wahub.domain.event import UNLOGGED
from wahub.domain.ids import InstanceId
from wahub.domain.instance import Config
from wahub.domain.retry import Backoff


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one URL. Times are Unix seconds.

    `event_id` is the same on every attempt; `sequence` is its number in the instance's log, 0 if it is not in there;
    `lane` names what it must stay in order with: a chat, `lifecycle`, or itself once it stepped aside. `body` is the
    exact bytes that are signed and sent, as text.
    """

    event_id: str
    instance: InstanceId
    event: str
    lane: str
    url: str
    body: str
    sequence: int
    created_at: float
    expires_at: float
    next_attempt_at: float
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    last_error: str | None = None
    attempted_at: float | None = None
    failed_at: float | None = None
    """When an attempt failed first."""
    position: int = 0
    """Order of creation, given by the store."""
    probe: bool = False
    """Its endpoint is paused, and this delivery asks whether it is back."""
    secrets: Secrets = field(default=Secrets(), repr=False)
    """Of its instance, as they are now."""


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """What an operator sets. Times are seconds; `concurrency` is per endpoint."""

    secret: str | None = field(default=None, repr=False)
    protection_bypass: str | None = field(default=None, repr=False)
    auth_token: str | None = field(default=None, repr=False)
    timeout: float = 10.0
    retry_base: float = 1.0
    retry_max: float = 3600.0
    concurrency: int = 8
    block_private: bool = False

    @property
    def backoff(self) -> Backoff:
        """The waits between attempts; never none at all, or a failing receiver would be posted to without a pause."""
        return Backoff(max(self.retry_base, 0.01), max(self.retry_max, 0.01))


# --- who gets what ----------------------------------------------------------------------------------------------------

STANDARD_EVENTS = frozenset(
    {
        "qr",
        "authenticated",
        "ready",
        "ready_timeout",
        "auth_failure",
        "disconnected",
        "restricted",
        "change_state",
        "message",
        "vote_update",
    }
)
"""What an instance with an empty list of events gets (contract D.4)."""

ALWAYS_POSTED = frozenset({"authenticated", "ready", "ready_timeout"})
"""Posted whatever the list says (contract D.4)."""

EVERY_EVENT = "*"
LIFECYCLE_LANE = "lifecycle"
ASIDE = "aside:"
"""How the lane of an event begins that stepped aside."""
_NEVER_RETRIED = UNLOGGED

RETRY_HORIZON = 72 * 3600.0
"""Seconds after which a delivery that nobody took becomes a dead letter (contract 0.7)."""


def wants(config: Config, event: str) -> bool:
    """Whether this instance has a URL and its list of events covers `event`."""
    if not config.webhook_url:
        return False
    if event in ALWAYS_POSTED:
        return True
    chosen = config.webhook_events
    return event in STANDARD_EVENTS if not chosen else event in chosen or EVERY_EVENT in chosen


# --- the body ---------------------------------------------------------------------------------------------------------

_LARGEST_INTEGER = 2**53 - 1
_INTEGER_LIKE = re.compile(r"0|[1-9][0-9]*")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
# It escapes what JavaScript escapes, and in the same way.
_encode = msgspec.json.Encoder().encode


class _MisfitError(Exception):
    """A value that has no place in a body: where, from the innermost step on, and what is wrong with it."""

    def __init__(self, wrong: str, place: str = "") -> None:
        self.wrong = wrong
        self.place = place


def body_text(event: str, instance: str, data: Mapping[str, Any]) -> str:
    """The compact JSON that is signed and sent; byte for byte what JavaScript's `JSON.stringify(JSON.parse(…))` gives.

    ValueError, naming the place but never the value, for what would not survive that round trip: floats, integers
    beyond 2**53 - 1, object keys that look like integers (JavaScript moves them to the front), and types that JSON
    lacks. Lone surrogates become U+FFFD.
    """
    try:
        plain = _plain(data)
    except _MisfitError as misfit:
        refusal = f"webhook payload: data{misfit.place} {misfit.wrong}"
    else:
        return _encode({"event": event, "instanceId": instance, "data": plain}).decode()
    raise ValueError(refusal)


def _plain(value: Any) -> Any:
    # Nearly all values are of these very types; what is derived from them takes the longer way.
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _text(value)
    if kind is dict:
        return _members(value)
    if kind is bool or value is None:
        return value
    if isinstance(value, int):
        if abs(value) > _LARGEST_INTEGER:
            raise _MisfitError("is an integer beyond 2**53 - 1; send it as text")
        return int(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return _members(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return _items(value)
    if isinstance(value, float):
        raise _MisfitError("is a float; send an integer or text")
    raise _MisfitError(f"is a {kind.__name__}, which JSON lacks")


def _members(members: Mapping[Any, Any]) -> dict[str, Any]:
    made = {}
    for key, item in members.items():
        name = _key(key)
        try:
            made[name] = _plain(item)
        except _MisfitError as misfit:
            raise _MisfitError(misfit.wrong, f".{key}{misfit.place}") from None
    return made


def _items(items: Sequence[Any]) -> list[Any]:
    made = []
    for item in items:
        try:
            made.append(_plain(item))
        except _MisfitError as misfit:
            raise _MisfitError(misfit.wrong, f"[{len(made)}]{misfit.place}") from None
    return made


@lru_cache(maxsize=1024)
def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise _MisfitError("has a key that is not text")
    if _INTEGER_LIKE.fullmatch(key):
        raise _MisfitError("has a key that looks like an integer; use a list or another name")
    return _text(key)


def _text(text: str) -> str:
    if text.isascii() or not _SURROGATE.search(text):
        return str(text)
    # Two halves of a pair that came separately are one character; a lone half is none.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


# --- the headers ------------------------------------------------------------------------------------------------------

_WHSEC = "whsec_"
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


class Signer:
    """Makes the headers of a request. ValueError naming the setting if a secret or token cannot be used."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._fixed = {"content-type": "application/json", "user-agent": "wahub"}
        if settings.protection_bypass:
            bypass = _header_value(settings.protection_bypass, "WEBHOOK_PROTECTION_BYPASS")
            self._fixed["x-vercel-protection-bypass"] = bypass
        if settings.auth_token:
            self._fixed["authorization"] = f"Bearer {_header_value(settings.auth_token, 'WEBHOOK_AUTH_TOKEN')}"
        self._secret = settings.secret
        if settings.secret:
            standard_key(settings.secret)

    def headers(self, delivery: Delivery, body: bytes, now: float) -> dict[str, str]:
        """All headers of the next attempt at `now`. `body` is `delivery.body` as UTF-8.

        While two secrets are live, the hub's header is made with the current one, and the Standard Webhooks header
        carries a signature of each, as that specification says.
        """
        headers = {
            **self._fixed,
            "x-wa-hub-event-id": delivery.event_id,
            "x-wa-hub-attempt": str(delivery.attempts + 1),
        }
        if delivery.sequence:
            headers["x-wa-hub-sequence"] = str(delivery.sequence)
        secrets = delivery.secrets.live(self._secret or None, now)
        if secrets:
            timestamp = str(int(now))
            signed = f"{delivery.event_id}.{timestamp}.".encode() + body
            headers["x-wa-hub-signature"] = hub_signature(secrets[0].encode(), body)
            headers["webhook-id"] = delivery.event_id
            headers["webhook-timestamp"] = timestamp
            headers["webhook-signature"] = " ".join(_standard_signature(secret, signed) for secret in secrets)
        return headers


def _standard_signature(secret: str, signed: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(standard_key(secret), signed, "sha256")).decode("ascii")


def hub_signature(key: bytes, body: bytes) -> str:
    """Lower-case hex of HMAC-SHA256 over the body (contract D.3)."""
    return hmac.digest(key, body, "sha256").hex()


@lru_cache(maxsize=1024)
def standard_key(secret: str) -> bytes:
    """The key of the Standard Webhooks signature: what follows `whsec_`, decoded, else the secret's UTF-8 bytes."""
    if not secret.startswith(_WHSEC):
        return secret.encode()
    encoded = secret.removeprefix(_WHSEC).rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        # Also said of an instance's own secret, by which the API then names its field.
        raise ValueError("WEBHOOK_SECRET starts with whsec_ but the rest is not base64: correct it or drop the prefix")
    return key


def _header_value(text: str, setting: str) -> str:
    if not _HEADER_VALUE.fullmatch(text):
        raise ValueError(f"{setting} must be printable ASCII without spaces around it, since it goes into a header")
    return text


# --- what comes next --------------------------------------------------------------------------------------------------


class Answer(Protocol):
    """What came of one attempt."""

    @property
    def ok(self) -> bool:
        """Whether the receiver took it."""

    @property
    def status(self) -> int | None:
        """The HTTP status, if an answer came."""

    @property
    def error(self) -> str | None:
        """Why no answer came, or what was wrong with it."""


def after_attempt(delivery: Delivery, answer: Answer, now: float, unit: float, policy: Backoff) -> Delivery:
    """The delivery after one more attempt: delivered, waiting for the next, or dead. `unit` is random in [0, 1)."""
    attempts = delivery.attempts + 1
    if answer.ok:
        return replace(delivery, state=DeliveryState.DELIVERED, attempts=attempts, attempted_at=now, last_error=None)
    error = answer.error or f"HTTP {answer.status}"
    failed_at = now if delivery.failed_at is None else delivery.failed_at
    failed = replace(delivery, attempts=attempts, attempted_at=now, failed_at=failed_at, last_error=error)
    retry_at = now + min(policy.jittered(attempts, unit), policy.cap)
    if delivery.event in _NEVER_RETRIED or retry_at >= delivery.expires_at:
        return replace(failed, state=DeliveryState.DEAD)
    return replace(failed, next_attempt_at=retry_at)


def aside(delivery: Delivery) -> Delivery:
    """The same delivery in a lane of its own: others go on without it."""
    return replace(delivery, lane=f"{ASIDE}{delivery.event_id}")


def stands_aside(delivery: Delivery) -> bool:
    """Whether it has a lane of its own already."""
    return delivery.lane.startswith(ASIDE)


def stale(delivery: Delivery, now: float) -> bool:
    """Whether posting it would be pointless: a `qr` whose code died.

    Other events get at least one attempt, also when we were down for longer than they live.
    """
    short_lived = delivery.expires_at - delivery.created_at < RETRY_HORIZON - 1
    return short_lived and now >= delivery.expires_at


def bury(delivery: Delivery, reason: str) -> Delivery:
    """Give it up without another attempt."""
    return replace(delivery, state=DeliveryState.DEAD, last_error=reason)
