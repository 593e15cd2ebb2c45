"""Unmodified Baileys is linked by a code that a person types on the phone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio
from tests.integration.sandbox.baileys_client import BaileysClient
from tests.integration.sandbox.conftest import Box

from wahub.sandbox.serve import SandboxOptions, running

ALICE, BOB = "491510000001", "491510000002"


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def phones(box: Box) -> None:
    for number in (ALICE, BOB):
        await box.post("/control/phones", {"number": number})


async def code_shown(baileys: BaileysClient, directory: Path, number: str = ALICE, **options: Any) -> str:
    """A new client that shows a code for a number."""
    await baileys.command("start", "alice", dir=str(directory / "alice"), options=options)
    await baileys.expect("alice", "qr")
    await baileys.command("code", "alice", number=number)
    return str((await baileys.expect("alice", "code"))["code"])


async def type_code(box: Box, code: str, number: str = ALICE) -> tuple[int, dict[str, Any]]:
    answer = await box.http.post(f"/control/phones/{number}/pair", json={"code": code})
    return answer.status_code, answer.json()


async def until(box: Box, enough: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The statistics, once they are as wanted: Baileys shows its code before the server has the request."""
    async with asyncio.timeout(30):
        while not enough(stats := await box.stats()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return stats


async def until_asked(box: Box, times: int = 1) -> None:
    await until(box, lambda stats: stats["codesAsked"] == times)


async def test_a_typed_code_links_and_the_client_logs_in(box: Box, baileys: BaileysClient, tmp_path: Path) -> None:
    code = await code_shown(baileys, tmp_path)
    await until_asked(box)
    assert await type_code(box, f"{code[:4]}-{code[4:]}".lower()) == (200, {"device": 1})
    assert (await baileys.expect("alice", "close"))["code"] == 515
    await baileys.command("start", "alice", dir=str(tmp_path / "alice"))
    assert (await baileys.expect("alice", "open"))["me"]["id"] == f"{ALICE}:1@s.whatsapp.net"
    await baileys.command("send", "alice", to=f"{BOB}@s.whatsapp.net", text="by code", id="M1")
    messages = await box.get(f"/control/phones/{BOB}/messages?after=0&wait=15000")
    assert [message["text"] for message in messages["messages"]] == ["by code"]
    assert (await type_code(box, code))[0] == 409
    stats = await box.stats()
    assert (stats["violations"], stats["iq"]["unknown"]) == ([], [])
    assert (stats["qrShown"], stats["codesAsked"], stats["logins"]) == (1, 1, 1)


async def test_only_the_right_code_on_the_right_phone_links(box: Box, baileys: BaileysClient, tmp_path: Path) -> None:
    code = await code_shown(baileys, tmp_path)
    await until_asked(box)
    wrong = ("A" if code[0] != "A" else "B") + code[1:]
    assert (await type_code(box, wrong))[0] == 409
    assert (await type_code(box, code, BOB))[0] == 409
    await box.post(f"/control/phones/{ALICE}/online", {"online": False})
    assert (await type_code(box, code))[0] == 409
    await box.post(f"/control/phones/{ALICE}/online", {"online": True})
    for number in (ALICE, BOB):
        assert (await box.get(f"/control/phones/{number}"))["devices"] == []

    assert (await type_code(box, code))[0] == 200

    assert (await baileys.expect("alice", "close"))["code"] == 515
    assert (await box.stats())["violations"] == []


async def test_a_newer_code_takes_the_place_of_the_older(box: Box, baileys: BaileysClient, tmp_path: Path) -> None:
    older = await code_shown(baileys, tmp_path)
    await until_asked(box)
    await baileys.command("code", "alice", number=ALICE)
    newer = str((await baileys.expect("alice", "code"))["code"])
    await until_asked(box, 2)
    assert (await type_code(box, older))[0] == 409
    assert (await type_code(box, newer))[0] == 200


async def test_a_product_name_is_refused_as_by_the_real_server(
    box: Box, baileys: BaileysClient, tmp_path: Path
) -> None:
    code = await code_shown(baileys, tmp_path, browser=["Acme", "Chrome", "1.0"])
    stats = await until(box, lambda stats: stats["violations"])
    assert [found["kind"] for found in stats["violations"]] == ["pairing_code"]
    assert (await type_code(box, code))[0] == 409


async def test_a_code_ends_with_its_registration(tmp_path: Path) -> None:
    # On a busy machine a code takes its time.
    options = SandboxOptions(port=0, qr_first_ms=4_000, qr_next_ms=50)
    async with (
        running(options) as addresses,
        httpx.AsyncClient(base_url=addresses.control_url, timeout=30) as http,
    ):
        hasty = Box(addresses, http)
        await hasty.post("/control/phones", {"number": ALICE})
        client = await BaileysClient.spawn(addresses.ws_url, addresses.trust_root, addresses.ca_file)
        try:
            code = await code_shown(client, tmp_path)
            await until_asked(hasty)
            assert (await client.expect("alice", "close"))["code"] == 428
            assert (await type_code(hasty, code))[0] == 409
        finally:
            await client.close()
