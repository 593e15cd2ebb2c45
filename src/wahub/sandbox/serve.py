"""Running the sandbox: one port for chat sockets and the control API, one TLS port for media, until a signal.

Promised (contract 0.11): the first line on stdout is one JSON object; the ready file appears complete or not at all;
SIGTERM and SIGINT end it cleanly; a second signal ends it at once. A `kill -9` leaves at most the temporary directory
of the certificates.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from wahub.sandbox.control.app import build_control_app
from wahub.sandbox.media import MediaApp, MediaCertificate, write_certificates
from wahub.sandbox.network import persist, trust
from wahub.sandbox.network.asgi import ChatApp, ChatConnection, Committed, Receive, Send
from wahub.sandbox.network.core import PairingTimes
from wahub.sandbox.network.network import Network
from wahub.sandbox.network.store import Store
from wahub.sandbox.world import World

CHAT_PATH = "/ws/chat"
_GRACE_SECONDS = 2
_IDLE_SECONDS = 75
"""For so long a connection is kept after an answer was handed over. Longer than clients keep theirs (5 s and less), or
one may use it while the other ends it; and long enough for a large file to be read: Node's `fetch` fails when the
connection ends while it is still reading."""
_MAX_MESSAGE_BYTES = 32 * 1024 * 1024


class SandboxError(Exception):
    """The sandbox cannot start; the text says why and what helps."""


class SandboxSettingError(SandboxError):
    """An option cannot be used as it is given."""


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """The flags of `wahub sandbox`. Port 0 means any free port; without `seed` the keys are random, or the file's.

    `qr_first_ms`, `qr_next_ms`: how long the first QR code of a registration lives, and each of the other five.
    """

    host: str = "127.0.0.1"
    port: int = 4480
    tls_port: int = 0
    seed: str | None = None
    state: Path | None = None
    ready_file: Path | None = None
    env_file: Path | None = None
    i_know: bool = False
    qr_first_ms: int = 60_000
    qr_next_ms: int = 20_000


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running sandbox is; the first line on stdout."""

    control_url: str
    ws_url: str
    media_url: str
    trust_root: str
    ca_file: str

    def as_json(self) -> str:
        """One line of JSON."""
        values = {
            "event": "listening",
            "controlUrl": self.control_url,
            "wsUrl": self.ws_url,
            "mediaUrl": self.media_url,
            "trustRoot": self.trust_root,
            "caFile": self.ca_file,
        }
        return json.dumps(values)

    def as_environment(self) -> str:
        """The lines that point a gateway here."""
        return f"WAHUB_WA_URL={self.ws_url}\nWAHUB_WA_TRUST_ROOT={self.trust_root}\nWAHUB_WA_CA_FILE={self.ca_file}\n"


async def serve(options: SandboxOptions) -> None:
    """Run until SIGTERM or SIGINT. SandboxSettingError or SandboxError (StateFileError) when it cannot start."""
    stop = asyncio.Event()
    with _stopping_on_signals(stop):
        async with running(options) as addresses:
            if options.env_file is not None:
                _write_whole(options.env_file, addresses.as_environment())
            sys.stdout.write(addresses.as_json() + "\n")
            sys.stdout.flush()
            if options.ready_file is not None:
                _write_whole(options.ready_file, addresses.as_json() + "\n")
            await stop.wait()


@contextlib.asynccontextmanager
async def running(options: SandboxOptions) -> AsyncIterator[Addresses]:
    """A running sandbox inside this event loop; gives its `Addresses` and stops at the end of the block."""
    _check_host(options)
    store = Store(options.state)
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(store.close)
        keys = trust.keys_from_seed(_seed(options, store))
        network = Network(keys, store, PairingTimes(options.qr_first_ms / 1000, options.qr_next_ms / 1000))
        world = World(network, trust_root=keys.trust_root, journal=store if store.durable else None)
        world.restore({"phone/" + key: value for key, value in store.rows("phone/")})
        directory = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="wahub-sandbox-")))
        ca_file = _ca_file(options, directory)
        certificate = write_certificates(keys.media_ca, _certificate_hosts(options.host), ca_file, directory)
        chat_socket = cleanup.enter_context(_bind(options.host, options.port, "--port"))
        media_socket = cleanup.enter_context(_bind(options.host, options.tls_port, "--tls-port"))
        addresses = _addresses(options.host, chat_socket, media_socket, keys.trust_root, certificate)
        network.media.host = addresses.media_url.removeprefix("https://")
        world.ws_url = addresses.ws_url
        servers = [
            (_Server(_config(_Ports(ChatApp(network), Committed(network, build_control_app(world))))), chat_socket),
            (_Server(_config(MediaApp(network.media, network.media_fault), certificate)), media_socket),
        ]
        async with _serving(servers, network):
            yield addresses


