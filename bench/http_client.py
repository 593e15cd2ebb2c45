"""A light HTTP/1.1 client: keep-alive, one request at a time per connection, answers with a length.

Its CPU time comes off the cores that the gateway is measured on, so it does no more than it must. It is for the two
servers of the benchmarks, not for the world.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit


class Connection:
    """One connection to one server. Not for two tasks at once."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._head_end = f" HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n".encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Send one request; its status and body."""
        if self._streams is not None and self._streams[0].at_eof():
            # Servers close connections that rest for some seconds.
            await self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        kind = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) if body else b"\r\n"
        writer.write(b"%s %s" % (method.encode(), path.encode()) + self._head_end + kind + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length, closes = _length_and_close(head)
        answer = await reader.readexactly(length)
        if closes:
            await self.close()
        return int(head[9:12]), answer

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The decoded answer; raises CallError unless the status is 2xx."""
        status, answer = await self.request(method, path, json.dumps(body).encode() if body is not None else b"")
        if not 200 <= status < 300:
            raise CallError(f"{method} {path} answered {status}: {answer[:300].decode(errors='replace')}", status)
        return json.loads(answer)

    async def close(self) -> None:
        """Close it; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class CallError(Exception):
    """The server refused."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


def _length_and_close(head: bytes) -> tuple[int, bool]:
    length, closes = 0, False
    for line in head.lower().split(b"\r\n")[1:]:
        if line.startswith(b"content-length:"):
            length = int(line[15:])
        elif line.startswith(b"connection:"):
            closes = b"close" in line
    return length, closes
