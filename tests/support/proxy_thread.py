"""A proxy of tests/support/proxies.py for tests without an event loop: it runs in one of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from tests.support.proxies import Proxy, proxy_running
from tests.support.waiting import POLL


@contextmanager
def proxy_up(proxy: Proxy) -> Iterator[Proxy]:
    """Serve until the end of the block, then cut every connection; may be done again, on the same port."""
    up: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        over = asyncio.Event()
        try:
            async with proxy_running(proxy):
                up.set_result((asyncio.get_running_loop(), over))
                await over.wait()
            while proxy.open:  # noqa: ASYNC110 - it counts its connections and tells nobody
                await asyncio.sleep(POLL)
        except OSError as error:
            up.set_exception(error)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    loop, over = up.result(10)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        assert not thread.is_alive(), "the proxy does not end"
