"""The poster against real sockets on loopback."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from aiohttp.abc import AbstractResolver, ResolveResult
from tests.fakes.receiver import receiver
from tests.integration.webhooks.conftest import PATIENCE

from wahub.adapters import http_poster
from wahub.adapters.http_poster import HttpPoster

BODY = '{"t":"سلام"}'.encode()
HEADERS = {"content-type": "application/json", "x-secret": "hidden-value"}


@asynccontextmanager
async def poster(timeout: float = PATIENCE, **options: Any) -> AsyncIterator[HttpPoster]:
    made = HttpPoster(timeout, **options)
    try:
        yield made
    finally:
        await made.close()
        await made.close()


def resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
    """Let the system's resolver give these addresses, look-up after look-up; the last one stays."""
    turns = list(answers)

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        now = turns.pop(0) if len(turns) > 1 else turns[0]
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in now
        ]

    monkeypatch.setattr(http_poster.socket, "getaddrinfo", getaddrinfo)


async def test_bytes_and_headers_arrive_as_they_are() -> None:
    async with receiver() as there, poster() as ours:
        assert await ours.post(there.url + "?a=%2F&b=1", BODY, HEADERS) == http_poster.PostResult(200)
    [got] = there.got
    assert got.body == BODY
    assert got.path == "/hook?a=%2F&b=1"
    sent = {name.lower(): value for name, value in got.headers.items()}
    assert sent["content-type"] == "application/json"
    assert sent["content-length"] == str(len(BODY))
    assert sent["x-secret"] == "hidden-value"
    assert "cookie" not in sent


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("/a%20b/%7Ec?x=%2B+&y=[1]", "/a%20b/%7Ec?x=%2B+&y=[1]"),
        ("/é?q=م", "/%C3%A9?q=%D9%85"),
        ("/a#part", "/a"),
        ("", "/"),
    ],
)
async def test_the_path_goes_out_as_it_was_written(written: str, sent: str) -> None:
    async with receiver() as there, poster() as ours:
        assert (await ours.post(there.url.removesuffix("/hook") + written, BODY, HEADERS)).ok
        assert (await ours.post(there.url.replace("127.0.0.1", "0x7f.1"), BODY, HEADERS)).ok
    assert [got.path for got in there.got] == [sent, "/hook"]


@pytest.mark.parametrize("status", [201, 204, 400, 404, 410, 500, 503])
async def test_the_status_is_told(status: int) -> None:
    async with receiver(answer=lambda _: status) as there, poster() as ours:
        result = await ours.post(there.url, BODY, HEADERS)
    assert result.status == status
    assert result.ok is (status < 300)
    assert result.error == (None if status < 300 else f"HTTP {status}")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    async with receiver() as other, receiver(answer=lambda _: status) as there, poster() as ours:
        there.headers["Location"] = other.url
        result = await ours.post(there.url, BODY, HEADERS)
    assert (result.status, result.ok) == (status, False)
    assert "redirect" in (result.error or "")
    assert len(there.got) == 1
    assert other.got == []


