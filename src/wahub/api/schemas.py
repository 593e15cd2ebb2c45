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
from wahub.domain.times import iso
from wahub.domain.errors import InvalidFieldError
from wahub.domain.instance import Config, Disconnect, Instance, State, public_status
from wahub.domain.pacing import Pace
from wahub.domain.target import check_url
from wahub.services.instance import ConfigChange
from wahub.services.outbox import StatusView

MAX_NAME = 255
MAX_URL = 2_048
_TYPING_TARGETS = ("customer", "merchant")

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
    change = _typing(fields, webhook)
    return change.apply(Config(name, url, _events(webhook) or ()))


def read_change(fields: Fields, *, block_private: bool) -> ConfigChange:
    """What a PUT changes; a supplied empty list of events means all of them."""
    name = fields.text("name", MAX_NAME)
    if name == "":
        raise InvalidFieldError("name must not be empty: leave it out or give it a value")
    webhook = fields.object("webhook")
    url = webhook.text("url", MAX_URL)
    if url is not None:
        check_url(url, block_private=block_private)
    typing = _typing(fields, webhook)
    return ConfigChange(name, url, _events(webhook), typing.typing_enabled, typing.apply_typing_to)


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
    item["webhookUrl"] = instance.config.webhook_url
    item["webhookEvents"] = list(instance.config.webhook_events)
    if instance.observed.last_error:
        item["lastError"] = instance.observed.last_error
    return item


def client_status(instance: Instance, depth: int, ready_watchdog_ms: int) -> dict[str, Any]:
    """The `clientStatus` object. A socket engine reports `ready` by an event, so nothing is ever polled."""
    seen = instance.observed
    elapsed = None
    if seen.authenticated_at is not None and seen.ready_at is not None and seen.ready_at >= seen.authenticated_at:
        elapsed = round((seen.ready_at - seen.authenticated_at) * 1000)
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
        "readyWatchdogStartAt": None,
        "authenticatedAt": iso_or_none(seen.authenticated_at),
        "readySource": "event" if seen.ready_at is not None else None,
        "readyAt": iso_or_none(seen.ready_at),
        "authenticatedToReadyMs": elapsed,
        "readyPollAttempts": 0,
        "lastReadyPollError": None,
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


def status_page(view: StatusView, pace: Pace, max_queue: int) -> dict[str, Any]:
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
            "lastAuthFailureAt": iso_or_none(
                seen.last_disconnect_at if seen.last_disconnect_reason == Disconnect.LOGGED_OUT else None
            ),
            "lastEvent": seen.last_event,
        },
        "queue": {
            "depth": view.depth,
            "sendLoopRunning": loop_runs(seen.state, view.depth, sending=view.sending),
            "maxSize": max_queue,
        },
        "reconnection": {
            "restartAttempts": seen.restart_attempts,
            # A lost link is followed by an attempt at once, and no window limits how many there may be (0.12).
            "lastRestartAt": iso_or_none(seen.last_disconnect_at if seen.restart_attempts else None),
            "restartHistoryLength": seen.restart_attempts,
            "rateLimitExceeded": False,
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
        "webhook": {"url": instance.config.webhook_url, "events": list(instance.config.webhook_events)},
    }


def _window(current: int, most: int) -> dict[str, Any]:
    return {"current": current, "max": most, "limited": bool(most) and current >= most}


def loop_runs(state: State, depth: int, *, sending: bool) -> bool:
    """Whether the send loop has something to look after."""
    return sending or (state is State.READY and depth > 0)


def iso_or_none(at: float | None) -> str | None:
    """A time as replies write it; None stays None."""
    return None if at is None else iso(at)
