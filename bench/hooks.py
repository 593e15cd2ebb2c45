"""`python -m bench.hooks`: receivers of webhooks in a process of their own, as quick as a loop of Python's can be.

A path that begins with `/hang` never gets an answer. The first line of stdout is the port.
"""

from __future__ import annotations

import asyncio
from typing import cast

import uvloop

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Hook(asyncio.Protocol):
    """One connection; requests come whole or in pieces, one after the other."""

    def __init__(self) -> None:
        self._held = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio's, but not their class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end]
            size = end + 4 + _length(head)
            if len(self._held) < size:
                return
            body, self._held = self._held[end + 4 : size], self._held[size:]
            self.take(head, body)

    def take(self, head: bytes, body: bytes) -> None:  # noqa: ARG002 - for those who look at it
        """A whole request came: answer it."""
        if not head.startswith(b"POST /hang"):
            self._transport.write(_OK)


def _length(head: bytes) -> int:
    at = head.lower().find(b"content-length:")
    return int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


async def _main() -> None:
    server = await asyncio.get_running_loop().create_server(Hook, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main())
