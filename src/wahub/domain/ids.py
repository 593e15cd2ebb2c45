"""Identifiers: instance ids, chat ids, message ids, and how each is cleaned, read and masked.

Rules are those of contract A.0. Everything here is a pure function of its input.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import Enum
from typing import NewType

from wahub.domain.errors import InvalidChatIdError, InvalidInstanceIdError

InstanceId = NewType("InstanceId", str)
"""The sanitised name of an instance: only `[A-Za-z0-9_-]`."""

MessageId = NewType("MessageId", str)
"""A WhatsApp message id, chosen by us when a send is accepted."""

QueueId = NewType("QueueId", str)
"""The id of an outbox entry: 32 hex digits."""

WorkerId = NewType("WorkerId", str)
"""Names one run of one worker process; never used again after it ends."""

_NOT_ID = re.compile(r"[^A-Za-z0-9_-]")
_NOT_DIGIT = re.compile(r"[^0-9]")


def instance_id(name: str) -> InstanceId:
    """The id of an instance with this name: every other character becomes one `_` per UTF-16 code unit.

    JavaScript counts a character outside the basic plane as two units, and callers depend on it. Empty:
    InvalidInstanceIdError.
    """
    cleaned = _NOT_ID.sub(lambda match: "__" if ord(match.group()) > 0xFFFF else "_", name)
    if not cleaned:
        raise InvalidInstanceIdError
    return InstanceId(cleaned)


class ChatKind(Enum):
    """What a chat id addresses."""

    PHONE = "c.us"
    GROUP = "g.us"
    LID = "lid"


@dataclass(frozen=True, slots=True)
class ChatId:
    """Where a message goes: a phone number (`digits@c.us`), a group (`…@g.us`) or a hidden identity (`…@lid`)."""

    user: str
    kind: ChatKind

    @classmethod
    def parse(cls, text: str) -> ChatId:
        """Read what a caller wrote: groups and LIDs stay, all else is reduced to its digits (contract A.0)."""
        stripped = text.strip()
        user, at, server = stripped.rpartition("@")
        if at and server in (ChatKind.GROUP.value, ChatKind.LID.value):
            kept = user.partition(":")[0]
            if not re.fullmatch(r"[0-9]+(-[0-9]+)?", kept):
                raise InvalidChatIdError
            return cls(kept, ChatKind(server))
        digits = _NOT_DIGIT.sub("", (user if at else stripped).partition(":")[0])
        if not digits:
            raise InvalidChatIdError
        return cls(digits, ChatKind.PHONE)

    @classmethod
    def from_jid(cls, jid: str) -> ChatId:
        """Read WhatsApp's own form (`digits[:device]@s.whatsapp.net`, `…@lid`, `…@g.us`)."""
        return cls.parse(jid.replace("@s.whatsapp.net", "@c.us"))

    @property
    def jid(self) -> str:
        """The address on the wire."""
        server = "s.whatsapp.net" if self.kind is ChatKind.PHONE else self.kind.value
        return f"{self.user}@{server}"

    @property
    def is_group(self) -> bool:
        return self.kind is ChatKind.GROUP

    def __str__(self) -> str:
        return f"{self.user}@{self.kind.value}"


def mask_chat(text: str | None) -> str:
    """A chat id as logs may show it: `***` and the last four digits of the user part (contract A.0)."""
    if not text:
        return "unknown"
    user = text.partition("@")[0].partition(":")[0]
    return "****" if len(user) <= 4 else f"***{user[-4:]}"


def mask_phone(phone: str | None) -> str:
    """An account's phone as dashboards and logs may show it: `+407****97` (contract A.0)."""
    if not phone or len(phone) < 6:
        return "[REDACTED]"
    return f"{phone[:4]}****{phone[-2:]}"


def chat_fingerprint(chat: str) -> str:
    """The first 10 hex digits of SHA-256 of a chat id, for breadcrumbs and spans (contract A.0)."""
    return hashlib.sha256(chat.encode()).hexdigest()[:10]


def message_id(own_user: str, entropy: bytes) -> MessageId:
    """A WhatsApp message id for the account `own_user`: `3EB0` and 18 hex digits, as WhatsApp Web makes them.

    `entropy` must be at least 16 random bytes. Source: Baileys `generateMessageIDV2`, whatsmeow `GenerateMessageID`.
    """
    if len(entropy) < 16:
        raise ValueError("a message id needs at least 16 random bytes")
    digest = hashlib.sha256(f"{own_user}@c.us".encode() + entropy).hexdigest()
    return MessageId("3EB0" + digest[:18].upper())
