"""Unmodified Baileys against the sandbox: linking, logging in, logging out."""

from __future__ import annotations

from pathlib import Path

from tests.integration.sandbox.baileys_client import BaileysClient
from tests.integration.sandbox.conftest import Box, Link

ALICE = "491510000001"
BOB = "491510000002"


async def test_a_scan_links_and_the_client_logs_in(box: Box, baileys: BaileysClient, link: Link) -> None:
    device = await link("bob", BOB)

    shown = await box.get(f"/control/phones/{BOB}")
    assert [entry["id"] for entry in shown["devices"]] == [device]
    assert shown["devices"][0]["connected"] is True
    stats = await box.stats()
    assert stats["logins"] == 1
    assert stats["connections"] == 1
    assert stats["violations"] == []
    assert stats["iq"]["unknown"] == []


async def test_a_used_code_is_refused(box: Box, baileys: BaileysClient, tmp_path: Path) -> None:
    await box.post("/control/phones", {"number": ALICE})
    await box.post("/control/phones", {"number": BOB})
    await baileys.command("start", "alice", dir=str(tmp_path / "alice"))
    code = (await baileys.expect("alice", "qr"))["qr"]
    await box.post(f"/control/phones/{ALICE}/scan", {"qr": code})
    answer = await box.http.post(f"/control/phones/{BOB}/scan", json={"qr": code})
    assert answer.status_code == 409


async def test_a_linked_client_comes_back_without_a_scan(
    box: Box, baileys: BaileysClient, link: Link, tmp_path: Path
) -> None:
    await link("alice", ALICE)
    await baileys.command("end", "alice")
    await baileys.expect("alice", "close")

    await baileys.command("start", "alice", dir=str(tmp_path / "alice"))
    await baileys.expect("alice", "open")

    stats = await box.stats()
    assert stats["logins"] == 2
    assert stats["maxConnectionsPerDevice"] == 1
    assert stats["violations"] == []


async def test_a_second_socket_replaces_the_first(box: Box, baileys: BaileysClient, link: Link, tmp_path: Path) -> None:
    await link("alice", ALICE)

    await baileys.command("start", "twin", dir=str(tmp_path / "alice"))

    assert (await baileys.expect("alice", "close"))["code"] == 440
    await baileys.expect("twin", "open")
    stats = await box.stats()
    assert [entry["kind"] for entry in stats["violations"]] == ["second_socket"]
    assert stats["maxConnectionsPerDevice"] == 2
    assert stats["connections"] == 1


async def test_unlinking_on_the_phone_ends_the_session_for_good(
    box: Box, baileys: BaileysClient, link: Link, tmp_path: Path
) -> None:
    device = await link("alice", ALICE)

    assert (await box.http.delete(f"/control/phones/{ALICE}/devices/{device}")).status_code < 300

    assert (await baileys.expect("alice", "close"))["code"] == 401
    await baileys.command("start", "alice", dir=str(tmp_path / "alice"))
    assert (await baileys.expect("alice", "close"))["code"] == 401
    assert [entry["kind"] for entry in (await box.stats())["violations"]] == ["login"]


async def test_logging_out_unlinks(box: Box, baileys: BaileysClient, link: Link) -> None:
    await link("alice", ALICE)
    await baileys.command("logout", "alice")
    assert (await baileys.expect("alice", "close"))["code"] == 401
    assert (await box.get(f"/control/phones/{ALICE}"))["devices"] == []


async def test_pings_are_answered(baileys: BaileysClient, link: Link) -> None:
    await link("alice", ALICE)
    ping = {"tag": "iq", "attrs": {"to": "@s.whatsapp.net", "type": "get", "xmlns": "w:p"}}
    await baileys.command("query", "alice", tag="ping", node={**ping, "content": [{"tag": "ping", "attrs": {}}]})
    assert (await baileys.expect("alice", "result"))["node"]["attrs"]["type"] == "result"


async def test_an_unknown_query_is_refused_and_listed(box: Box, baileys: BaileysClient, link: Link) -> None:
    await link("alice", ALICE)
    query = {"tag": "iq", "attrs": {"to": "@s.whatsapp.net", "type": "get", "xmlns": "w:nonsense"}}
    await baileys.command("query", "alice", tag="odd", node={**query, "content": [{"tag": "odd", "attrs": {}}]})
    assert (await baileys.expect("alice", "error"))["data"] == 501
    assert (await box.stats())["iq"]["unknown"] == ["w:nonsense get odd"]
