"""Chats and their messages over HTTP: pages of what is stored, newest first.

A cursor names a place between two messages, not a number of a page: what arrives meanwhile moves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from wahub.api import cursor, schemas
from wahub.api.body import Fields
from wahub.api.deps import ApiDeps
from wahub.api.hub import path_id
from wahub.domain.contact import Contact
from wahub.domain.errors import InvalidFieldError
from wahub.domain.ids import chat_fingerprint
from wahub.domain.media import with_url
from wahub.domain.thread import END, Ballot, Head, Message, Reaction, Spot
from wahub.domain.times import iso
from wahub.services import thread
from wahub.services.thread import Page

_LISTED, _MOST_LISTED = 50, 200
_NEWEST_CHAT = (2**53, "")
_LONGEST_CURSOR = 1_024


class OtherChatError(InvalidFieldError):
    def __init__(self) -> None:
        super().__init__("cursor belongs to another chat: leave it out to begin with the newest")


@dataclass(frozen=True, slots=True)
class ThreadRoutes:
    """Handlers."""

    deps: ApiDeps

    async def chats(self, request: Request) -> Response:
        """`GET /instances/{id}/chats?limit=&cursor=`."""
        wanted, query = path_id(request), _query(request)
        limit, given = _limit(query), query.text("cursor", _LONGEST_CURSOR)
        before = _NEWEST_CHAT
        if given is not None:
            at, key = cursor.read(given, int, str)
            before = (at, key)
        found = await self.deps.database.read(lambda tx: thread.chats(tx, wanted, before, limit))
        last = found.heads[-1] if found.more else None
        shown = {
            "chats": [_chat(head, found.people.get(head.key)) for head in found.heads],
            "next": None if last is None else cursor.written(last.at, last.key),
        }
        return schemas.success(shown)

    async def messages(self, request: Request) -> Response:
        """`GET /instances/{id}/chats/{chatId}/messages?limit=&cursor=&after=`."""
        wanted, query = path_id(request), _query(request)
        limit, given = _limit(query), query.text("cursor", _LONGEST_CURSOR)
        chat = str(request.path_params["chat"])
        before, names = END, None
        if given is not None:
            at, ours, position, names = cursor.read(given, float, bool, int, str)
            before = Spot(at, ours, position)
        since = _after(query)
        kept = self.deps.settings.messages_kept
        ours_since = 0.0 if kept is None else self.deps.clock.now() - kept
        page = await self.deps.database.read(
            lambda tx: thread.messages(tx, wanted, chat, before, since=since, ours_since=ours_since, limit=limit)
        )
        if names is not None and not _fingerprints(page) & set(names.split(".")):
            raise OtherChatError
        spot = page.messages[-1].spot if page.more else None
        shown = {
            "messages": [_Shown(page, message).all() for message in page.messages],
            "next": None if spot is None else cursor.written(spot.at, spot.ours, spot.position, _names(page)),
        }
        return schemas.success(shown)


def _fingerprints(page: Page) -> set[str]:
    """What tells the chat of a page from others: any name that it goes by, because people move and are merged."""
    names = (page.thread.key, *page.thread.addresses)
    return {chat_fingerprint(f"{page.owner.id}/{name}") for name in names if name is not None}


def _names(page: Page) -> str:
    return ".".join(sorted(_fingerprints(page)))


def _query(request: Request) -> Fields:
    return Fields(dict(request.query_params), form=True)


def _limit(query: Fields) -> int:
    what = f"a whole number from 1 to {_MOST_LISTED}"
    found = query.number("limit", what)
    if found is None:
        return _LISTED
    if found != int(found) or not 1 <= found <= _MOST_LISTED:
        raise InvalidFieldError(f"limit must be {what}")
    return int(found)


def _after(query: Fields) -> float:
    """The time of the oldest message to show: the second after the one given."""
    what = "a time in Unix seconds"
    found = query.number("after", what)
    if found is None:
        return 0.0
    if found != int(found) or found < 0:
        raise InvalidFieldError(f"after must be {what}")
    return found + 1


def _chat(head: Head, partner: Contact | None) -> dict[str, Any]:
    last = None
    if head.message_id is not None:
        last = {"id": head.message_id, "type": head.type, "text": head.text, "fromMe": head.from_me}
    return {
        "chatId": head.key if partner is None else partner.address,
        "contactId": None if partner is None else partner.id,
        "isGroup": head.is_group,
        "name": head.title if partner is None else partner.name,
        "phone": None if partner is None else partner.phone,
        "lid": None if partner is None else partner.lid,
        "lastMessageAt": iso(head.at) if head.at else None,
        "lastMessage": last,
    }


@dataclass(frozen=True, slots=True)
class _Shown:
    """One message of a page, in the words of webhooks as far as they have them."""

    page: Page
    message: Message

    def all(self) -> dict[str, Any]:
        message, page = self.message, self.page
        author = page.people.get(message.author or "")
        fate = message.fate
        by = _phone_and_lid(author) if message.author else _own(page)
        shown: dict[str, Any] = {
            "id": message.id,
            "chatId": page.thread.chat_id,
            "from": by[0] or by[1],
            "fromLid": by[1],
            "contactId": None if author is None else author.id,
            "author": (by[0] or by[1]) if page.thread.is_group else None,
            "fromMe": message.author is None,
            "name": self._name(author),
            "type": message.type,
            "text": message.text,
            "timestamp": int(message.spot.at),
            "state": None if fate is None else fate.state,
            "delivery": None if fate is None else fate.delivery,
            "queueId": None if fate is None else fate.queue_id,
            "editedAt": _iso(message.edited_at),
            "revokedAt": _iso(message.revoked_at),
            "reactions": [_reaction(reaction, page) for reaction in message.reactions],
        }
        if message.type == "poll":
            shown["votes"] = [_vote(vote, page) for vote in message.votes]
        details = with_url(message.details, page.owner.id, message.id)
        return {**shown, **{name: found for name, found in details.items() if name not in shown}}

    def _name(self, author: Contact | None) -> str | None:
        if self.message.author is None:
            return self.page.owner.observed.display_name
        return None if author is None else author.name


def _reaction(reaction: Reaction, page: Page) -> dict[str, Any]:
    return {**_who("from", reaction.author, page), "emoji": reaction.emoji, "timestamp": reaction.at}


def _vote(vote: Ballot, page: Page) -> dict[str, Any]:
    shown = {**_who("voter", vote.author, page), "selectedOptions": list(vote.options or ()), "timestamp": vote.at}
    return {**shown, "unreadable": True} if vote.options is None else shown


def _who(role: str, author: str | None, page: Page) -> dict[str, Any]:
    person = page.people.get(author or "")
    phone, lid = _phone_and_lid(person) if author else _own(page)
    return {role: phone or lid, f"{role}Lid": lid, "contactId": None if person is None else person.id}


def _phone_and_lid(person: Contact | None) -> tuple[str | None, str | None]:
    return (None, None) if person is None else (person.phone, person.lid)


def _own(page: Page) -> tuple[str | None, str | None]:
    return page.owner.observed.phone, page.owner.observed.lid


def _iso(at: int | None) -> str | None:
    return None if at is None else iso(at)
