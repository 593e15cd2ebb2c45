"""The control API as an ASGI application: one small function per call of spec/sandbox.md section 1.

Nothing here knows the protocol; it checks the request, asks a phone or the network, and shapes the answer. A call that
the sandbox cannot do yet answers 501 and says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from wahub.sandbox.control import requests as ask
from wahub.sandbox.control.answers import answer, on_bug, on_http, on_refused, phone_details, phone_summary
from wahub.sandbox.control.contents import content_of
from wahub.sandbox.control.groups import GroupCalls
from wahub.sandbox.model import RefusedError
from wahub.sandbox.phone.live import ENDINGS, STATES
from wahub.sandbox.phone.phone import Phone
from wahub.sandbox.world import World

Handler = Callable[[Request], Awaitable[Response]]


def build_control_app(world: World) -> Starlette:
    """The application; its paths begin with `/control`."""
    return Starlette(
        routes=build_control_routes(world),
        exception_handlers={RefusedError: on_refused, HTTPException: on_http, Exception: on_bug},
    )


def build_control_routes(world: World) -> list[BaseRoute]:
    """The routes alone, for an application that serves other things beside them."""
    people, groups, network = PeopleCalls(world), GroupCalls(world), NetworkCalls(world)
    one = "/control/phones/{number}"
    calls: list[tuple[str, str, Handler]] = [
        ("GET", "/control/health", network.health),
        ("POST", "/control/phones", people.create),
        ("GET", "/control/phones", people.list),
        ("GET", one, people.show),
        ("POST", f"{one}/scan", people.scan),
        ("POST", f"{one}/pair", people.pair),
        ("POST", f"{one}/send", people.send),
        ("POST", f"{one}/vote", people.vote),
        ("GET", f"{one}/messages", people.messages),
        ("GET", f"{one}/messages/{{id}}/media", people.media),
        ("GET", f"{one}/presence", people.presence),
        ("POST", f"{one}/presence", people.show_presence),
        ("POST", f"{one}/call", people.call),
        ("POST", f"{one}/hangup", people.hang_up),
        ("GET", f"{one}/calls", people.calls),
        ("POST", f"{one}/read", people.read),
        ("POST", f"{one}/online", people.online),
        ("DELETE", f"{one}/devices/{{id}}", people.remove_device),
        ("POST", f"{one}/devices/{{id}}/inject", network.inject),
        ("POST", "/control/groups", groups.create),
        ("GET", "/control/groups", groups.list),
        ("GET", "/control/groups/{id}", groups.show),
        ("POST", "/control/groups/{id}", groups.rename),
        ("POST", "/control/groups/{id}/members", groups.members),
        ("POST", "/control/faults", network.arm_fault),
        ("GET", "/control/faults", network.faults),
        ("DELETE", "/control/faults/{id}", network.disarm_fault),
        ("GET", "/control/stats", network.stats),
        ("GET", "/control/trace", network.trace),
        ("POST", "/control/reset", network.reset),
    ]
    return [Route(path, handler, methods=[method]) for method, path, handler in calls]


def device_id(request: Request) -> int:
    """The device in the path; an id that cannot exist is simply not found."""
    text = request.path_params["id"]
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise RefusedError(404, "this phone has no such device")
    return int(text)


class PeopleCalls:
    """What people do with their phones."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _phone(self, request: Request) -> Phone:
        return self._world.phone(ask.phone_number(request.path_params["number"], "number"))

    async def create(self, request: Request) -> Response:
        """`POST /control/phones`"""
        body = await ask.body_of(request)
        phone, is_new = self._world.create_phone(
            ask.phone_number(body.get("number"), "number"),
            ask.optional_text(body, "name"),
            business=ask.flag(body, "business", default=False),
            lid=ask.lid_field(body),
            hidden=ask.flag(body, "hidden", default=False),
            lid_hidden=ask.flag(body, "lidHidden", default=False),
        )
        return answer(phone_summary(phone), 201 if is_new else 200)

    async def list(self, _: Request) -> Response:
        """`GET /control/phones`"""
        return answer({"phones": [phone_details(self._world, phone) for phone in self._world.phones.values()]})

    async def show(self, request: Request) -> Response:
        """`GET /control/phones/{number}`"""
        return answer(phone_details(self._world, self._phone(request)))

    async def scan(self, request: Request) -> Response:
        """`POST …/scan`"""
        phone = self._phone(request)
        return answer({"device": phone.scan(ask.pairing_request(await ask.body_of(request)))})

    async def pair(self, request: Request) -> Response:
        """`POST …/pair`"""
        phone = self._phone(request)
        return answer({"device": await phone.link_by_code(ask.linking_code(await ask.body_of(request)))})

    async def send(self, request: Request) -> Response:
        """`POST …/send`"""
        phone = self._phone(request)
        body = await ask.body_of(request)
        message_id = phone.send(ask.recipient(body), content_of(body), ask.quote_of(body), ask.addressing(body))
        return answer({"messageId": message_id}, 202)

    async def vote(self, request: Request) -> Response:
        """`POST …/vote`"""
        phone = self._phone(request)
        body = await ask.body_of(request)
        poll_id = ask.text_field(body, "pollId")
        message_id = phone.vote(poll_id, ask.vote_options(body), ask.addressing(body))
        return answer({"messageId": message_id}, 202)

    async def messages(self, request: Request) -> Response:
        """`GET …/messages`"""
        phone = self._phone(request)
        after = ask.query_number(request, "after")
        wait_ms = ask.query_number(request, "wait", ask.MAX_WAIT_MS)
        found = phone.state.inbox.after(after)
        if not found and wait_ms:
            found = await phone.state.inbox.wait_after(after, wait_ms / 1000)
        return answer({"messages": found})

    async def media(self, request: Request) -> Response:
        """`GET …/messages/{id}/media`"""
        mime, data = self._phone(request).open_media(request.path_params["id"])
        return Response(data, media_type=mime)

    async def presence(self, request: Request) -> Response:
        """`GET …/presence`"""
        return answer({"events": self._phone(request).state.presence.after(ask.query_number(request, "after"))})

    async def show_presence(self, request: Request) -> Response:
        """`POST …/presence`"""
        phone, body = self._phone(request), await ask.body_of(request)
        to = None if body.get("to") is None else ask.recipient(body)
        phone.show_presence(ask.one_of(body, "state", STATES), to)
        return answer({"ok": True})

    async def call(self, request: Request) -> Response:
        """`POST …/call`"""
        phone, body = self._phone(request), await ask.body_of(request)
        to = ask.phone_number(body.get("to"), "to")
        call_id = phone.call(to, ask.addressing(body), video=ask.flag(body, "video", default=False))
        return answer({"callId": call_id}, 202)

    async def hang_up(self, request: Request) -> Response:
        """`POST …/hangup`"""
        phone, body = self._phone(request), await ask.body_of(request)
        how = ask.one_of(body | {"as": body.get("as", "terminate")}, "as", ENDINGS)
        phone.hang_up(ask.text_field(body, "callId"), how)
        return answer({"ok": True})

    async def calls(self, request: Request) -> Response:
        """`GET …/calls`"""
        return answer({"events": self._phone(request).live.calls.after(ask.query_number(request, "after"))})

    async def read(self, request: Request) -> Response:
        """`POST …/read`"""
        phone = self._phone(request)
        phone.mark_read(ask.text_field(await ask.body_of(request), "messageId"))
        return answer({"ok": True})

    async def online(self, request: Request) -> Response:
        """`POST …/online`"""
        phone = self._phone(request)
        online = ask.flag(await ask.body_of(request), "online")
        self._world.set_online(phone, online)
        return answer({"online": online})

    async def remove_device(self, request: Request) -> Response:
        """`DELETE …/devices/{id}`"""
        self._world.network.remove_device(self._phone(request).number, device_id(request))
        return answer({"ok": True})


