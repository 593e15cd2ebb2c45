"""Idempotency keys: how each kind is formed, and what a second request with the same key gets (contract 0.4, C.1)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import Enum

from wahub.domain.ids import ChatId
from wahub.domain.message import Content, Poll, Text
from wahub.domain.outbox import Entry, IdempotencyKey, ItemState, KeyKind


@dataclass(frozen=True, slots=True)
class OrderRef:
    """What an order key is made of."""

    shop: str
    order_id: str
    action: str


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """Lifetimes in seconds: explicit and order keys after the item settled, derived keys after acceptance."""

    kept: float = 7 * 86_400.0
    derived: float = 600.0


ANY_PAYLOAD = "*"
"""The payload hash of an imported record: it matches whatever comes with its key (contract 0.4)."""


class Verdict(Enum):
    """What to do with a request whose key is known."""

    NEW = "new"
    REPLAY = "replay"
    CONFLICT = "conflict"


def payload_hash(chat: ChatId, content: Content) -> str:
    """The first 16 hex digits of SHA-256 over the compact JSON of the payload, keys in the order of contract C.1."""
    document: dict[str, object]
    match content:
        case Text(text):
            document = {"type": "message", "chatId": str(chat), "message": text}
        case Poll(caption, options):
            document = {"type": "poll", "chatId": str(chat), "caption": caption, "options": list(options)}
    compact = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(compact.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def make_key(
    instance_name: str, chat: ChatId, content: Content, explicit: str | None, order: OrderRef | None
) -> IdempotencyKey:
    """The key of a request: the caller's own, else the order's, else one derived from the payload."""
    digest = payload_hash(chat, content)
    if explicit is not None:
        return IdempotencyKey(explicit, KeyKind.EXPLICIT, digest)
    if order is not None:
        return IdempotencyKey(f"order:{order.shop}:{order.order_id}:{order.action}:v1", KeyKind.ORDER, digest)
    kind = "poll" if isinstance(content, Poll) else "message"
    return IdempotencyKey(f"{kind}:{instance_name}:{digest}:v1", KeyKind.DERIVED, digest)


def judge(key: IdempotencyKey, known: IdempotencyKey, entry: Entry | None, now: float, policy: KeyPolicy) -> Verdict:
    """Whether a request with `key` is new, a replay of `entry`, or a misuse of a key that stood for another payload."""
    if entry is None or entry.state in (ItemState.FAILED, ItemState.CANCELLED, ItemState.EXPIRED):
        return Verdict.NEW
    if entry.settled_at is not None and not entry.gave_up and _outlived(known, entry, now, policy):
        return Verdict.NEW
    if key.kind is KeyKind.EXPLICIT and known.payload_hash not in (key.payload_hash, ANY_PAYLOAD):
        return Verdict.CONFLICT
    return Verdict.REPLAY


def _outlived(known: IdempotencyKey, entry: Entry, now: float, policy: KeyPolicy) -> bool:
    if known.kind is KeyKind.DERIVED:
        return now >= entry.created_at + policy.derived
    return entry.settled_at is not None and now >= entry.settled_at + policy.kept
