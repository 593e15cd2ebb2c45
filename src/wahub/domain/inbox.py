"""What comes in: a received message and the key that makes a second arrival harmless."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wahub.domain.ids import ChatId, InstanceId, MessageId

_LONGEST_ID = 255
"""Characters of the id of another message. A sender writes it, and no index of PostgreSQL takes any length."""

_LAST_SECOND = 253_402_300_799
"""The end of the year 9999."""

STATUS = "status@broadcast"
"""The JID of the list on which people post their status."""

GROUP_UPDATE, CALL = "group_update", "call"

NOTICES = frozenset({GROUP_UPDATE, CALL})
"""Types that come like messages and are none."""

ABOUT_OTHERS = frozenset({"reaction", "edit", "delete", "vote"})
"""Types that change another message (`Received.target`) and stand for nothing alone."""

_DEPENDENT = NOTICES | ABOUT_OTHERS


@dataclass(frozen=True, slots=True)
class Vote:
    """A vote on a poll: the chosen names in the order of the poll; empty when it was withdrawn.

    `options` is None when it could not be read: the poll, or its secret, is not known here.
    """

    poll_id: MessageId
    options: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class PollKey:
    """What reads the votes on a poll. `creators`: JIDs under which it was made; none: it is the account's own."""

    options: tuple[str, ...]
    secret: bytes = field(repr=False)
    creators: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Address:
    """Where a person is reached: digits of the number and of the LID, as far as known; never both None."""

    phone: str | None
    lid: str | None

    @property
    def jids(self) -> tuple[str, ...]:
        """In WhatsApp's form."""
        return tuple(f"{user}@{server}" for user, server in ((self.phone, "s.whatsapp.net"), (self.lid, "lid")) if user)


FORGOTTEN = ""
"""The type of a message that says nothing any more: only what tells a second copy is kept."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message that reached an instance. Unique by (instance, chat, sender, message_id).

    `chat` and `sender` are JIDs as they stood on the message; `partner` is who a direct chat is with (None in groups
    and on the status list), `author` who wrote it. `timestamp` is Unix seconds; `target` the message that it is about
    (a reaction, an edit, a delete, a vote); `details` what its type has beside the text, in the words that callers see;
    `raw` the WhatsApp message as JSON text.
    """

    instance: InstanceId
    chat: str
    sender: str
    message_id: MessageId
    from_me: bool
    type: str
    text: str
    timestamp: int
    author: Address
    partner: Address | None = None
    push_name: str | None = None
    target: MessageId | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    raw: str | None = field(default=None, repr=False)
    vote: Vote | None = None

    @property
    def stands_alone(self) -> bool:
        """Whether it says something by itself: it is no notice, and not about another message."""
        return self.target is None and self.type not in _DEPENDENT

    @property
    def in_group(self) -> bool:
        """Whether the chat is a group."""
        return self.chat.endswith("@g.us")

    @property
    def is_forgotten(self) -> bool:
        """Whether what it said is kept no more."""
        return self.type == FORGOTTEN

    @property
    def by_nobody(self) -> bool:
        """Whether WhatsApp named nobody who did it: the group itself stands for the sender then."""
        return _is_shared(self.sender)

    @property
    def new_subject(self) -> str | None:
        """What a group is called from now on; None when this says nothing of it."""
        change: Any = self.details.get("group") if self.type == GROUP_UPDATE else None
        subject = change.get("subject") if isinstance(change, Mapping) else None
        return subject if isinstance(subject, str) else None


def from_engine(instance: InstanceId, body: Mapping[str, Any]) -> Received:
    """Read the body of an engine's `Inbound` event (ports/engine.py)."""
    chat, sender = str(body["chat"]), str(body["sender"])
    target = body.get("target")
    return Received(
        instance=instance,
        chat=chat,
        sender=sender,
        message_id=MessageId(str(body["message_id"])),
        from_me=bool(body.get("from_me")),
        type=str(body.get("type") or "unknown"),
        text=str(body.get("text") or ""),
        # A sender writes this number, and a webhook must not carry one that JavaScript would round (contract 0.7).
        timestamp=min(max(int(body.get("timestamp") or 0), 0), _LAST_SECOND),
        author=_address(sender, body.get("sender_phone"), body.get("sender_lid")),
        partner=None if _is_shared(chat) else _address(chat, body.get("chat_phone"), body.get("chat_lid")),
        push_name=body.get("push_name") or None,
        target=None if target is None else _other_id(target),
        details=body.get("details") or {},
        raw=body.get("raw"),
        vote=_vote(body),
    )


def _other_id(written: object) -> MessageId:
    return MessageId(str(written)[:_LONGEST_ID])


def _is_shared(chat: str) -> bool:
    return not chat.endswith(("@s.whatsapp.net", "@lid"))


def _address(jid: str, phone: str | None, lid: str | None) -> Address:
    """The digits beside a JID, and those in it."""
    user = jid.partition("@")[0].partition(":")[0]
    if jid.endswith("@lid"):
        return Address(phone, lid or user)
    return Address(phone or user, lid)


def address_of(jid: str) -> Address:
    """What a JID says of a person."""
    return _address(jid, None, None)


def _vote(body: Mapping[str, Any]) -> Vote | None:
    if body.get("type") != "vote" or body.get("poll_id") is None:
        return None
    options: Sequence[Any] | None = body.get("options")
    return Vote(_other_id(body["poll_id"]), None if options is None else tuple(str(name) for name in options))


def poll_key(received: Received) -> PollKey | None:
    """What reads the votes on a poll that was received; None when it is no poll, or came without its secret."""
    poll = received.details.get("poll")
    if not isinstance(poll, Mapping) or received.raw is None:
        return None
    try:
        encoded = json.loads(received.raw)["messageContextInfo"]["messageSecret"]
        secret = base64.b64decode(encoded, validate=True)
    except (KeyError, TypeError, ValueError, RecursionError, binascii.Error):
        return None
    creators = () if received.from_me else received.author.jids
    return PollKey(tuple(str(name) for name in poll.get("options") or ()), secret, creators) if secret else None


def chat_address(chat: str) -> str:
    """The chat as callers address it: `digits@c.us`, `…@lid`, `…@g.us`."""
    return chat if _is_shared(chat) else str(ChatId.from_jid(chat))