class NetworkCalls:
    """What an operator sees of the network and does to it."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def health(self, request: Request) -> Response:
        """`GET /control/health`"""
        ws_url = self._world.ws_url or f"ws://{request.url.netloc}/ws/chat"
        return answer({"ok": True, "wsUrl": ws_url, "trustRoot": self._world.trust_root})

    async def arm_fault(self, request: Request) -> Response:
        """`POST /control/faults`"""
        body = await ask.body_of(request)
        times = body.get("times")
        if times is not None and (isinstance(times, bool) or not isinstance(times, int) or times < 0):
            raise RefusedError(400, "times: expected a whole number, 0 for no limit")
        match, do = ask.object_field(body, "match", {}), ask.object_field(body, "do")
        return answer({"id": self._world.network.arm_fault(match, do, times)}, 201)

    async def faults(self, _: Request) -> Response:
        """`GET /control/faults`"""
        return answer({"faults": list(self._world.network.faults())})

    async def disarm_fault(self, request: Request) -> Response:
        """`DELETE /control/faults/{id}`"""
        self._world.network.disarm_fault(request.path_params["id"])
        return answer({"ok": True})

    async def inject(self, request: Request) -> Response:
        """`POST …/devices/{id}/inject`"""
        phone = self._world.phone(ask.phone_number(request.path_params["number"], "number"))
        fault = ask.object_field(await ask.body_of(request), "fault")
        self._world.network.inject(phone.number, device_id(request), fault)
        return answer({"ok": True})

    async def stats(self, _: Request) -> Response:
        """`GET /control/stats`"""
        return answer(self._world.network.stats())

    async def trace(self, request: Request) -> Response:
        """`GET /control/trace`"""
        asked = request.query_params.get("number")
        number = None if asked is None else ask.phone_number(asked, "number")
        stanzas = self._world.network.trace(number, ask.query_number(request, "after"))
        return answer({"stanzas": list(stanzas)})

    async def reset(self, _: Request) -> Response:
        """`POST /control/reset`"""
        self._world.reset()
        return answer({"ok": True})
