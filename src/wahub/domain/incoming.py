"""What callers hear of what came in: the event of each type, and its data (contract D.4, docs/events.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wahub.domain.contact import Contact
from wahub.domain.inbox import CALL, GROUP_UPDATE, Received, chat_address
from wahub.domain.media import with_url

Told = tuple[str, dict[str, Any]]
"""The name of an event, and its data."""


@dataclass(frozen=True, slots=True)
class Place:
    """Who wrote where. `partner` is None in groups and on the status list."""

    chat: str
    """JID."""
    author: Contact
    partner: Contact | None


def event_of(received: Received, place: Place) -> Told:
    """The event that tells of it."""
    match received.type:
        case "vote" if received.vote is not None:
            return "vote_update", {"vote": _vote(received, place)}
        case kind if kind in _NOTICE_KEYS:
            return kind, {_NOTICE_KEYS[kind]: _notice(received, place)}
        case "reaction":
            emoji = {"emoji": received.text, "messageId": received.target}
            return "reaction", {"reaction": {**who(received, place), **emoji, **_where(place)}}
        case "edit":
            said = {"messageId": received.target, "body": received.text, "text": received.text}
            return "message_edit", {"edit": {**who(received, place), **said, **_where(place), **received.details}}
        case "delete":
            return "message_revoked", {
                "revoked": {**who(received, place), "messageId": received.target, **_where(place)}
            }
        case _:
            return "message", {"message": _message(received, place)}


_NOTICE_KEYS = {GROUP_UPDATE: "group", CALL: "call"}


def _notice(received: Received, place: Place) -> dict[str, Any]:
    """A changed group, or a call; told also when the account's own phone did it."""
    said: Mapping[str, Any] = received.details.get(_NOTICE_KEYS[received.type]) or {}
    return {**who(received, place), "fromMe": received.from_me, **_where(place), **said}


def presence_of(place: Place, state: str, last_seen: int | None, at: int) -> dict[str, Any]:
    """The data of the event `presence`: somebody is there, or types. Times are Unix seconds."""
    author = place.author
    data = {
        "from": author.digits,
        "state": state,
        "lastSeen": last_seen,
        "timestamp": at,
        "fromLid": author.lid,
        "contactId": author.id or None,
        "name": author.name,
        **_where(place),
    }
    return {"presence": data}


def _message(received: Received, place: Place) -> dict[str, Any]:
    """The shape of contract D.4 first; what we know beside that follows."""
    author = place.author
    return {
        "from": author.digits,
        "body": received.text,
        "text": received.text,
        "type": received.type,
        "timestamp": received.timestamp,
        "id": received.message_id,
        "fromLid": author.lid,
        "contactId": author.id,
        "name": author.name,
        **_where(place),
        **with_url(received.details, received.instance, received.message_id),
    }


def _vote(received: Received, place: Place) -> dict[str, Any]:
    """The shape of contract D.4: option names in the order of the poll, none when the vote was withdrawn.

    A vote that cannot be read has `unreadable`, and no `pollMessageId`: nobody may take it for one that was withdrawn.
    """
    assert received.vote is not None
    options = received.vote.options
    data = {
        "voter": place.author.digits,
        "selectedOptions": list(options or ()),
        "timestamp": received.timestamp,
        "pollMessageId": None if options is None else received.vote.poll_id,
        "id": received.message_id,
        "voterLid": place.author.lid,
        "contactId": place.author.id,
        "name": place.author.name,
        **_where(place),
    }
    return {**data, "unreadable": True, "unknownPollId": received.vote.poll_id} if options is None else data


def who(received: Received, place: Place) -> dict[str, Any]:
    """Who did it, and when."""
    author = place.author
    return {
        "from": author.digits,
        "id": received.message_id,
        "timestamp": received.timestamp,
        "fromLid": author.lid,
        "contactId": author.id or None,
        "name": author.name,
    }


def _where(place: Place) -> dict[str, Any]:
    """The chat. `author` is there in groups only, as callers of WAAPI know it."""
    group = place.chat.endswith("@g.us")
    partner = place.partner
    return {
        "author": place.author.digits if group else None,
        "authorLid": place.author.lid if group else None,
        "chat": place.chat if partner is None else partner.digits,
        "chatLid": None if partner is None else partner.lid,
        "chatId": chat_address(place.chat) if partner is None else partner.address,
        "isGroup": group,
    }