@pytest.fixture
def kept_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine may take its time between two posts."""
    monkeypatch.setattr(http_poster, "_KEEP_ALIVE", PATIENCE)


async def test_connections_are_kept_and_cookies_are_not(kept_long: None) -> None:
    async with receiver(headers={"Set-Cookie": "a=b"}) as there, poster() as ours:
        for _ in range(5):
            assert (await ours.post(there.url, BODY, HEADERS)).ok
        assert len({got.peer for got in there.got}) == 1
        assert all("Cookie" not in got.headers for got in there.got)


@pytest.mark.parametrize(("length", "connections"), [(0, 1), (2, 1), (60_000, 1), (5_000_000, 4)])
async def test_a_connection_is_kept_whether_its_answer_came_whole_or_in_pieces(
    kept_long: None, length: int, connections: int
) -> None:
    async with receiver(body=b"x" * length) as there, poster() as ours:
        for _ in range(4):
            assert (await ours.post(there.url, BODY, HEADERS)).ok
        assert len({got.peer for got in there.got}) == connections


async def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        async with poster() as ours:
            result = await ours.post(f"http://127.0.0.1:{port}/path-secret", BODY, HEADERS)
    assert result.status is None
    assert result.error == "the connection was refused or could not be made"


async def test_a_receiver_that_never_answers_costs_the_timeout() -> None:
    async with receiver(hold=asyncio.Event()) as there, poster(timeout=0.2) as ours:
        result = await ours.post(there.url, BODY, HEADERS)
        assert (result.status, result.error) == (None, "no answer within 0.2 s")


async def test_a_receiver_that_drips_headers_costs_no_more_than_the_timeout() -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"HTTP/1.1 200 OK\r\n")
            while not writer.is_closing():
                writer.write(b"x: y\r\n")
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server, poster(timeout=0.3) as ours:
        port = server.sockets[0].getsockname()[1]
        result = await ours.post(f"http://127.0.0.1:{port}/", BODY, HEADERS)
    assert result.status is None
    assert "hidden" not in (result.error or "")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", "the connection was closed before an answer came"),
        (b"hidden-nonsense\r\n\r\n", "the answer was not valid HTTP"),
        (b"HTTP/1.1 2000 hidden\r\n\r\n", "the answer was not valid HTTP"),
    ],
)
async def test_broken_answers_are_told_without_their_text(answer: bytes, error: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, poster() as ours:
        port = server.sockets[0].getsockname()[1]
        result = await ours.post(f"http://127.0.0.1:{port}/", BODY, HEADERS)
    assert (result.status, result.error) == (None, error)


async def test_a_huge_answer_is_not_read() -> None:
    async with receiver(body=b"x" * 10_000_000) as there, poster() as ours:
        assert (await ours.post(there.url, BODY, HEADERS)).ok


async def test_a_header_that_cannot_be_sent_is_an_error_without_its_value() -> None:
    async with receiver() as there, poster() as ours:
        result = await ours.post(there.url, BODY, {"x": "hidden\r\ny: z"})
    assert result.status is None
    assert "hidden" not in (result.error or "")
    assert there.got == []


async def test_user_and_password_become_basic_authentication() -> None:
    async with receiver() as there, poster() as ours:
        with_user = there.url.replace("://", "://us%40er:p%C3%A9@")
        assert (await ours.post(with_user, BODY, HEADERS)).ok
        assert (await ours.post(with_user, BODY, {**HEADERS, "authorization": "Bearer t"})).ok
    assert [got.headers.get("Authorization") or got.headers["authorization"] for got in there.got] == [
        "Basic dXNAZXI6cMOp",
        "Bearer t",
    ]


# --- where it may connect to ------------------------------------------------------------------------------------------

NOT_ALLOWED = "not allowed"


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "2852039166", "0xA9FEA9FE", "0251.0376.0251.0376", "[::ffff:a9fe:a9fe]", "[fe80::1]",
     "169.254.169.254.", "100.100.100.200", "user:pass@169.254.169.254"],
)  # fmt: skip
async def test_forbidden_literal_addresses_are_refused_at_once(host: str) -> None:
    async with poster() as ours:
        result = await ours.post(f"http://{host}/", BODY, HEADERS)
    assert result.status is None
    assert NOT_ALLOWED in (result.error or "")


async def test_a_name_that_resolves_to_metadata_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, ["169.254.169.254", "fe80::1"])
    async with poster() as ours:
        result = await ours.post("http://innocent.example/", BODY, HEADERS)
    assert NOT_ALLOWED in (result.error or "")


async def test_only_allowed_addresses_of_a_name_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, ["169.254.169.254", "127.0.0.1"])
    async with receiver() as there, poster() as ours:
        port = urlsplit(there.url).port
        assert (await ours.post(f"http://innocent.example:{port}/", BODY, HEADERS)).ok
    assert len(there.got) == 1


async def test_each_new_connection_is_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, ["127.0.0.1"], ["169.254.169.254"])
    async with receiver(headers={"Connection": "close"}) as there, poster() as ours:
        url = f"http://rebinds.example:{urlsplit(there.url).port}/"
        assert (await ours.post(url, BODY, HEADERS)).ok
        second = await ours.post(url, BODY, HEADERS)
    assert NOT_ALLOWED in (second.error or "")
    assert len(there.got) == 1


async def test_the_address_is_judged_at_the_socket_even_if_the_resolver_let_it_pass() -> None:
    class Careless(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
            return [
                {"hostname": host, "host": "169.254.169.254", "port": port, "family": family, "proto": 6, "flags": 0}
            ]

        async def close(self) -> None:
            pass

    async with poster(resolver=Careless()) as ours:
        result = await ours.post("http://innocent.example/", BODY, HEADERS)
    assert NOT_ALLOWED in (result.error or "")


async def test_private_addresses_can_be_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver() as there, poster(block_private=True) as ours:
        assert NOT_ALLOWED in ((await ours.post(there.url, BODY, HEADERS)).error or "")
        resolve_to(monkeypatch, ["10.0.0.1", "127.0.0.1", "::1"])
        assert NOT_ALLOWED in ((await ours.post("http://inside.example/", BODY, HEADERS)).error or "")
    assert there.got == []


async def test_a_name_without_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "hidden.example")

    monkeypatch.setattr(http_poster.socket, "getaddrinfo", getaddrinfo)
    async with poster() as ours:
        result = await ours.post("http://hidden.example/", BODY, HEADERS)
    assert result.error == "the host name could not be resolved"


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver() as there, receiver() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        async with poster() as ours:
            assert (await ours.post(there.url, BODY, HEADERS)).ok
    assert (len(there.got), len(proxy.got)) == (1, 0)


async def test_tls_checks_the_certificate_against_the_name() -> None:
    authority = trustme.CA()
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with receiver(tls=serving) as there:
        by_name = there.url.replace("127.0.0.1", "localhost")
        async with poster(tls=trusting) as ours:
            assert (await ours.post(by_name, BODY, HEADERS)).ok
            wrong_name = await ours.post(there.url, BODY, HEADERS)
        async with poster() as ours:
            not_trusted = await ours.post(by_name, BODY, HEADERS)
    assert wrong_name.error == not_trusted.error == "the TLS certificate is not trusted or does not match the host"


@pytest.mark.parametrize(
    "host",
    ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "10.1",
     "192.168.257", "[fd00::1]", "[64:ff9b::a00:1]", "[2002:a00:1::]", "0", "[::]"],
)  # fmt: skip
async def test_every_spelling_of_a_private_address_can_be_blocked(host: str) -> None:
    async with receiver() as there, poster(block_private=True) as ours:
        result = await ours.post(f"http://{host}:{urlsplit(there.url).port}/", BODY, HEADERS)
    assert NOT_ALLOWED in (result.error or "")
    assert there.got == []


@pytest.mark.parametrize(
    "resolved",
    ["169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "fe80::1%1",
     "fd00:ec2::254", "100.100.100.200", "168.63.129.16"],
)  # fmt: skip
async def test_a_name_that_turns_bad_between_two_attempts_is_refused(resolved: str) -> None:
    class Rebinding(AbstractResolver):
        """Harmless when it is asked first, and bad ever after."""

        def __init__(self) -> None:
            self.answers = iter(["127.0.0.1"])

        async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
            address = next(self.answers, resolved)
            kind = socket.AF_INET6 if ":" in address else socket.AF_INET
            return [
                {"hostname": host, "host": address, "port": port, "family": kind, "proto": 6,
                 "flags": socket.AI_NUMERICHOST}
            ]  # fmt: skip

        async def close(self) -> None:
            pass

    async with (
        receiver(headers={"Connection": "close"}) as there,
        poster(resolver=Rebinding()) as ours,
    ):
        url = f"http://rebinds.example:{urlsplit(there.url).port}/"
        assert (await ours.post(url, BODY, HEADERS)).ok
        for _ in range(2):
            assert NOT_ALLOWED in ((await ours.post(url, BODY, HEADERS)).error or "")
    assert len(there.got) == 1
