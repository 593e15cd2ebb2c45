"""Each way in which a link ends, with the real engine: reason, code, words, and how far it got."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.integration.engine.conftest import StartEngine
from tests.integration.engine.network import Account, Box
from tests.integration.engine.waiting import PATIENCE, until

from wahub.adapters.engines.baileys import link
from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.domain.instance import Disconnect, Stage
from wahub.domain.session import CREDS
from wahub.ports.engine import Closed, Opened, QrShown

Fault = dict[str, dict[str, Any]]

BY_CODE = {
    401: Disconnect.LOGGED_OUT,
    403: Disconnect.BANNED,
    408: Disconnect.TIMED_OUT,
    411: Disconnect.MULTIDEVICE_MISMATCH,
    428: Disconnect.CONNECTION_CLOSED,
    440: Disconnect.REPLACED,
    500: Disconnect.BAD_SESSION,
    503: Disconnect.UNAVAILABLE,
    515: Disconnect.RESTART_REQUIRED,
    516: Disconnect.UNKNOWN,
}
WORDS = {401: "device_removed", 440: "replaced"}
"""The server says these two with a `conflict`."""
ON_A_LIVE_SOCKET: list[tuple[Fault, Disconnect, int | None, str]] = [
    *(
        ({"streamError": {"code": code}}, reason, code, WORDS.get(code, "stream_error"))
        for code, reason in BY_CODE.items()
    ),
    ({"replaced": {}}, Disconnect.REPLACED, 440, "replaced"),
    ({"steal": {"afterMs": 1}}, Disconnect.REPLACED, 440, "replaced"),
    ({"failure": {"reason": 403}}, Disconnect.BANNED, 403, "login_refused"),
    ({"drop": {}}, Disconnect.CONNECTION_CLOSED, 428, "connection_closed"),
]
AT_THE_LOGIN: list[tuple[Fault, Disconnect, int | None, str]] = [
    *(({"failure": {"reason": code}}, reason, code, "login_refused") for code, reason in BY_CODE.items()),
    ({"streamError": {"code": 515}}, Disconnect.RESTART_REQUIRED, 515, "stream_error"),
    ({"drop": {}}, Disconnect.CONNECTION_CLOSED, 428, "connection_closed"),
]


def _shown(closed: Closed) -> tuple[Disconnect, int | None, str, Stage]:
    return closed.reason, closed.code, closed.detail, closed.stage


async def test_on_a_live_socket(account: Account, box: Box, engine: BaileysEngine) -> None:
    seen = []
    for fault, *_ in ON_A_LIVE_SOCKET:
        await box.inject(account.number, **fault)
        seen.append(_shown(await account.watcher.first(Closed)))
        await account.login(engine)
    assert seen == [(*expected, Stage.OPEN) for _, *expected in ON_A_LIVE_SOCKET]
    stats = await box.get("stats")
    assert (stats["violations"], stats["qrShown"], stats["maxConnectionsPerDevice"]) == ([], 0, 1)


async def test_at_the_login(account: Account, box: Box, engine: BaileysEngine) -> None:
    await account.link.close()
    seen = []
    for fault, *_ in AT_THE_LOGIN:
        await box.fault({"number": account.number, "stanza": "login"}, **fault)
        watcher = await account.connect(engine)
        seen.append(_shown(await watcher.first(Closed)))
        assert watcher.all(Opened) == []
    assert seen == [(*expected, Stage.REACHED) for _, *expected in AT_THE_LOGIN]


@pytest.mark.parametrize(
    ("match", "do", "expected"),
    [
        ({}, {"gone": {"ms": 0}}, (Disconnect.TIMED_OUT, 408, "ECONNRESET")),
        ({}, {"upgradeSilent": {}}, (Disconnect.TIMED_OUT, 408, "handshake_timeout")),
        ({}, {"handshakeSilent": {}}, (Disconnect.TIMED_OUT, 408, "handshake_timeout")),
        ({"stanza": "handshake"}, {"drop": {}}, (Disconnect.CONNECTION_CLOSED, 428, "connection_closed")),
    ],
    ids=["gone", "no upgrade", "no hello", "dropped"],
)
async def test_before_the_handshake_is_complete(
    start_engine: StartEngine,
    box: Box,
    box_settings: BaileysSettings,
    match: dict[str, Any],
    do: Fault,
    expected: tuple[Disconnect, int, str],
) -> None:
    # Where something else ends it, a busy machine must not be taken for a silent server.
    patience = 0.5 if "handshake_timeout" in expected else box_settings.handshake_timeout
    engine = await start_engine(box_settings, handshake_timeout=patience)
    await box.fault(match, **do)
    closed = await (await Account(box, "15550001111").connect(engine)).first(Closed)
    assert _shown(closed) == (*expected, Stage.UNREACHED)


async def test_an_http_answer_is_not_whatsapps_word(start_engine: StartEngine) -> None:
    """It may come from a captive portal or a proxy on the way, and must neither ban nor unlink anybody."""
    answers = iter(["401 Unauthorized", "403 Forbidden", "500 Internal", "301 Moved", "200 OK"])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {next(answers)}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    engine = await start_engine(wa_url=f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws/chat")
    account = Account(None, "15550001111")  # type: ignore[arg-type]
    for _ in range(5):
        closed = await (await account.connect(engine)).first(Closed)
        assert (closed.reason, closed.detail) == (Disconnect.UNAVAILABLE, "upgrade_refused")
        assert closed.stage is Stage.UNREACHED
    server.close()


async def test_a_cut_cable_is_noticed_and_told_at_once(
    start_engine: StartEngine, box: Box, away: Account, box_settings: BaileysSettings
) -> None:
    # Lost after twice that: a login on a busy machine must not take so long.
    engine = await start_engine(box_settings, keep_alive=2)
    await away.login(engine)
    await box.inject(away.number, silent={"deaf": True})
    # Waiting for the other side's farewell would take 30 s more.
    closed = await away.watcher.first(Closed, timeout=15)
    assert _shown(closed) == (Disconnect.TIMED_OUT, 408, "keep_alive_lost", Stage.OPEN)


async def test_unreadable_credentials_are_never_replaced(engine: BaileysEngine, box: Box) -> None:
    account = Account(box, "15550001111")
    for stored in (b"", b"{", b"{}", b"null"):
        account.vault.values[CREDS] = stored
        watcher = await account.connect(engine)
        closed = await watcher.first(Closed)
        assert _shown(closed) == (
            Disconnect.CREDENTIALS_UNREADABLE, None, "credentials_unreadable", Stage.UNREACHED
        )  # fmt: skip
        assert (watcher.all(QrShown), account.vault.commits) == ([], [])
    assert (await box.get("stats"))["attempts"] == 0


async def test_logout_of_a_link_that_is_being_opened_unlinks(account: Account, box: Box, engine: BaileysEngine) -> None:
    await account.link.close()
    watcher = await account.connect(engine)
    await account.link.logout()
    assert (await watcher.first(Closed)).reason is Disconnect.LOGGED_OUT
    assert (await box.get(f"phones/{account.number}"))["devices"] == []


async def test_logout_where_the_login_is_never_confirmed_gives_up_in_time(
    account: Account, box: Box, engine: BaileysEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The side process gives up, before the gateway would.
    monkeypatch.setattr(link, "_LOGOUT_SECONDS", 600.0)
    await account.link.close()
    await box.fault({"number": account.number, "stanza": "login"}, neverReady={})
    watcher = await account.connect(engine)
    async with asyncio.timeout(PATIENCE):
        await account.link.logout()
    assert (await watcher.first(Closed)).reason is Disconnect.CLOSED_BY_US
    assert len((await box.get(f"phones/{account.number}"))["devices"]) == 1


async def test_an_unpaired_link_logs_out_at_once(engine: BaileysEngine, box: Box) -> None:
    account = Account(box, "15550001111")
    watcher = await account.connect(engine)
    await watcher.first(QrShown)
    # A linked one would be given 3.5 s to log in.
    async with asyncio.timeout(3):
        await account.link.logout()
    assert (await watcher.first(Closed)).reason is Disconnect.CLOSED_BY_US


async def test_a_frame_that_fails_one_link_leaves_the_others(
    account: Account, box: Box, engine: BaileysEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Account(box, "15550002222")
    await other.pair(engine)

    def broken(_frame: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(account.link, "handle", broken)
    await box.post(f"phones/{other.number}/send", to=account.number, text="trigger")
    closed = await account.watcher.first(Closed)
    assert (closed.reason, closed.detail) == (Disconnect.UNKNOWN, "frame_failed")
    assert not other.link.closed
    assert engine.healthy

    def gone() -> bool:
        return account.link.number not in {n for slot in engine._slots.values() for n in slot.links}

    await until(gone)
    await account.login(engine)
