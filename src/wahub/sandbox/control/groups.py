"""Groups in the control API: make them, change who is in them, look at them."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from wahub.sandbox.control import requests as ask
from wahub.sandbox.control.answers import answer
from wahub.sandbox.model import GROUP_SERVER, LID_SERVER, Jid, RefusedError
from wahub.sandbox.world import World

CHANGES = ("add", "remove", "promote", "demote")


class GroupCalls:
    """What an operator does with groups."""

    def __init__(self, world: World) -> None:
        self._network = world.network

    async def create(self, request: Request) -> Response:
        """`POST /control/groups`"""
        body = await ask.body_of(request)
        subject = ask.text_field(body, "subject", limit=100)
        owner = ask.phone_number(body.get("owner"), "owner")
        server = ask.addressing(body) or LID_SERVER
        return answer(self._network.create_group(subject, owner, _numbers(body, "members"), server), 201)

    async def list(self, _: Request) -> Response:
        """`GET /control/groups`"""
        return answer({"groups": list(self._network.groups())})

    async def show(self, request: Request) -> Response:
        """`GET /control/groups/{id}`"""
        wanted = str(_group_id(request))
        found = next((group for group in self._network.groups() if group["id"] == wanted), None)
        if found is None:
            raise RefusedError(404, "no such group")
        return answer(found)

    async def rename(self, request: Request) -> Response:
        """`POST /control/groups/{id}`"""
        body = await ask.body_of(request)
        subject = ask.text_field(body, "subject", limit=100)
        return answer(self._network.rename_group(_group_id(request), _actor(body), subject))

    async def members(self, request: Request) -> Response:
        """`POST /control/groups/{id}/members`"""
        body = await ask.body_of(request)
        changes = {name: _numbers(body, name) for name in CHANGES if body.get(name) is not None}
        if not changes:
            raise RefusedError(400, f"give at least one of {', '.join(CHANGES)}")
        return answer(self._network.change_group(_group_id(request), _actor(body), changes))


def _group_id(request: Request) -> Jid:
    """The group in the path, with or without its `@g.us`."""
    name = str(request.path_params["id"]).removesuffix(f"@{GROUP_SERVER}")
    return Jid(name, GROUP_SERVER)


def _numbers(body: dict[str, Any], field: str) -> tuple[str, ...]:
    return tuple(ask.phone_number(number, field) for number in ask.texts(body.get(field), field))


def _actor(body: dict[str, Any]) -> str | None:
    return None if body.get("by") is None else ask.phone_number(body["by"], "by")