class _Ports:
    """One port: chat sockets by path, everything else to the control API."""

    def __init__(self, chat: ChatApp, control: Any) -> None:
        self._chat = chat
        self._control = control

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._control(scope, receive, send)
        elif scope["path"] == CHAT_PATH:
            await self._chat(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1000})


class _Server(uvicorn.Server):
    """Leaves signals to us and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@contextlib.asynccontextmanager
async def _serving(servers: list[tuple[_Server, socket.socket]], network: Network) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(server.serve(sockets=[bound])) for server, bound in servers]
    try:
        for server, _ in servers:
            await server.listening.wait()
        yield
    finally:
        network.close_sessions()
        for server, _ in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)


def _config(app: Any, certificate: MediaCertificate | None = None) -> uvicorn.Config:
    """Pings of the WebSocket layer are off: a frozen client must not be cut off by them."""
    return uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws=ChatConnection,
        ws_max_size=_MAX_MESSAGE_BYTES,
        ws_ping_interval=None,
        ws_ping_timeout=None,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        timeout_keep_alive=_IDLE_SECONDS,
        ssl_certfile=None if certificate is None else str(certificate.certificate),
        ssl_keyfile=None if certificate is None else str(certificate.key),
    )


def _ca_file(options: SandboxOptions, directory: Path) -> Path:
    """Beside the state file, so that it outlives the process as the state does; otherwise a temporary file."""
    return directory / "ca.pem" if options.state is None else Path(f"{options.state}.ca.pem").absolute()


def _seed(options: SandboxOptions, store: Store) -> str:
    seed = options.seed or persist.saved_seed(store) or trust.new_seed()
    persist.save_seed(store, seed)
    store.commit()
    return seed


def _check_host(options: SandboxOptions) -> None:
    if not options.i_know and not _is_loopback(options.host):
        text = f"--host {options.host} is not a loopback address; anyone who reaches it owns every phone. Add --i-know"
        raise SandboxSettingError(text)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _certificate_hosts(host: str) -> list[str]:
    names = ["localhost", "127.0.0.1", "::1"]
    shown = _shown_host(host).strip("[]")
    return names if shown in names else [*names, shown]


def _shown_host(host: str) -> str:
    """How the host stands in a URL; a wildcard is shown as loopback."""
    if host in ("0.0.0.0", ""):  # noqa: S104
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host


def _bind(host: str, port: int, flag: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise SandboxError(f"cannot listen on {host}:{port} ({error.strerror}); choose another {flag}") from error
    bound.set_inheritable(False)
    return bound


def _addresses(
    host: str, chat: socket.socket, media: socket.socket, trust_root: str, certificate: MediaCertificate
) -> Addresses:
    shown = _shown_host(host)
    port, tls_port = chat.getsockname()[1], media.getsockname()[1]
    return Addresses(
        control_url=f"http://{shown}:{port}",
        ws_url=f"ws://{shown}:{port}{CHAT_PATH}",
        media_url=f"https://{shown}:{tls_port}",
        trust_root=trust_root,
        ca_file=str(certificate.ca),
    )


def _write_whole(path: Path, text: str) -> None:
    """The file appears complete or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


@contextlib.contextmanager
def _stopping_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """The first SIGTERM or SIGINT asks to stop; the second ends the process by the signal."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def first() -> None:
        stop.set()
        for number in signals:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in signals:
        loop.add_signal_handler(number, first)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
