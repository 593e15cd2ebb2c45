"""Posts webhooks over HTTP (ports/poster.py).

- A connection goes only to an address that the rules allow *at the moment of connecting*: the socket is made for one
  resolved address, and that address is judged right there, so a name that resolves differently the second time gains
  nothing. Kept-alive connections were judged when they were made.
- Redirects are not followed, proxies of the environment are not used, cookies are not kept.
- One deadline covers name resolution, connecting, TLS, sending and the answer.
- Error texts are made here from the kind of the fault; nothing of the URL, the headers or the answer gets into them.

aiohttp, because the HTTP library is what a delivery costs: on one machine and loop a POST took 0.08 ms of CPU, against
0.7 to 1.4 ms with httpcore and 1.2 ms with httpx, whose pool looks at every open connection on each request. It also
asks us for each socket, which is where the address is judged.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import re
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from urllib.parse import unquote

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType
from yarl import URL

from wahub.domain import target
from wahub.ports.poster import PostResult

_DRAIN_LIMIT = 65_536
"""Bytes of an answer that are read so that the connection can be used again; after more it is closed instead."""

_WELL_FORMED = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*")
"""RFC 3986, section 2: reserved, unreserved and percent-encoded characters."""

_RESOLVER_THREADS = 16
_KEEP_ALIVE = 4.0
"""Seconds. Common receivers (Node, uvicorn) close idle connections after 5 s; a POST must not cross with that."""


class _ForbiddenTargetError(OSError):
    """The address may not be called. An OSError, so that the next address of the same name is tried."""


class _NameError(OSError):
    """The name has no address."""


class HttpPoster:
    """One pool of connections for all endpoints. Make it inside the running event loop."""

    def __init__(
        self,
        timeout: float,
        *,
        block_private: bool = False,
        tls: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._timeout = timeout
        self._block_private = block_private
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=tls if tls is not None else True,
                resolver=resolver or _Resolver(block_private),
                use_dns_cache=False,
                # How many run at the same time is the dispatcher's affair.
                limit=0,
                keepalive_timeout=_KEEP_ALIVE,
                socket_factory=self._socket,
            ),
            # One deadline around everything instead of aiohttp's timers.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None, connect=None, sock_read=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
        )

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> PostResult:
        """POST once; never raises for what a receiver or the network does."""
        status: int | None = None
        try:
            async with asyncio.timeout(self._timeout):
                where, credentials = _split(url)
                if credentials is not None and "authorization" not in headers:
                    headers = {**headers, "authorization": credentials}
                async with self._session.post(where, data=body, headers=headers, allow_redirects=False) as response:
                    status = response.status
                    await _drain(response)
        except (OSError, ValueError, aiohttp.ClientError, TimeoutError) as error:
            if status is None:
                return PostResult(None, self._explain(error))
        if 300 <= status < 400:
            return PostResult(status, f"HTTP {status}: redirects are not followed, set the final URL")
        return PostResult(status, None if 200 <= status < 300 else f"HTTP {status}")

    async def close(self) -> None:
        """Release sockets. Closing twice is fine."""
        await self._session.close()

    def _socket(self, info: AddrInfoType) -> socket.socket:
        """A socket for one address that is about to be connected to, or the refusal of that address."""
        family, kind, protocol, _, address = info
        _judge(str(address[0]), self._block_private)
        made = socket.socket(family=family, type=kind, proto=protocol)
        made.setblocking(False)
        return made

    def _explain(self, error: Exception) -> str:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, _ForbiddenTargetError):
                return "the target address is not allowed (link-local, metadata, or private by WEBHOOK_BLOCK_PRIVATE)"
            if isinstance(cause, BaseExceptionGroup):
                cause = cause.exceptions[0]
                continue
            if isinstance(cause, _NameError | socket.gaierror):
                return "the host name could not be resolved"
            cause = getattr(cause, "os_error", None) or cause.__cause__
        return _explain_fault(error, self._timeout)


def _explain_fault(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "the TLS certificate is not trusted or does not match the host"
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return "the TLS handshake failed"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "the connection was refused or could not be made"
    if isinstance(error, aiohttp.InvalidURL):
        return "the URL is not valid"
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientResponseError):
        return "the answer was not valid HTTP"
    if isinstance(error, OSError | aiohttp.ClientConnectionError):
        return "the connection was closed before an answer came"
    return f"the request could not be sent ({type(error).__name__})"


class _Resolver(AbstractResolver):
    """The system's resolver in threads of its own: a name server that hangs holds up nothing else."""

    def __init__(self, block_private: bool) -> None:
        self._block_private = block_private
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, thread_name_prefix="webhook-dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a name that may be called; the refusal if there are only others."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, _look_up, host, port, family)
        except OSError as error:
            raise _NameError("unresolved") from error
        allowed = [one for one in found if target.refusal(one["host"], block_private=self._block_private) is None]
        if found and not allowed:
            raise _ForbiddenTargetError("forbidden target")
        return allowed

    async def close(self) -> None:
        """End the threads, without waiting for look-ups that hang."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int, family: int) -> list[ResolveResult]:
    return [
        ResolveResult(
            hostname=host,
            host=str(address[0]),
            port=int(address[1]),
            family=found_family,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for found_family, _, protocol, _, address in socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    ]


def _judge(address: str, block_private: bool) -> None:
    if target.refusal(address, block_private=block_private) is not None:
        raise _ForbiddenTargetError("forbidden target")


@lru_cache(maxsize=4096)
def _split(url: str) -> tuple[URL, str | None]:
    """The URL to call, and the header that its user and password stand for."""
    # What is written by the rules goes out as it was written; only the rest needs quoting.
    parsed = URL(url, encoded=_WELL_FORMED.fullmatch(url) is not None)
    address = target.read_address(parsed.raw_host or "")
    if isinstance(address, ipaddress.IPv4Address):
        # aiohttp takes other spellings (`127.1`, a trailing dot) for broken; resolvers do not.
        parsed = parsed.with_host(str(address))
    if parsed.raw_user is None and parsed.raw_password is None:
        return parsed, None
    pair = f"{unquote(parsed.raw_user or '')}:{unquote(parsed.raw_password or '')}"
    return parsed.with_user(None), "Basic " + base64.b64encode(pair.encode()).decode("ascii")


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read a small answer, so that the connection can be kept; give up on a large one."""
    if response.content.is_eof() and response.content.total_bytes <= _DRAIN_LIMIT:
        # It came whole with its head, as most do, and the connection is free already.
        return
    read = 0
    async for chunk in response.content.iter_any():
        read += len(chunk)
        if read > _DRAIN_LIMIT:
            response.close()
            return
