"""Reading a send: its body and its headers, checked in the order that the documents give (contract A.1).

What a check refuses is told as a 400 that names the field and the remedy. Times: a caller writes milliseconds since
1970 or ISO 8601 with its zone; inside they are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wahub.api.body import Fields
from wahub.domain.errors import InvalidChatIdError, InvalidFieldError
from wahub.domain.idempotency import OrderRef
from wahub.domain.ids import ChatId, ChatKind
from wahub.domain.message import Content, Poll, Text
from wahub.domain.outbox import Audience, Priority

MAX_MESSAGE = 65_536
MAX_CHAT_ID = 128
MAX_KEY = 255
MAX_OPTION = 255
FEWEST_OPTIONS, MOST_OPTIONS = 2, 12
"""How many options WhatsApp's own clients let a poll have."""

_SHORTEST_PHONE, _LONGEST_PHONE = 5, 15
"""Digits of a phone number with its country code. E.164 ends at 15; what is shorter than 5 is no number of a person."""

SECRET_BYTES = 32
"""Length of a poll's secret (source: Baileys `generateWAMessageContent`)."""

YEAR = 366 * 86_400.0
_FIRST_MS = 1e11
"""1973 in milliseconds. A smaller `sendAt` is one in seconds, and would send at once what was meant for later."""

POLL_ACTION = "confirmPoll"
"""The action in the order key of every poll, whatever the caller's `action` says (contract C.1)."""

_PRIORITIES, _AUDIENCES = tuple(Priority), tuple(Audience)
_ZONED = "must be milliseconds since 1970, or ISO 8601 with its zone such as 2026-12-31T09:00:00Z"


@dataclass(frozen=True, slots=True)
class SendFields:
    """What a send says."""

    chat: ChatId
    content: Content
    explicit_key: str | None
    order: OrderRef | None
    priority: Priority
    audience: Audience
    send_at: float | None
    expires_in: float | None
    typing: bool


@dataclass(frozen=True, slots=True)
class SendContext:
    """What the reading of a send depends on beside its body; `item_ttl` in seconds, `now` Unix seconds."""

    header_keys: Sequence[str]
    now: float
    item_ttl: float
    random: Callable[[int], bytes]
    """So many fresh random bytes; a poll takes its secret from them."""


def read_message(fields: Fields, context: SendContext) -> SendFields:
    """The body of `send-message`."""
    chat = _chat(fields)
    message = fields.text("message", MAX_MESSAGE)
    if not message:
        raise InvalidFieldError("message is required")
    return _finish(fields, _address(chat), Text(message), context)


def read_poll(fields: Fields, context: SendContext) -> SendFields:
    """The body of `create-poll`. Only a literal true allows more than one answer."""
    chat = _chat(fields)
    caption = fields.text("caption", MAX_MESSAGE)
    if not caption:
        raise InvalidFieldError("caption is required")
    options = _options(fields)
    multiple = fields.values.get("multipleAnswers")
    several = multiple is True or (fields.form and multiple == "true")
    return _finish(fields, _address(chat), Poll(caption, options, several, context.random(SECRET_BYTES)), context)


def _address(chat: str) -> ChatId:
    """Whom it goes to; InvalidChatIdError also for what cannot be a phone number with its country code (E.164)."""
    address = ChatId.parse(chat)
    if address.kind is ChatKind.PHONE and not _SHORTEST_PHONE <= len(address.user) <= _LONGEST_PHONE:
        raise InvalidChatIdError
    return address


def _chat(fields: Fields) -> str:
    chat = fields.text("chatId", MAX_CHAT_ID)
    if not chat:
        raise InvalidFieldError("chatId is required")
    return chat


def _options(fields: Fields) -> tuple[str, ...]:
    given = fields.values.get("options")
    if fields.form and isinstance(given, dict):  # `options[0]=…&options[1]=…`
        given = list(given.values())
    if not isinstance(given, list) or len(given) < FEWEST_OPTIONS:
        raise InvalidFieldError(f"options array with at least {FEWEST_OPTIONS} items is required")
    options = Fields({"options": given}).texts("options", most=MOST_OPTIONS, limit=MAX_OPTION) or ()
    if len(set(options)) < len(options):
        raise InvalidFieldError("options must differ from one another: a vote names its option by the text")
    return options


def _finish(fields: Fields, chat: ChatId, content: Content, context: SendContext) -> SendFields:
    """The options that both routes take."""
    typing = fields.boolean("uxTyping")
    explicit = _explicit_key(fields, context.header_keys)
    order = _order(fields, POLL_ACTION if isinstance(content, Poll) else None)
    send_at = _send_at(fields, context.now)
    expires_in = _expires_in(fields, context.item_ttl)
    if send_at is not None and expires_in is not None and send_at >= context.now + expires_in:
        raise InvalidFieldError("expiresIn ends before sendAt: it counts from now, so make it longer or leave it out")
    return SendFields(
        chat=chat,
        content=content,
        explicit_key=explicit,
        order=order,
        priority=Priority(fields.choice("priority", _PRIORITIES) or Priority.NORMAL),
        audience=Audience(fields.choice("recipientType", _AUDIENCES) or Audience.CUSTOMER),
        send_at=send_at,
        expires_in=expires_in,
        typing=typing is not False,
    )


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


def _order(fields: Fields, fixed_action: str | None) -> OrderRef | None:
    """An order key needs all its parts; with fewer the documents' rule is the derived key."""
    shop = fields.identifier("shop", MAX_KEY)
    order_id = fields.identifier("orderId", MAX_KEY)
    action = fields.identifier("action", MAX_KEY)
    action = fixed_action or action
    return OrderRef(shop, order_id, action) if shop and order_id and action else None


def _send_at(fields: Fields, now: float) -> float | None:
    value = fields.values.get("sendAt")
    if value is None:
        return None
    at = _moment(value, fields.form)
    if at > now + YEAR:
        raise InvalidFieldError("sendAt is more than a year ahead: choose an earlier time")
    return at if at > now else None


def _moment(value: Any, form: bool) -> float:
    if isinstance(value, str) and not (form and value.isascii() and value.isdigit()):
        return _zoned(value)
    at = Fields({"sendAt": value}, form).number("sendAt", _ZONED.removeprefix("must be ")) or 0.0
    if at < _FIRST_MS:
        raise InvalidFieldError(f"sendAt {_ZONED}: this number is too small for milliseconds")
    return at / 1000


def _zoned(text: str) -> float:
    try:
        found = datetime.fromisoformat(text.strip())
        if found.tzinfo is None:
            raise InvalidFieldError(f"sendAt {_ZONED}: its zone is missing")
        return found.timestamp()
    except (ValueError, OverflowError):
        raise InvalidFieldError(f"sendAt {_ZONED}") from None


def _expires_in(fields: Fields, item_ttl: float) -> float | None:
    seconds = fields.number("expiresIn", "a number of seconds")
    if seconds is None:
        return None
    if not 0 < seconds <= item_ttl:
        raise InvalidFieldError(
            f"expiresIn must be more than 0 and at most {item_ttl:.15g} seconds (QUEUE_ITEM_TTL_HOURS)"
        )
    return seconds
