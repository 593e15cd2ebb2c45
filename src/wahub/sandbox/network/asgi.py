"""Sockets: an ASGI application that moves bytes between a WebSocket and a `Session`.

Frames that wait together leave as one WebSocket message (clients cut the stream by frame lengths). The state file is
committed before any byte leaves, here and in what `Committed` wraps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from wahub.sandbox.network.faults import GONE
from wahub.sandbox.network.network import Network
from wahub.sandbox.network.session import Session

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_CONNECTION = "wahub.sandbox.connection"
_SWITCHING = 101


class ChatConnection(WebSocketsSansIOProtocol):
    """One TCP connection after a request to upgrade, for faults that are below WebSocket."""

    deaf = False

    def handle_connect(self, event: Request) -> None:
        """The application finds the connection in its scope."""
        super().handle_connect(event)
        if self.response.status_code == _SWITCHING:  # otherwise the request was refused, and there is no scope
            extensions: MutableMapping[str, Any] = self.scope["extensions"]
            extensions[_CONNECTION] = self

    def data_received(self, data: bytes) -> None:
        """Deaf: nothing is read any more, not even a close frame."""
        if not self.deaf:
            super().data_received(data)

    def go_deaf(self) -> None:
        """From now on TCP lives and nobody is there."""
        self.deaf = True

    def hang_up(self) -> None:
        """Reset the TCP connection."""
        self.transport.abort()


class ChatApp:
    """The endpoint `/ws/chat`."""

    def __init__(self, network: Network) -> None:
        self._network = network

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one socket until either side ends it. Returning without a close frame closes TCP (fault `drop`)."""
        await receive()
        connection: ChatConnection = scope["extensions"][_CONNECTION]
        fault = self._network.take_attempt()
        if fault is not None:
            await self._refuse(fault, connection, receive)
            return
        await send({"type": "websocket.accept"})
        session = self._network.open_session()
        session.on_deaf = connection.go_deaf
        reader = asyncio.create_task(_read(session, receive))
        try:
            await self._write(session, send)
        finally:
            session.close()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _refuse(self, fault: str, connection: ChatConnection, receive: Receive) -> None:
        """Before the upgrade: hang up, or leave it unanswered until the client goes."""
        if fault == GONE:
            connection.hang_up()
        with self._network.held(connection.hang_up):
            while (await receive())["type"] != "websocket.disconnect":
                pass

    async def _write(self, session: Session, send: Send) -> None:
        store = self._network.store
        wake = session.wake
        while True:
            await wake.wait()
            await asyncio.sleep(0)  # one turn for phones to answer, so that ack and receipts leave in one write
            wake.clear()
            store.commit()
            if session.aborted:
                return
            frames = session.take_output()
            try:
                if session.delay:
                    for frame in frames:
                        await asyncio.sleep(session.delay)
                        await send({"type": "websocket.send", "bytes": frame})
                elif frames:
                    await send({"type": "websocket.send", "bytes": frames[0] if len(frames) == 1 else b"".join(frames)})
                if session.closed and not wake.is_set():
                    await send({"type": "websocket.close", "code": 1000})
                    return
            except OSError:
                return


class Committed:
    """An HTTP application whose answers leave when what they tell is in the state file."""

    def __init__(self, network: Network, app: Callable[..., Awaitable[None]]) -> None:
        self._network = network
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Commit, then answer."""

        async def send_committed(message: Message) -> None:
            self._network.store.commit()
            await send(message)

        await self._app(scope, receive, send_committed)


async def _read(session: Session, receive: Receive) -> None:
    """Feed the session until the peer goes away."""
    while True:
        message = await receive()
        if message["type"] != "websocket.receive":
            session.abort()
            return
        data = message.get("bytes")
        if data:
            session.feed(data)
