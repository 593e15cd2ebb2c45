"""The event log over HTTP: pages of an instance's events, and streams (server-sent events) that follow it.

A stream reads the same storage as the pages; hints only make it look sooner. So a client that comes back with
`Last-Event-ID` goes on exactly where it was, whatever happened to the gateway meanwhile. Nothing is held for a client
but one batch: who does not read is cut off, and comes back.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from wahub.api import schemas
from wahub.api.body import Fields
from wahub.api.deps import ApiDeps
from wahub.api.hub import path_id
from wahub.domain.errors import CallerError, InstanceNotFoundError, InvalidFieldError
from wahub.domain.event import LOGGED, Gap, LoggedEvent, Mark, Span, Start
from wahub.domain.ids import InstanceId, instance_id
from wahub.domain.times import iso
from wahub.domain.webhook import EVERY_EVENT
from wahub.ports.store import Tx
from wahub.ports.wakeup import EVENTS
from wahub.services import instance
from wahub.services.event import start_of_all, start_of_one

log = structlog.get_logger("wahub.http")

_LISTED, _MOST_LISTED = 100, 1_000
_MOST_STREAMS = 128
_BATCH = 100
_LOOK_EVERY = 1.0
"""Seconds between two looks when no hint comes; also how late a stream notices that the gateway stops."""

_PING_EVERY = 10.0
_SEND_PATIENCE = 15.0
"""Seconds for which a client may leave its socket full."""

_NUMBER = re.compile(r"[0-9]{1,15}")
_encode = msgspec.json.Encoder().encode


class _Body(msgspec.Struct):
    data: msgspec.Raw


_data_of = msgspec.json.Decoder(_Body).decode


class TooManyStreamsError(CallerError):
    status = 429

    def __init__(self) -> None:
        super().__init__(f"There are {_MOST_STREAMS} event streams already: close one")


@dataclass(frozen=True, slots=True)
class EventRoutes:
    """Handlers. One for the whole application: it counts the streams."""

    deps: ApiDeps
    streams: set[object] = field(default_factory=set)

    async def page(self, request: Request) -> Response:
        """`GET /instances/{id}/events?after=N&limit=`: events beyond a number, oldest first."""
        wanted, now = path_id(request), self.deps.clock.now()
        query = Fields(dict(request.query_params), form=True)
        after = _whole(query, "after", 0, 0, 2**53)
        limit = _whole(query, "limit", _LISTED, 1, _MOST_LISTED)

        def look(tx: Tx) -> tuple[Span, Sequence[LoggedEvent]]:
            instance.get(tx, wanted)
            return tx.events.span(wanted), tx.events.after(wanted, after, limit)

        span, found = await self.deps.database.read(look)
        reached = found[-1].sequence if found else span.newest
        # A number that is not there yet belongs to an instance of the same name that was deleted.
        foreign = after > span.newest
        shown = {
            "events": [shown_event(event.at(now)) for event in found],
            "next": span.oldest - 1 if foreign else reached,
            "oldest": span.oldest,
            "newest": span.newest,
            "gap": foreign or after + len(found) < reached,
        }
        return schemas.success(shown)

    async def stream_of(self, request: Request) -> Response:
        """`GET /instances/{id}/events/stream`: follows one instance; ids are its numbers."""
        wanted = path_id(request)
        last, after = request.headers.get("last-event-id"), request.query_params.get("after")
        resumed = last or after
        if resumed is not None and not _NUMBER.fullmatch(resumed):
            named = "Last-Event-ID" if last else "after"
            raise InvalidFieldError(f"{named} must be a number of this instance's events")
        chosen = _filter(request)

        def start(tx: Tx) -> Start:
            instance.get(tx, wanted)
            if last is None and chosen.instances - {wanted}:
                raise InvalidFieldError("instance can name no other instance here: GET /events/stream follows several")
            return start_of_one(tx, wanted, None if resumed is None else int(resumed))

        def read(tx: Tx, at: int) -> tuple[Sequence[LoggedEvent], int]:
            instance.get(tx, wanted)
            found = tx.events.after(wanted, at, _BATCH)
            return found, found[-1].sequence if found else at

        begin = await self.deps.database.read(start)
        return self._stream(_Stream(self.deps, begin, read, chosen, lambda event: str(event.sequence)))

    async def stream_all(self, request: Request) -> Response:
        """`GET /events/stream`: follows all instances; ids are `<instance>:<number>:<position>`."""
        mark, chosen = _mark(request), _filter(request)

        def start(tx: Tx) -> Start:
            # Who comes back goes on, also when one of several was deleted meanwhile.
            if mark is None and any(tx.instances.get(name) is None for name in chosen.instances):
                raise InvalidFieldError("instance must name instances that there are")
            return start_of_all(tx, mark, chosen.instances)

        def read(tx: Tx, at: int) -> tuple[Sequence[LoggedEvent], int]:
            found = tx.events.since(at, _BATCH)
            return found, found[-1].position if found else at

        begin = await self.deps.database.read(start)
        return self._stream(_Stream(self.deps, begin, read, chosen, lambda event: str(event.mark)))

    def _stream(self, stream: _Stream) -> Response:
        if len(self.streams) >= _MOST_STREAMS:
            raise TooManyStreamsError
        self.streams.add(stream)
        stream.on_end = lambda: self.streams.discard(stream)
        return stream


def shown_event(event: LoggedEvent) -> dict[str, Any]:
    """`{sequence, eventId, event, data, createdAt}`; `data` is byte for byte what a webhook gets."""
    return {
        "sequence": event.sequence,
        "eventId": event.event_id,
        "event": event.event,
        "data": _data_of(event.body.encode()).data,
        "createdAt": iso(event.created_at),
    }


@dataclass(frozen=True, slots=True)
class _Filter:
    """What a stream shows; empty sets mean everything."""

    instances: frozenset[InstanceId]
    events: frozenset[str]

    def passes(self, event: LoggedEvent) -> bool:
        if event.sequence == 0:
            return False
        return (not self.instances or event.instance in self.instances) and (
            not self.events or event.event in self.events
        )


def _filter(request: Request) -> _Filter:
    """`?instance=…&event=…`, each several times or with commas. A name that no event has would wait for ever."""

    def words(name: str) -> list[str]:
        return [word for value in request.query_params.getlist(name) for word in value.split(",") if word]

    events = frozenset(words("event"))
    if EVERY_EVENT in events:
        events = frozenset()
    if events - LOGGED:
        raise InvalidFieldError(f"event must name events of the log: {', '.join(sorted(LOGGED))}")
    return _Filter(frozenset(instance_id(name) for name in words("instance")), events)


def _mark(request: Request) -> Mark | None:
    if "after" in request.query_params:
        raise InvalidFieldError("after is for the stream of one instance: send the last id as Last-Event-ID")
    last = request.headers.get("last-event-id")
    try:
        return None if last is None else Mark.parse(last)
    except ValueError:
        raise InvalidFieldError("Last-Event-ID must be an id of this stream, <instance>:<number>:<position>") from None


def _whole(query: Fields, name: str, default: int, least: int, most: int) -> int:
    what = f"a whole number from {least} to {most}"
    found = query.number(name, what)
    if found is None:
        return default
    if found != int(found) or not least <= found <= most:
        raise InvalidFieldError(f"{name} must be {what}")
    return int(found)


class _Stream(Response):
    """The response that follows the log until the client goes, the gateway stops, or nobody reads."""

    def __init__(
        self,
        deps: ApiDeps,
        begin: Start,
        read: Callable[[Tx, int], tuple[Sequence[LoggedEvent], int]],
        passes: _Filter,
        name: Callable[[LoggedEvent], str],
    ) -> None:
        # No super().__init__: there is no body to render, and no length.
        self.background = None
        self.status_code = 200
        self.on_end: Callable[[], None] = lambda: None
        self._deps = deps
        self._at, self._gaps = begin.at, begin.gaps
        self._read = read
        self._filter = passes
        self._name = name
        self._said_at = deps.clock.monotonic()

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_until_gone(receive))
        following = asyncio.ensure_future(self._follow(send))
        try:
            await asyncio.wait((gone, following), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.on_end()
            for task in (gone, following):
                task.cancel()
            _, fault = await asyncio.gather(gone, following, return_exceptions=True)
            if isinstance(fault, Exception):
                # The client comes back and goes on where it was.
                log.warning("an event stream ended early", error=type(fault).__name__)

    async def _follow(self, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            # Proxies that buffer would hold events back.
            (b"x-accel-buffering", b"no"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            await self._say(send, self._greeting())
            while not self._deps.stopping():
                await self._step(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except InstanceNotFoundError:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            log.info("an event stream was ended: its client does not read")

    def _greeting(self) -> bytes:
        return b"retry: 1000\n: wahub\n\n" + b"".join(map(_told, self._gaps))

    async def _step(self, send: Send) -> None:
        """Say what is new; else wait for more, and say now and then that we are there."""
        at = self._at
        found, self._at = await self._deps.database.read(lambda tx: self._read(tx, at))
        now = self._deps.clock.now()
        chosen = [event.at(now) for event in found if self._filter.passes(event)]
        if chosen:
            await self._say(send, b"".join(map(self._written, chosen)))
        elif self._deps.clock.monotonic() - self._said_at >= _PING_EVERY:
            await self._say(send, b": ping\n\n")
        if not found:
            await self._deps.wakeup.wait(EVENTS, _LOOK_EVERY)

    def _written(self, event: LoggedEvent) -> bytes:
        shown = _encode({"instanceId": event.instance, **shown_event(event)})
        return b"id: " + self._name(event).encode() + b"\ndata: " + shown + b"\n\n"

    async def _say(self, send: Send, text: bytes) -> None:
        async with asyncio.timeout(_SEND_PATIENCE):
            await send({"type": "http.response.body", "body": text, "more_body": True})
        self._said_at = self._deps.clock.monotonic()


def _told(gap: Gap) -> bytes:
    said = {"instanceId": gap.instance, "after": gap.after, "oldest": gap.oldest}
    return b"event: gap\ndata: " + _encode(said) + b"\n\n"


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
