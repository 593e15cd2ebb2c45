"""Links through a proxy: all of their traffic, or none."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec
from tests.integration.engine.conftest import StartEngine
from tests.integration.engine.network import Account, Box
from tests.integration.engine.waiting import until
from tests.support.proxies import HttpProxy, Proxy, Socks5Proxy, proxy_running

from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.domain.instance import Disconnect, Stage
from wahub.ports.engine import Closed, Inbound, Opened, QrShown, SendAcked
from wahub.sandbox.media import write_certificates

NUMBER, PEER = "15550001111", "15550002222"
PASSWORD = "p@ss:w/rd #1"
KINDS = pytest.mark.parametrize(
    ("scheme", "kind"), [("http", HttpProxy), ("socks5", Socks5Proxy)], ids=["http", "socks5"]
)


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(kind: type[Proxy]) -> AsyncIterator[Proxy]:
    async with proxy_running(kind("shop", PASSWORD)) as running:
        yield running


def _said_of(pid: int) -> str:
    return "".join(Path(f"/proc/{pid}/{name}").read_text("utf-8", "replace") for name in ("cmdline", "environ"))


def _together(bundle: Path, *files: Path) -> Path:
    bundle.write_text("".join(file.read_text() for file in files))
    return bundle


@KINDS
async def test_everything_goes_through_the_proxy(
    box: Box, engine: BaileysEngine, proxy: Proxy, scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    account = Account(box, NUMBER, proxy=proxy.url(scheme))
    await account.pair(engine)
    await box.phone(PEER)
    assert await account.send(PEER, "hi") == SendAcked()
    await box.post(f"phones/{PEER}/send", to=NUMBER, text="hi yourself")
    await account.watcher.first(Inbound)
    host = box.addresses.ws_url.split("/")[2]
    assert proxy.targets == [host, host]
    assert (proxy.refused, (await box.get("stats"))["attempts"]) == (0, 2)
    await account.link.close()
    await until(lambda: proxy.open == 0)
    assert repr(account.link.spec).count(PASSWORD) == 0
    for secret in (PASSWORD, proxy.url(scheme).split("@")[0].split(":")[-1]):
        assert secret not in caplog.text
        assert secret not in _said_of(engine.pids[0])


@KINDS
async def test_nothing_goes_around_a_proxy_that_is_down(
    box: Box, engine: BaileysEngine, proxy: Proxy, scheme: str
) -> None:
    account = Account(box, NUMBER, proxy=f"{scheme}://shop:secret@127.0.0.1:9")
    watcher = await account.connect(engine)
    closed = await watcher.first(Closed)
    assert (closed.reason, closed.detail, closed.stage) == (Disconnect.TIMED_OUT, "ECONNREFUSED", Stage.UNREACHED)
    account.proxy = proxy.url(scheme)
    await account.pair(engine)
    # The connection that was paired may still be ending.
    await until(lambda: len(proxy._writers) == 1)
    proxy._writers.copy().pop().transport.abort()
    assert (await account.watcher.first(Closed)).stage is Stage.OPEN
    assert (await box.get("stats"))["attempts"] == 2


@KINDS
async def test_a_wrong_password_reaches_nobody(
    box: Box, engine: BaileysEngine, proxy: Proxy, scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    account = Account(box, NUMBER, proxy=proxy.url(scheme, "wrong-password"))
    closed = await (await account.connect(engine)).first(Closed)
    ended = (closed.reason, closed.code, closed.detail, closed.stage)
    assert ended == (Disconnect.UNAVAILABLE, None, "proxy_auth_failed", Stage.UNREACHED)
    assert (proxy.refused, proxy.targets, (await box.get("stats"))["attempts"]) == (1, [], 0)
    assert "wrong-password" not in closed.detail + caplog.text


@KINDS
async def test_one_who_says_no_name_is_told_so(box: Box, engine: BaileysEngine, proxy: Proxy, scheme: str) -> None:
    account = Account(box, NUMBER, proxy=f"{scheme}://127.0.0.1:{proxy.port}")
    closed = await (await account.connect(engine)).first(Closed)
    assert (closed.reason, closed.detail) == (Disconnect.UNAVAILABLE, "proxy_auth_failed")
    assert (proxy.refused, proxy.targets) == (1, [])


@KINDS
async def test_a_proxy_that_connects_nobody(box: Box, engine: BaileysEngine, proxy: Proxy, scheme: str) -> None:
    proxy.rejects = True
    account = Account(box, NUMBER, proxy=proxy.url(scheme))
    closed = await (await account.connect(engine)).first(Closed)
    assert (closed.reason, closed.detail) == (Disconnect.UNAVAILABLE, "proxy_refused")
    assert (closed.stage, proxy.targets) == (Stage.UNREACHED, [])
    proxy.rejects = False
    await account.pair(engine)


async def test_a_proxy_that_speaks_tls(
    start_engine: StartEngine, box: Box, box_settings: BaileysSettings, tmp_path: Path
) -> None:
    own, ca_file = ec.generate_private_key(ec.SECP256R1()), tmp_path / "proxy-ca.pem"
    certificate = write_certificates(own, ["127.0.0.1"], ca_file, tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate.certificate, certificate.key)
    async with proxy_running(HttpProxy("shop", PASSWORD), tls) as proxy:
        stranger = Account(box, NUMBER, proxy=proxy.url("https"))
        closed = await (await stranger.connect(await start_engine(box_settings))).first(Closed)
        assert (closed.reason, closed.stage) == (Disconnect.CONNECTION_CLOSED, Stage.UNREACHED)
        assert proxy.targets == [], "the password went to nobody whose certificate is not trusted"
        both = _together(tmp_path / "both.pem", Path(box.addresses.ca_file), ca_file)
        account = Account(box, PEER, proxy=proxy.url("https"))
        engine = await start_engine(box_settings, ca_file=both, run_dir=tmp_path / "run-2", spool_dir=tmp_path / "two")
        await account.pair(engine)
        assert proxy.targets == [box.addresses.ws_url.split("/")[2]] * 2
        assert (await box.get("stats"))["attempts"] == 2
        await account.link.close()


@KINDS
async def test_a_proxy_that_hangs_is_given_up(
    start_engine: StartEngine, box: Box, box_settings: BaileysSettings, proxy: Proxy, scheme: str
) -> None:
    engine = await start_engine(box_settings, handshake_timeout=0.4)
    proxy.hangs = True
    account = Account(box, NUMBER, proxy=proxy.url(scheme))
    closed = await (await account.connect(engine)).first(Closed)
    assert (closed.reason, closed.detail) == (Disconnect.TIMED_OUT, "handshake_timeout")
    assert closed.stage is Stage.UNREACHED
    if scheme == "http":
        # The SOCKS library lets go after 30 s; by default that is before the link gives up.
        await until(lambda: proxy.open == 0)


@KINDS
async def test_names_are_looked_up_by_the_proxy_and_tls_is_spoken_through_it(
    start_engine: StartEngine, proxy: Proxy, scheme: str
) -> None:
    server = await asyncio.start_server(lambda _reader, _writer: asyncio.sleep(3600), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    engine = await start_engine(wa_url=f"wss://localhost:{port}/ws/chat")
    account = Account(None, NUMBER, proxy=proxy.url(scheme))  # type: ignore[arg-type]
    await account.connect(engine)
    await until(lambda: proxy.first_bytes and proxy.first_bytes[0])
    assert proxy.targets == [f"localhost:{port}"]
    assert proxy.first_bytes[0][:2] == b"\x16\x03", "a TLS record"
    await account.link.close()
    server.close()


@KINDS
async def test_media_goes_through_it_too(box: Box, box_settings: BaileysSettings, proxy: Proxy, scheme: str) -> None:
    async def fetched(address: str) -> list[object]:
        process = await asyncio.create_subprocess_exec(
            str(box_settings.node),
            str(Path(__file__).with_name("fetch.mjs")),
            str(box_settings.directory),
            f"{box.addresses.media_url}/nothing/here",
            env={"NODE_EXTRA_CA_CERTS": str(box_settings.ca_file)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await asyncio.wait_for(process.communicate(address.encode()), 20)
        return list(json.loads(said))

    answers = await fetched(proxy.url(scheme))
    assert all(isinstance(status, int) for status in answers)
    assert proxy.targets == [box.addresses.media_url.removeprefix("https://")] * 2
    assert [first[:2] for first in proxy.first_bytes] == [b"\x16\x03"] * 2
    down = await fetched(f"{scheme}://shop:x@127.0.0.1:9")
    refused = await fetched(proxy.url(scheme, "wrong"))
    assert down == ["failed", "failed"]
    assert refused == ["failed", "failed"]
    assert len(proxy.targets) == 2


async def test_an_address_that_is_none_makes_no_connection(box: Box, engine: BaileysEngine) -> None:
    for address in ("socks5://", "ftp://127.0.0.1:1", "nonsense", "http://"):
        watcher = await Account(box, NUMBER, proxy=address).connect(engine)
        closed = await watcher.first(Closed)
        assert (closed.reason, closed.detail) == (Disconnect.UNKNOWN, "proxy_unusable")
        assert closed.stage is Stage.UNREACHED
        assert (watcher.all(QrShown), watcher.all(Opened)) == ([], [])
    assert (await box.get("stats"))["attempts"] == 0
