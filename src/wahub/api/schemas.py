"""The shapes of contract A.1 and section 0.3 for instances; those for sends are in sending.py and items.py.

Requests are read from fields, replies written as plain dictionaries.

Replies are dictionaries and not models, because the route that matters most must not pay for a second validation of
what we made ourselves. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from wahub.api.body import Fields
from wahub.domain.errors import InvalidFieldError
from wahub.domain.instance import Config, EngineOptions, Instance, State, public_status
from wahub.domain.lifecycle import Lifecycle
from wahub.domain.pacing import Pace
from wahub.domain.proxy import check_proxy, mask_proxy
from wahub.domain.target import check_url, mask_url
from wahub.domain.times import iso
from wahub.services.instance import ConfigChange
from wahub.services.outbox import StatusView

MAX_NAME = 255
MAX_URL = 2_048
_TYPING_TARGETS = ("customer", "merchant")
_ENGINE_FIELDS = frozenset({"deviceName", "markOnline"})
_MAX_DEVICE_NAME = 50

_encode = msgspec.json.Encoder().encode


def reply(
    payload: Mapping[str, Any] | Sequence[Any], status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Exactly this JSON."""
    return Response(_encode(payload), status, headers, media_type="application/json")


def success(payload: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The fields at top level, and `status: success` (contract 0.3)."""
    return reply({**payload, "status": "success"}, status, headers)


# --- requests ---------------------------------------------------------------------------------------------------------


def read_name(fields: Fields) -> str:
    """The name of a new instance."""
    name = fields.values.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidFieldError("Instance name is required")
    return fields.text("name", MAX_NAME) or name


def read_config(fields: Fields, name: str, *, block_private: bool) -> Config:
    """The configuration of a new instance: it needs a webhook."""
    webhook = fields.object("webhook")
    url = webhook.text("url", MAX_URL)
    if not url:
        raise InvalidFieldError("webhook.url is required")
    check_url(url, block_private=block_private)
    config = Config(
        name, url, _events(webhook) or (), proxy=read_proxy(fields) or None, engine=EngineOptions(**read_engine(fields))
    )
    return _typing(fields, webhook).apply(config)


def read_change(fields: Fields, *, block_private: bool) -> ConfigChange:
    """What a PUT changes, but for its `engine`; a supplied empty list of events means all of them."""
    name = fields.text("name", MAX_NAME)
    if name == "":
        raise InvalidFieldError("name must not be empty: leave it out or give it a value")
    webhook = fields.object("webhook")
    url = webhook.text("url", MAX_URL)
    if url is not None:
        check_url(url, block_private=block_private)
    typing = _typing(fields, webhook)
    events, proxy = _events(webhook), read_proxy(fields)
    return ConfigChange(name, url, events, typing.typing_enabled, typing.apply_typing_to, proxy)


def read_proxy(fields: Fields) -> str | None:
    """The `proxy`: a URL that may be used, an empty text to take it away (also null), None if it is not there."""
    if "proxy" not in fields.values:
        return None
    url = fields.text("proxy", MAX_URL) or ""
    if url:
        check_proxy(url)
    return url


def read_engine(fields: Fields) -> dict[str, Any]:
    """What `engine` supplies, as fields of EngineOptions; null leaves an option to the engine again."""
    given = fields.object("engine", "deviceName")
    if not given.values.keys() <= _ENGINE_FIELDS:
        raise InvalidFieldError(f"engine may contain only {' and '.join(sorted(_ENGINE_FIELDS))}")
    found: dict[str, Any] = {}
    if "deviceName" in given.values:
        found["device_name"] = device = given.text("deviceName", _MAX_DEVICE_NAME)
        if device is not None and not (device.strip() and device.isprintable()):
            raise InvalidFieldError(f"engine.deviceName must be 1 to {_MAX_DEVICE_NAME} printable characters")
    if "markOnline" in given.values:
        found["mark_online"] = given.boolean("markOnline")
    return found


def _events(webhook: Fields) -> tuple[str, ...] | None:
    return webhook.texts("events", most=100, limit=64)


def _typing(fields: Fields, webhook: Fields) -> ConfigChange:
    """The typing fields: at top level as documented, or inside `webhook` as older clients send them."""
    enabled, targets = None, None
    for place in (webhook, fields):
        found = place.boolean("typingIndicatorEnabled")
        enabled = enabled if found is None else found
        chosen = place.texts("applyTypingTo", most=len(_TYPING_TARGETS), limit=16, choices=_TYPING_TARGETS)
        targets = targets if chosen is None else chosen
    return ConfigChange(typing_enabled=enabled, apply_typing_to=targets)


# --- instances --------------------------------------------------------------------------------------------------------


def brief(instance: Instance, status: str | None = None) -> dict[str, Any]:
    """`{id, name, status}`."""
    shown = status or public_status(instance.observed.state)
    return {"id": instance.id, "name": instance.config.name, "status": shown}


def list_item(instance: Instance) -> dict[str, Any]:
    """One instance of the list; what is empty is left out."""
    item = brief(instance)
    if instance.observed.phone:
        item["phoneNumber"] = instance.observed.phone
    item["webhookUrl"] = mask_url(instance.config.webhook_url)
    item["webhookEvents"] = list(instance.config.webhook_events)
    if instance.observed.last_error:
        item["lastError"] = instance.observed.last_error
    return item


def detailed(instance: Instance) -> dict[str, Any]:
    """One instance by itself: the item of the list, and how it reaches WhatsApp."""
    return {**list_item(instance), **settings_of(instance)}


def settings_of(instance: Instance) -> dict[str, Any]:
    """Its proxy without user and password, and its engine settings; null is the engine's own choice."""
    engine = instance.config.engine
    return {
        "proxy": mask_proxy(instance.config.proxy),
        "engine": {"deviceName": engine.device_name, "markOnline": engine.mark_online},
    }


def readiness(instance: Instance, record: Lifecycle) -> dict[str, Any]:
    """How it became ready, for the replies that tell it."""
    seen = instance.observed
    return {
        "readySource": (record.ready_source or "event") if seen.ready_at is not None else None,
        "readyAt": iso_or_none(seen.ready_at),
        "authenticatedToReadyMs": record.authenticated_to_ready_ms,
        "readyPollAttempts": record.ready_poll_attempts,
        "lastReadyPollError": record.last_ready_poll_error,
    }


def client_status(instance: Instance, record: Lifecycle, depth: int, ready_watchdog_ms: int) -> dict[str, Any]:
    """The `clientStatus` object."""
    seen = instance.observed
    status: dict[str, Any] = {
        "instanceStatus": public_status(seen.state),
        "instanceId": instance.id,
        "data": {"phoneNumber": seen.phone, "formattedNumber": f"+{seen.phone}"} if seen.phone else {},
        "state": seen.state,
        "queueDepth": depth,
        "lastEvent": seen.last_event,
        "lastDisconnectReason": seen.last_disconnect_reason,
        "restartAttempts": seen.restart_attempts,
        "readyWatchdogMs": ready_watchdog_ms,
        "readyWatchdogStartAt": iso_or_none(record.ready_watchdog_at),
        "authenticatedAt": iso_or_none(seen.authenticated_at),
        **readiness(instance, record),
    }
    if seen.last_error:
        status["lastError"] = seen.last_error
    return status


def me(instance: Instance) -> dict[str, Any]:
    """The `me` object of a ready instance."""
    phone = instance.observed.phone
    return {
        "data": {
            "displayName": instance.observed.display_name,
            "contactId": phone,
            "formattedNumber": f"+{phone}" if phone else None,
            "profilePicUrl": None,
        }
    }


# --- the status page --------------------------------------------------------------------------------------------------


def status_page(
    view: StatusView, record: Lifecycle, pace: Pace, max_queue: int, restarts_since: float
) -> dict[str, Any]:
    """The object of `GET …/status`. Counts are those inside the rolling windows; a `max` of 0 means unlimited."""
    instance, seen, counters = view.instance, view.instance.observed, view.counters
    return {
        "instance": {**brief(instance), "state": seen.state, "createdAt": iso(instance.created_at)},
        "client": {
            "phoneNumber": seen.phone,
            "displayName": seen.display_name,
            "lastReadyAt": iso_or_none(seen.last_ready_at),
            "lastDisconnectAt": iso_or_none(seen.last_disconnect_at),
            "lastDisconnectReason": seen.last_disconnect_reason,
            "lastAuthFailureAt": iso_or_none(record.last_auth_failure_at),
            "lastEvent": seen.last_event,
        },
        "queue": {
            "depth": view.depth,
            "sendLoopRunning": loop_runs(seen.state, view.depth, sending=view.sending),
            "maxSize": max_queue,
        },
        "reconnection": {
            "restartAttempts": seen.restart_attempts,
            "lastRestartAt": iso_or_none(record.last_restart_at),
            "restartHistoryLength": sum(at > restarts_since for at in record.restarts),
            "rateLimitExceeded": seen.state is State.PAUSED and record.pause_reason == "restart_limit",
        },
        "rateLimits": {
            "sendsPerMinute": _window(view.minute, pace.per_minute),
            "sendsPerHour": _window(view.hour, pace.per_hour),
        },
        "counters": {
            "sent24h": counters.sent_24h,
            "sent1h": counters.sent_1h,
            "failures1h": counters.failures_1h,
            "disconnects1h": counters.disconnects_1h,
            "newChats24h": counters.new_chats_24h,
        },
        "webhook": {"url": mask_url(instance.config.webhook_url), "events": list(instance.config.webhook_events)},
    }


def _window(current: int, most: int) -> dict[str, Any]:
    return {"current": current, "max": most, "limited": bool(most) and current >= most}


def loop_runs(state: State, depth: int, *, sending: bool) -> bool:
    """Whether the send loop has something to look after."""
    return sending or (state is State.READY and depth > 0)


def iso_or_none(at: float | None) -> str | None:
    """A time as replies write it; None stays None."""
    return None if at is None else iso(at)
