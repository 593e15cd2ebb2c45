"""`wahub chats` and `wahub messages`: what was said, and where. Texts, names and full numbers only with `--full`.

A direct chat is named by its contact id, which is no number and stays the same when the person's address changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from wahub.cli import printing
from wahub.cli.with_api import DataDir, Json, Name, Url, run
from wahub.domain.ids import mask_chat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wahub.cli.gateway import Api

Item = dict[str, Any]

_PAGE = 200
_CHATS = ("id", "chat", "lastMessageAt", "type", "fromMe")
_MESSAGES = ("id", "timestamp", "from", "type", "delivery", "editedAt", "revokedAt", "reactions", "votes")

_Limit = Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")]
_Full = Annotated[bool, typer.Option("--full", help="With texts, names and full numbers, as the API tells them.")]


def chats(
    name: Name,
    limit: _Limit = 50,
    full: _Full = False,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """The chats of an instance, those with the latest activity first."""

    async def work(api: Api) -> None:
        found = [_chat(item, full=full) async for item in _pages(api, limit, "chats", "instances", name, "chats")]
        _print(found, (*_CHATS, "name", "text") if full else _CHATS, as_json=as_json)

    run(work, data_dir, url)


def messages(
    name: Name,
    chat: Annotated[str, typer.Argument(metavar="CHAT", help="The id that `wahub chats` shows, or a number.")],
    limit: _Limit = 50,
    full: _Full = False,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """The messages of a chat, newest first."""

    async def work(api: Api) -> None:
        steps = ("instances", name, "chats", chat, "messages")
        found = [_message(item, full=full) async for item in _pages(api, limit, "messages", *steps)]
        _print(found, (*_MESSAGES, "name", "text") if full else _MESSAGES, as_json=as_json)

    run(work, data_dir, url)


async def _pages(api: Api, limit: int, what: str, *path: str) -> AsyncIterator[Item]:
    """Items of one page after the other."""
    query: dict[str, str] = {}
    while limit > 0:
        page = await api.call("GET", *path, query={"limit": str(min(limit, _PAGE)), **query})
        for item in page[what]:
            yield item
        limit -= len(page[what])
        if page["next"] is None:
            return
        query = {"cursor": page["next"]}


def _chat(item: Item, *, full: bool) -> Item:
    last = item["lastMessage"] or {}
    shown = {
        "id": item["contactId"] or item["chatId"],
        "chat": item["chatId"] if full or item["isGroup"] else mask_chat(item["chatId"]),
        "isGroup": item["isGroup"],
        "lastMessageAt": item["lastMessageAt"],
        "messageId": last.get("id"),
        "type": last.get("type"),
        "fromMe": last.get("fromMe"),
    }
    return {**shown, "name": item["name"], "text": last.get("text")} if full else shown


def _message(item: Item, *, full: bool) -> Item:
    if full:
        return item
    kept = ("contactId", "fromMe", "type", "timestamp", "state", "delivery", "queueId", "editedAt", "revokedAt")
    return {
        "id": item["id"],
        "messageId": item["id"],
        "from": "me" if item["fromMe"] else mask_chat(item["from"]),
        **{name: item[name] for name in kept},
        "reactions": len(item["reactions"]),
        "votes": len(item.get("votes", ())),
    }


def _print(found: list[Item], columns: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        for item in found:
            printing.as_json(item)
        return
    printing.as_table(columns, [{name: _cell(value) for name, value in item.items()} for item in found])


def _cell(value: Any) -> Any:
    """One line, whatever people wrote, without codes that a terminal would obey; of lists, how many."""
    if isinstance(value, str):
        return " ".join("".join(sign if sign.isprintable() else " " for sign in value).split())
    return len(value) if isinstance(value, list) else value
