"""Replies about sends: the answer to one, the queue, the fate of one item. No message text, no chat id.

Times are ISO 8601 in UTC, but for `nextAttemptAt` in the queue, whose documents say epoch milliseconds.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from wahub.api.schemas import iso_or_none, loop_runs, reply
from wahub.domain.ids import mask_chat
from wahub.domain.message import Poll
from wahub.domain.outbox import OUTREACH_REASON, Entry, ItemState
from wahub.domain.times import iso
from wahub.services.outbox import Accepted, QueueItem, QueueView

_WAITS = (ItemState.QUEUED, ItemState.UNKNOWN)
_NO_PROVIDER_ID = "imported-"
"""How the id of an imported record begins when the earlier gateway had none for it (services/outbox/accept.py)."""


def send_reply(accepted: Accepted, headers: dict[str, str]) -> Response:
    """The answer to a send: its fields at top level and in `data` (contract 0.3, 0.4)."""
    entry = accepted.entry
    sent = entry.state is ItemState.SENT
    fields: dict[str, Any] = {"messageId": _message_id(entry)} if sent else {"queued": True}
    fields["queueId"] = entry.id
    if not sent:
        fields["alreadyQueued"] = accepted.replayed
        fields["message"] = "Message already queued" if accepted.replayed else "Message queued"
    fields["instanceState"] = accepted.state
    fields["queueDepth"] = accepted.depth
    if accepted.replayed:
        fields["idempotent"] = True
        fields["keyKind"] = entry.key.kind
        headers = {**headers, "Idempotency-Replayed": "true"}
    return reply({**fields, "data": fields, "status": "success"}, 200 if sent else 202, headers)


def never_sent(entry: Entry, headers: dict[str, str]) -> Response:
    """The answer to a caller that waited, when the item ended without being sent (contract A.1, *refused for good*)."""
    text = f"Message {entry.state}: {entry.last_error or 'it was not sent'}"
    return reply({"error": text, "status": 400, "queueId": entry.id, "state": entry.state}, 400, headers)


def _message_id(entry: Entry) -> str | None:
    """Of some imported records the provider's id is not known."""
    return None if entry.message_id.startswith(_NO_PROVIDER_ID) else entry.message_id


def queue(view: QueueView, now: float) -> dict[str, Any]:
    """The queue of an instance, in the order of the line."""
    items = [_queue_item(item, now) for item in view.items]
    return {
        "depth": view.depth,
        "sendLoopRunning": loop_runs(view.state, view.depth, sending=view.sending),
        "instanceState": view.state,
        "eligibleCount": sum(item["isEligible"] for item in items),
        "items": items,
    }


def _queue_item(item: QueueItem, now: float) -> dict[str, Any]:
    entry = item.entry
    due = None if item.next_attempt_at is None else round(item.next_attempt_at * 1000)
    return {
        "id": entry.id,
        "type": _type(entry),
        "state": entry.state,
        "priority": entry.priority,
        "idempotencyKey": f"{entry.key.value[:30]}...",
        "createdAt": iso(entry.created_at),
        "age": max(round((now - entry.created_at) * 1000), 0),
        "attemptCount": entry.attempts,
        "nextAttemptAt": due,
        "nextAttemptIn": None if due is None else max(due - round(now * 1000), 0),
        "lastError": entry.last_error,
        "reason": _reason(entry, now),
        "isEligible": item.eligible and entry.state in _WAITS,
    }


def _reason(entry: Entry, now: float) -> str | None:
    """Why an item is not simply next: a word for programs; `lastError` has the details."""
    if entry.state is ItemState.HELD:
        return entry.last_error
    if entry.state is ItemState.UNKNOWN:
        return "fate_unknown" if entry.gave_up else "awaiting_proof"
    if entry.state is not ItemState.QUEUED:
        return entry.last_error if entry.state in (ItemState.FAILED, ItemState.EXPIRED) else None
    if entry.joined_at > now:
        return "scheduled"
    if entry.next_attempt_at > now:
        return OUTREACH_REASON if entry.last_error == OUTREACH_REASON else "retry"
    return None


def request_item(entry: Entry, now: float) -> dict[str, Any]:
    """The fate of one item (contract 0.5), as far as it is known, and how it came to it."""
    waits = entry.state in _WAITS and not entry.settled
    return {
        **listed_item(entry, now),
        "resends": entry.resends,
        "recipientType": entry.audience,
        "uxTyping": entry.typing,
        "sendAt": iso(entry.joined_at) if entry.scheduled else None,
        "expiresAt": None if entry.expires_at == float("inf") else iso(entry.expires_at),
        "nextAttemptAt": iso(max(entry.next_attempt_at, entry.joined_at)) if waits else None,
        "timeline": [
            {"at": iso(moment.at), "event": moment.kind, "detail": moment.detail} for moment in entry.timeline
        ],
    }


def listed_item(entry: Entry, now: float) -> dict[str, Any]:
    """One line of a list of items; `chat` is masked."""
    return {
        "id": entry.id,
        "queueId": entry.id,
        "messageId": _message_id(entry),
        "instanceId": entry.instance,
        "chat": mask_chat(str(entry.chat)),
        "type": _type(entry),
        "state": entry.state,
        "delivery": entry.delivery,
        "priority": entry.priority,
        "keyKind": entry.key.kind,
        "final": entry.settled,
        "attempts": entry.attempts,
        "reason": _reason(entry, now),
        "lastError": entry.last_error,
        "createdAt": iso(entry.created_at),
        "settledAt": iso_or_none(entry.settled_at),
    }


def _type(entry: Entry) -> str:
    return "poll" if isinstance(entry.content, Poll) else "message"
