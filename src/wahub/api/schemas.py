"""The shapes of contract A.1 and section 0.3: requests read from fields, replies written as plain dictionaries.

Replies are dictionaries and not models, because the route that matters most must not pay for a second validation of
what we made ourselves. Times are ISO 8601 in UTC, but for `GET …/queue`, whose documents say epoch milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.responses import Response

from wahub.api.body import Fields
from wahub.api.times import iso
from wahub.domain.errors import InvalidFieldError
from wahub.domain.idempotency import OrderRef
from wahub.domain.ids import ChatId
from wahub.domain.instance import Config, Instance, State, public_status
from wahub.domain.message import Text
from wahub.domain.outbox import Entry, ItemState, may_claim
from wahub.domain.target import check_url
from wahub.services.instance import ConfigChange
from wahub.services.outbox import Accepted

MAX_MESSAGE = 65_536
MAX_NAME = 255
MAX_URL = 2_048
MAX_CHAT_ID = 128
MAX_KEY = 255
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


@dataclass(frozen=True, slots=True)
class SendFields:
    """What a send-message body says."""

    chat: ChatId
    content: Text
    explicit_key: str | None
    order: OrderRef | None


def read_send(fields: Fields, header_keys: Sequence[str]) -> SendFields:
    """A send, checked in the order that the documents give; then whatever they leave open."""
    chat_text = fields.text("chatId", MAX_CHAT_ID)
    if not chat_text:
        raise InvalidFieldError("chatId is required")
    message = fields.text("message", MAX_MESSAGE)
    if not message:
        raise InvalidFieldError("message is required")
    chat = ChatId.parse(chat_text)
    fields.boolean("uxTyping")
    return SendFields(chat, Text(message), _explicit_key(fields, header_keys), _order(fields))


def _explicit_key(fields: Fields, header_keys: Sequence[str]) -> str | None:
    given = {key for key in (fields.identifier("idempotencyKey", MAX_KEY), *header_keys) if key is not None}
    if len(given) > 1:
        raise InvalidFieldError("idempotencyKey and the header Idempotency-Key differ: send one of them")
    if not given:
        return None
    key = given.pop()
    if not key or len(key) > MAX_KEY:
        raise InvalidFieldError(f"Idempotency-Key must have 1 to {MAX_KEY} characters")
    return key


def _order(fields: Fields) -> OrderRef | None:
    """An order key needs all three parts; with fewer the documents' rule is the derived key."""
    shop = fields.identifier("shop", MAX_KEY)
    order_id = fields.identifier("orderId", MAX_KEY)
    action = fields.identifier("action", MAX_KEY)
    return OrderRef(shop, order_id, action) if shop and order_id and action else None


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
        "authenticatedAt": _iso(seen.authenticated_at),
        "readySource": "event" if seen.ready_at is not None else None,
        "readyAt": _iso(seen.ready_at),
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


# --- sends and the queue ----------------------------------------------------------------------------------------------


def send_reply(accepted: Accepted) -> Response:
    """The answer to a send: its fields at top level and in `data` (contract 0.3, 0.4)."""
    entry = accepted.entry
    sent = entry.state is ItemState.SENT
    fields: dict[str, Any] = {"messageId": entry.message_id} if sent else {"queued": True}
    fields["queueId"] = entry.id
    if not sent:
        fields["alreadyQueued"] = accepted.replayed
        fields["message"] = "Message already queued" if accepted.replayed else "Message queued"
    fields["instanceState"] = accepted.state
    fields["queueDepth"] = accepted.depth
    headers = None
    if accepted.replayed:
        fields["idempotent"] = True
        fields["keyKind"] = entry.key.kind
        headers = {"Idempotency-Replayed": "true"}
    return reply({**fields, "data": fields, "status": "success"}, 200 if sent else 202, headers)


def queue(entries: Sequence[Entry], depth: int, state: State, now: float) -> dict[str, Any]:
    """The queue of an instance: no message text, no chat id."""
    items = [_queue_item(entry, now) for entry in entries if not entry.gave_up]
    eligible = sum(item["isEligible"] for item in items)
    sending = any(entry.state is ItemState.SENDING for entry in entries)
    return {
        "depth": depth,
        "sendLoopRunning": sending or (state is State.READY and eligible > 0),
        "instanceState": state,
        "eligibleCount": eligible,
        "items": items,
    }


def _queue_item(entry: Entry, now: float) -> dict[str, Any]:
    due = round(entry.next_attempt_at * 1000)
    return {
        "id": entry.id,
        "type": "message",
        "state": entry.state,
        "idempotencyKey": f"{entry.key.value[:30]}...",
        "createdAt": _iso(entry.created_at),
        "age": max(round((now - entry.created_at) * 1000), 0),
        "attemptCount": entry.attempts,
        "nextAttemptAt": due,
        "nextAttemptIn": max(due - round(now * 1000), 0),
        "lastError": entry.last_error,
        "isEligible": may_claim(entry, now),
    }


def request_item(entry: Entry) -> dict[str, Any]:
    """The fate of one item (contract 0.5), as far as it is known; no message text, no chat id."""
    waits = entry.state in (ItemState.QUEUED, ItemState.UNKNOWN) and not entry.settled
    return {
        "id": entry.id,
        "queueId": entry.id,
        "instanceId": entry.instance,
        "type": "message",
        "state": entry.state,
        "delivery": entry.delivery,
        "messageId": entry.message_id,
        "keyKind": entry.key.kind,
        "final": entry.settled,
        "attempts": entry.attempts,
        "resends": entry.resends,
        "createdAt": _iso(entry.created_at),
        "nextAttemptAt": _iso(entry.next_attempt_at) if waits else None,
        "settledAt": _iso(entry.settled_at),
        "lastError": entry.last_error,
    }


def _iso(at: float | None) -> str | None:
    return None if at is None else iso(at)
