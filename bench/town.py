"""The shipped sandbox with somebody inside who writes on behalf of its phones: `bench/town.py --ready-file FILE`.

What arrives must be bound neither by HTTP calls to the control API nor by the phones' encryption, which is Python. So
messages can be written beforehand: the sessions of the accounts hold them back, encrypted and ready, until they are let
go all at once. At a steady rate nothing is held back.

The time of a message is taken when the frame with its stanza is handed to the socket, after the Noise encryption; what
the phone and the server did before does not count.

Beside the control API, on the same port:

    POST /bench/hold     {from:[number], to:[number], each}   each `to` gets so many, in turn from everybody
    POST /bench/release  {} → {began, ended}                  epoch seconds: the first and the last frame written
    POST /bench/steady   {from, to, count, perSecond} → {written: {messageId: epoch seconds}}
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from wahub.sandbox import serve
from wahub.sandbox.control.answers import answer
from wahub.sandbox.control.app import build_control_app
from wahub.sandbox.network.session import Session
from wahub.sandbox.node import Node
from wahub.sandbox.phone.content import Text
from wahub.sandbox.world import World

SLICE = 32
"""Messages that are let go in one turn of the event loop: some fill a segment of TCP, none waits for the last."""
_WRITTEN_AT_ONCE = 8

_send, _take_output = Session.send, Session.take_output


class Gate:
    """Stands between the server and the sockets: holds messages back, and notes when they are written."""

    def __init__(self) -> None:
        self.holding = False
        self.held: deque[tuple[Session, Node]] = deque()
        self.written: dict[str, float] = {}
        """When each message was handed to its socket, epoch seconds."""
        self._queued: dict[Session, list[str]] = {}

    def send(self, session: Session, stanza: Node) -> None:
        """In place of `Session.send`."""
        if stanza.tag == "message":
            if self.holding:
                self.held.append((session, stanza))
                return
            self._queued.setdefault(session, []).append(stanza.attrs["id"])
        _send(session, stanza)

    def take_output(self, session: Session) -> list[bytes]:
        """In place of `Session.take_output`: whoever takes frames writes them at once."""
        frames, now = _take_output(session), time.time()
        for message_id in self._queued.pop(session, ()):
            self.written.setdefault(message_id, now)
        return frames

    def stand(self) -> None:
        """Take the place of both methods, for all sessions of this process."""

        def send(session: Session, stanza: Node) -> None:
            self.send(session, stanza)

        def take_output(session: Session) -> list[bytes]:
            return self.take_output(session)

        # The server makes its sessions itself, and has no use for a door here.
        Session.send = send  # type: ignore[assignment, method-assign]
        Session.take_output = take_output  # type: ignore[assignment, method-assign]


class Writers:
    """People who write."""

    def __init__(self, world: World, gate: Gate) -> None:
        self._world = world
        self._gate = gate
        self._numbers = itertools.count(1)

    def routes(self) -> list[Route]:
        """The calls of this module's docstring."""
        calls = {"hold": self.hold, "release": self.release, "steady": self.steady}
        return [Route(f"/bench/{name}", call, methods=["POST"]) for name, call in calls.items()]

    async def hold(self, request: Request) -> Response:
        """`POST /bench/hold`"""
        body = await request.json()
        self._gate.holding = True
        pairs = who_writes(body["from"], body["to"], body["each"] * len(body["to"]))
        for number, (sender, to) in enumerate(pairs):
            self._write(sender, to)
            if number % _WRITTEN_AT_ONCE == 0:
                await asyncio.sleep(0)
        return answer({"held": len(self._gate.held)})

    async def release(self, _: Request) -> Response:
        """`POST /bench/release`"""
        gate = self._gate
        gate.holding = False
        released = [stanza.attrs["id"] for _, stanza in gate.held]
        gate.written.clear()
        while gate.held:
            for _turn in range(min(SLICE, len(gate.held))):
                gate.send(*gate.held.popleft())
            await asyncio.sleep(0)
        times = await self._times(released)
        return answer({"began": min(times.values()), "ended": max(times.values())})

    async def steady(self, request: Request) -> Response:
        """`POST /bench/steady`"""
        body = await request.json()
        self._gate.written.clear()
        loop, gap = asyncio.get_running_loop(), 1 / body["perSecond"]
        ids: list[str] = []
        due = loop.time()
        for sender, to in who_writes(body["from"], body["to"], body["count"]):
            ids.append(self._write(sender, to))
            due += gap
            await asyncio.sleep(max(due - loop.time(), 0))
        return answer({"written": await self._times(ids)})

    def _write(self, sender: str, to: str) -> str:
        text = f"Good morning, has order {next(self._numbers)} left already? I had asked for it by Friday."
        return self._world.phone(sender).send(to, Text(text))

    async def _times(self, ids: list[str]) -> dict[str, float]:
        """Each message and when it was written; waits for those that are about to be."""
        while not all(message_id in self._gate.written for message_id in ids):  # noqa: ASYNC110 - the writers' turn
            await asyncio.sleep(0.001)
        return {message_id: self._gate.written[message_id] for message_id in ids}


def who_writes(senders: list[str], to: list[str], count: int) -> Iterator[tuple[str, str]]:
    """Who writes to whom: the recipients in turn, each from everybody in turn."""
    for number in range(count):
        yield senders[number // len(to) % len(senders)], to[number % len(to)]


def main() -> None:
    """Run until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ready-file", type=Path, required=True)
    ready: Path = parser.parse_args().ready_file
    gate = Gate()
    gate.stand()

    def with_writers(world: World) -> Any:
        app: Starlette = build_control_app(world)
        app.router.routes.extend(Writers(world, gate).routes())
        return app

    serve.build_control_app = with_writers  # type: ignore[attr-defined]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(serve.serve(serve.SandboxOptions(port=0, ready_file=ready)))


if __name__ == "__main__":
    main()
