"""What unmodified Baileys reports for each fault: the table of `docs/sandbox.md`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import websockets
from tests.integration.sandbox.baileys_client import BaileysClient
from tests.integration.sandbox.conftest import Box, Link

from wahub.sandbox.proto.handshake_pb2 import ClientHello, HandshakeMessage
from wahub.sandbox.signal.curve import KeyPair
from wahub.sandbox.wire.frames import PROLOGUE, pack_frame

ALICE, BOB = "491510000001", "491510000002"
LOGIN = {"number": ALICE, "stanza": "login"}
IMPATIENT = {"connectTimeoutMs": 700}
"""Only for what never answers: elsewhere a busy machine would be taken for it."""

ON_A_LIVE_SOCKET: list[tuple[dict[str, Any], int]] = [
    ({"drop": {}}, 428),
    ({"replaced": {}}, 440),
    ({"steal": {"afterMs": 1}}, 440),
    ({"failure": {"reason": 403}}, 403),
    *(({"streamError": {"code": code}}, code) for code in (401, 403, 408, 411, 428, 440, 500, 503, 515)),
    ({"streamError": {"code": 500, "child": "bad-session"}}, 500),
]
AT_LOGIN: list[tuple[dict[str, Any], int]] = [
    *(({"failure": {"reason": reason}}, reason) for reason in (401, 403, 411, 500, 503)),
    ({"streamError": {"code": 515}}, 515),
    ({"drop": {}}, 428),
]
BEFORE_THE_LOGIN: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], int]] = [
    ({}, {"gone": {"ms": 0}}, {}, 408),
    ({"number": ALICE}, {"gone": {"ms": 0}}, {}, 428),
    ({}, {"upgradeSilent": {}}, IMPATIENT, 408),
    ({}, {"handshakeSilent": {}}, IMPATIENT, 408),
    ({"stanza": "handshake"}, {"slow": {"ms": 60_000}}, IMPATIENT, 408),
    ({"stanza": "handshake"}, {"drop": {}}, {}, 428),
]


@dataclass
class Alice:
    """A linked client that comes and goes."""

    box: Box
    baileys: BaileysClient
    directory: Path

    async def start(self, **options: Any) -> None:
        await self.baileys.command("start", "alice", dir=str(self.directory), options=options)

    async def open(self, **options: Any) -> None:
        await self.start(**options)
        await self.baileys.expect("alice", "open")

    async def closed(self) -> int:
        return int((await self.baileys.expect("alice", "close"))["code"])

    async def end(self) -> None:
        await self.baileys.command("end", "alice")
        await self.baileys.expect("alice", "close")

    async def inject(self, fault: dict[str, Any]) -> None:
        await self.box.post(f"/control/phones/{ALICE}/devices/1/inject", {"fault": fault})

    @contextlib.asynccontextmanager
    async def armed(self, match: dict[str, Any], do: dict[str, Any], times: int = 1) -> AsyncIterator[None]:
        fault = (await self.box.post("/control/faults", {"match": match, "do": do, "times": times}))["id"]
        yield
        left = [found["id"] for found in (await self.box.get("/control/faults"))["faults"]]
        if fault in left:
            await self.box.http.delete(f"/control/faults/{fault}")

    async def own_message(self, seq: int) -> dict[str, Any]:
        """What her phone has got as number `seq`."""
        page = await self.box.get(f"/control/phones/{ALICE}/messages?after={seq - 1}&wait=15000")
        return dict(page["messages"][0])

    async def stats(self) -> dict[str, Any]:
        """The statistics; they must show no second socket, no refused login and no code: she is linked."""
        stats = await self.box.stats()
        assert (stats["violations"], stats["maxConnectionsPerDevice"], stats["qrShown"]) == ([], 1, 0)
        return stats


@pytest_asyncio.fixture(loop_scope="session")
async def alice(box: Box, baileys: BaileysClient, link: Link, tmp_path: Path) -> Alice:
    """Linked, and away."""
    await link("alice", ALICE)
    alice = Alice(box, baileys, tmp_path / "alice")
    await alice.end()
    return alice


async def test_codes_of_faults_on_a_live_socket(alice: Alice) -> None:
    reported = []
    for fault, _ in ON_A_LIVE_SOCKET:
        await alice.open()
        await alice.inject(fault)
        reported.append((fault, await alice.closed()))
    assert reported == ON_A_LIVE_SOCKET
    assert (await alice.stats())["logins"] == 1 + len(ON_A_LIVE_SOCKET)


async def test_codes_of_faults_at_the_login(alice: Alice) -> None:
    before = (await alice.stats())["devices"][0]
    reported = []
    for fault, _ in AT_LOGIN:
        async with alice.armed(LOGIN, fault):
            await alice.start()
            reported.append((fault, await alice.closed()))
    assert reported == AT_LOGIN
    await alice.open()
    after = (await alice.stats())["devices"][0]
    assert after["attempts"] - before["attempts"] == len(AT_LOGIN) + 1
    assert after["logins"] - before["logins"] == 1


async def test_codes_of_faults_before_the_login(alice: Alice) -> None:
    before = (await alice.stats())["attempts"]
    reported = []
    for match, fault, options, _ in BEFORE_THE_LOGIN:
        async with alice.armed(match, fault):
            await alice.start(**options)
            reported.append((match, fault, options, await alice.closed()))
    assert reported == BEFORE_THE_LOGIN
    await alice.open()
    assert (await alice.stats())["attempts"] - before == len(BEFORE_THE_LOGIN) + 1


async def test_a_silent_server_is_noticed_by_missing_pongs(alice: Alice) -> None:
    await alice.open(keepAliveIntervalMs=100)
    await alice.inject({"silent": {}})
    assert await alice.closed() == 408


@pytest.mark.parametrize("fault", ["neverReady", "neverOpen"])
async def test_a_login_that_never_comes_to_an_end_though_pings_are_answered(alice: Alice, fault: str) -> None:
    async with alice.armed(LOGIN, {fault: {}}):
        await alice.start(keepAliveIntervalMs=50)
        pongs = 0
        async with asyncio.timeout(30):
            while pongs < 3:
                stanzas = (await alice.box.get(f"/control/trace?number={ALICE}&after=0"))["stanzas"]
                pings = [entry["stanza"]["attrs"]["id"] for entry in stanzas if _is_ping(entry)]
                answers = {entry["stanza"]["attrs"].get("id") for entry in stanzas if entry["direction"] == "out"}
                pongs = sum(ping in answers for ping in pings)
    assert alice.baileys.seen("alice", "open") == []
    assert alice.baileys.seen("alice", "close") == []
    await alice.end()
    logins = (await alice.stats())["logins"]
    assert logins == (1 if fault == "neverReady" else 2)
    await alice.open()


def _is_ping(entry: dict[str, Any]) -> bool:
    return entry["direction"] == "in" and entry["stanza"]["attrs"].get("xmlns") == "w:p"


async def test_queries_that_time_out_let_baileys_open_all_the_same(alice: Alice) -> None:
    """After about 210 s by default: it takes a query that timed out for one that is answered."""
    async with alice.armed(LOGIN, {"neverOpen": {}}):
        await alice.open(defaultQueryTimeoutMs=50)


async def test_codes_that_nobody_scans_run_out(box: Box, baileys: BaileysClient, tmp_path: Path) -> None:
    await baileys.command("start", "new", dir=str(tmp_path / "new"), options={"qrTimeout": 20})
    assert (await baileys.expect("new", "close"))["code"] == 408
    assert len(baileys.seen("new", "qr")) == 6
    assert (await box.stats())["qrShown"] == 1


async def test_a_thief_takes_the_session_as_often_as_it_is_told(alice: Alice) -> None:
    await alice.box.post("/control/faults", {"match": {"number": ALICE}, "do": {"steal": {"afterMs": 30, "times": 3}}})
    # On a busy machine the thief comes before Baileys says that it is open.
    for _ in range(3):
        await alice.start()
        assert await alice.closed() == 440
    await alice.baileys.command("start", "alice again", dir=str(alice.directory))
    await alice.baileys.expect("alice again", "open")
    assert (await alice.stats())["stolen"] == 3


async def test_a_server_that_was_gone_comes_back_with_everybody(
    alice: Alice, link: Link, tmp_path: Path, baileys: BaileysClient
) -> None:
    await link("bob", BOB)
    await alice.open()
    async with alice.armed({}, {"gone": {"ms": 0}}):
        assert await alice.closed() == 428
        assert (await baileys.expect("bob", "close"))["code"] == 428
        for _ in range(3):
            await alice.start()
            assert await alice.closed() == 408
        assert (await alice.box.stats())["connections"] == 0
    await alice.open()
    await baileys.command("start", "bob", dir=str(tmp_path / "bob"))
    await baileys.expect("bob", "open")
    stats = await alice.box.stats()
    assert (stats["connections"], stats["qrShown"], stats["violations"]) == (2, 1, [])


async def test_a_linked_device_works_while_its_phone_is_off(alice: Alice) -> None:
    await alice.box.post("/control/phones", {"number": BOB})
    await alice.box.post(f"/control/phones/{ALICE}/online", {"online": False})
    await alice.open()
    await alice.baileys.command("send", "alice", to=f"{BOB}@s.whatsapp.net", text="phone is off", id="OFF1")
    await alice.baileys.expect("alice", "ack", lambda ack: ack["id"] == "OFF1")
    got = (await alice.box.get(f"/control/phones/{BOB}/messages?after=0&wait=15000"))["messages"]
    assert [message["text"] for message in got] == ["phone is off"]
    await alice.box.post(f"/control/phones/{BOB}/send", {"to": ALICE, "text": "answer"})
    await alice.baileys.expect("alice", "message", lambda message: message["text"] == "answer")
    assert (await alice.box.get(f"/control/phones/{ALICE}/messages?after=0"))["messages"] == []

    await alice.box.post(f"/control/phones/{ALICE}/online", {"online": True})

    own = [await alice.own_message(seq) for seq in (1, 2)]
    assert [(message["text"], message["fromMe"]) for message in own] == [("phone is off", True), ("answer", False)]
    assert alice.baileys.seen("alice", "close") == []
    await alice.stats()


@pytest.mark.parametrize(
    ("do", "patience", "close_code"), [({}, 20.0, 1000), ({"deaf": True}, 0.2, 1006)], ids=["silent", "deaf"]
)
async def test_only_a_deaf_server_leaves_a_close_frame_unanswered(
    box: Box, do: dict[str, Any], patience: float, close_code: int
) -> None:
    await box.post("/control/faults", {"match": {"stanza": "handshake"}, "do": {"silent": do}})
    async with asyncio.timeout(30), websockets.connect(box.addresses.ws_url, close_timeout=patience) as socket:
        hello = HandshakeMessage(client_hello=ClientHello(ephemeral=KeyPair.generate().public))
        await socket.send(PROLOGUE + pack_frame(hello.SerializeToString()))
        while (await box.get("/control/faults"))["faults"]:
            pass
        await socket.close()
        assert socket.close_code == close_code
