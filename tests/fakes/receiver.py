"""A webhook receiver on loopback that tests script: what it answers, and when."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Got:
    """One request that arrived."""

    headers: Mapping[str, str]
    body: bytes
    path: str
    peer: object = None
    """The other end of the connection; the same for requests over one connection."""

    @property
    def event_id(self) -> str:
        return self.headers["x-wa-hub-event-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """`answer` says the status of each request; `hold` keeps requests open until it is set."""

    url: str = ""
    answer: Callable[[Got], int] = lambda _got: 200
    hold: asyncio.Event | None = None
    got: list[Got] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b'{"received":true}'
    at_once: int = 0
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self._news = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        got = Got(
            dict(request.headers),
            await request.read(),
            request.raw_path,
            request.transport and request.transport.get_extra_info("peername"),
        )
        self.got.append(got)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self._news.set()
        try:
            if self.hold is not None:
                await self.hold.wait()
            return web.Response(status=self.answer(got), body=self.body, headers=self.headers)
        finally:
            self.at_once -= 1

    async def wait_for(self, count: int, seconds: float = 30.0) -> list[Got]:
        """Wait until that many requests arrived."""
        async with asyncio.timeout(seconds):
            while len(self.got) < count:
                self._news.clear()
                await self._news.wait()
        return self.got


@asynccontextmanager
async def receiver(tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[Receiver]:
    """Run one on a free port."""
    made = Receiver(**options)
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{any:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    made.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/hook"
    try:
        yield made
    finally:
        await runner.cleanup()
