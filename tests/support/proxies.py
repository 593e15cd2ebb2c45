"""Small proxies for tests: HTTP CONNECT and SOCKS5, each with a user and a password, counting what goes through."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import quote

from tests.support.ports import HeldPort

_CHUNK = 65536


@dataclass
class Proxy:
    """A running proxy. `user` None: nobody has to say who they are."""

    user: str | None = None
    password: str = ""
    port: int = 0
    targets: list[str] = field(default_factory=list)
    """`host:port` as asked for, one per connection that was made."""
    refused: int = 0
    """Connections with wrong credentials or none."""
    first_bytes: list[bytes] = field(default_factory=list)
    """What the client sent first through each connection."""
    open: int = 0
    """Connections from clients that are open now."""
    hangs: bool = False
    """Whether it accepts connections and then says nothing."""
    rejects: bool = False
    """Whether it makes no connection for those that it knows either."""
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _held: HeldPort | None = None
    """It may be started again, and is looked for in the same place."""

    def url(self, scheme: str, password: str | None = None) -> str:
        """Its address, with the credentials or with another password."""
        if self.user is None:
            return f"{scheme}://127.0.0.1:{self.port}"
        secret = quote(self.password if password is None else password, safe="")
        return f"{scheme}://{quote(self.user, safe='')}:{secret}@127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self._writers.add(writer)
        try:
            if self.hangs:
                await reader.read()
            else:
                await self._take(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            self._writers.discard(writer)
            writer.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    async def _join(self, host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes between the client and the target until either ends."""
        self.targets.append(f"{host}:{port}")
        there_reader, there_writer = await asyncio.open_connection(host, port)
        number = len(self.first_bytes)
        self.first_bytes.append(b"")

        async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, *, ours: bool) -> None:
            while data := await source.read(_CHUNK):
                if ours and not self.first_bytes[number]:
                    self.first_bytes[number] = data[:16]
                target.write(data)
                await target.drain()

        ways = [
            asyncio.create_task(carry(reader, there_writer, ours=True)),
            asyncio.create_task(carry(there_reader, writer, ours=False)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            there_writer.close()


class HttpProxy(Proxy):
    """CONNECT with Basic credentials."""

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        wanted = "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        method, target, _ = first.split(" ")
        if method != "CONNECT" or (self.user is not None and headers.get("proxy-authorization") != wanted):
            self.refused += 1
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        if self.rejects:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        host, _, port = target.rpartition(":")
        await self._join(host, int(port), reader, writer)


class Socks5Proxy(Proxy):
    """SOCKS 5 (RFC 1928) with user and password (RFC 1929), CONNECT only."""

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        offered = await reader.readexactly(count)
        method = 0 if self.user is None else 2
        if method not in offered:
            self.refused += 1
            writer.write(b"\x05\xff")
            await writer.drain()
            return
        writer.write(bytes((5, method)))
        if method == 2 and not await self._knows(reader, writer):
            return
        _, _, _, kind = await reader.readexactly(4)
        host = await self._address(kind, reader)
        port = int.from_bytes(await reader.readexactly(2), "big")
        if self.rejects:
            # Not allowed by its rules.
            writer.write(b"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00")
            await writer.drain()
            return
        writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        await self._join(host, port, reader, writer)

    async def _knows(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        _, length = await reader.readexactly(2)
        user = (await reader.readexactly(length)).decode()
        [length] = await reader.readexactly(1)
        known = (user, (await reader.readexactly(length)).decode()) == (self.user, self.password)
        self.refused += not known
        writer.write(b"\x01\x00" if known else b"\x01\x01")
        await writer.drain()
        return known

    async def _address(self, kind: int, reader: asyncio.StreamReader) -> str:
        if kind == 3:
            [length] = await reader.readexactly(1)
            return (await reader.readexactly(length)).decode()
        return ".".join(str(byte) for byte in await reader.readexactly(4))


@contextlib.asynccontextmanager
async def proxy_running(proxy: Proxy, tls: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    """Serve until the end of the block, on the port it had before or on a free one; with `tls`, to clients that speak
    TLS.
    """
    if not proxy.port:
        proxy._held = HeldPort()
        proxy.port = proxy._held.number
    server = await asyncio.start_server(proxy._serve, "127.0.0.1", proxy.port, ssl=tls)
    try:
        yield proxy
    finally:
        server.close()
        for writer in list(proxy._writers):
            writer.transport.abort()
        await server.wait_closed()
