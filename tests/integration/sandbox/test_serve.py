"""The sandbox as a process: its first line, its files, its signals, and a kill in mid-traffic."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.sandbox.baileys_client import BaileysClient, node_modules
from tests.support.ground import Ground

from wahub.sandbox.serve import SandboxError, SandboxOptions, SandboxSettingError, running

ALICE, BOB = "491510000001", "491510000002"
SCRIPT = """
import asyncio, json, sys
from pathlib import Path
from wahub.sandbox.serve import SandboxOptions, serve
options = json.loads(sys.argv[1])
paths = {name: Path(options.pop(name)) for name in ("state", "ready_file", "env_file") if name in options}
asyncio.run(serve(SandboxOptions(**options, **paths)))
"""


class Process:
    def __init__(self, process: asyncio.subprocess.Process, line: dict[str, Any]) -> None:
        self.process = process
        self.line = line

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(30):
            return await self.process.wait()


@asynccontextmanager
async def sandbox(**options: Any) -> AsyncIterator[Process]:
    values = {"port": 0, **{key: str(v) if isinstance(v, Path) else v for key, v in options.items()}}
    source = str(Path(__file__).parents[3] / "src")
    environment = {**os.environ, "PYTHONPATH": source}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRIPT, json.dumps(values), stdout=asyncio.subprocess.PIPE, env=environment
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(45):
            line = await process.stdout.readline()
        yield Process(process, json.loads(line))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def client_of(box: Process) -> httpx.AsyncClient:
    """For its control API. By default httpx waits 5 s for an answer, and so does a call that waits for a message."""
    return httpx.AsyncClient(base_url=box.line["controlUrl"], timeout=30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_first_line_files_and_a_clean_stop(tmp_path: Path, number: signal.Signals) -> None:
    ready, environment = tmp_path / "ready.json", tmp_path / "sandbox.env"
    async with sandbox(ready_file=ready, env_file=environment, seed="a seed") as box:
        assert box.line["event"] == "listening"
        assert set(box.line) == {"event", "controlUrl", "wsUrl", "mediaUrl", "trustRoot", "caFile"}
        assert box.line["wsUrl"].startswith("ws://127.0.0.1:")
        assert box.line["wsUrl"].endswith("/ws/chat")
        async with httpx.AsyncClient(timeout=30) as http:
            health = (await http.get(box.line["controlUrl"] + "/control/health")).json()
        assert health == {"ok": True, "wsUrl": box.line["wsUrl"], "trustRoot": box.line["trustRoot"]}
        assert json.loads(ready.read_text()) == box.line
        lines = dict(line.split("=", 1) for line in environment.read_text().splitlines())
        assert lines == {
            "WAHUB_WA_URL": box.line["wsUrl"],
            "WAHUB_WA_TRUST_ROOT": box.line["trustRoot"],
            "WAHUB_WA_CA_FILE": box.line["caFile"],
        }
        assert await box.end(number) == 0
        assert box.process.stdout is not None
        assert await box.process.stdout.read() == b""


async def test_other_hosts_need_i_know() -> None:
    for host in ("0.0.0.0", "192.0.2.1", "example.org"):
        with pytest.raises(SandboxSettingError, match="--i-know"):
            async with running(SandboxOptions(host=host, port=0)):
                pass


async def test_a_taken_port_is_named() -> None:
    async with running(SandboxOptions(port=0)) as addresses:
        port = int(addresses.control_url.rsplit(":", 1)[1])
        with pytest.raises(SandboxError, match="--port"):
            async with running(SandboxOptions(port=port)):
                pass


async def test_media_is_served_with_a_certificate_of_the_ca() -> None:
    async with running(SandboxOptions(port=0)) as addresses:
        trust = ssl.create_default_context(cafile=addresses.ca_file)
        async with httpx.AsyncClient(verify=trust, base_url=addresses.media_url, timeout=30) as http:
            up = (await http.post("/mms/image/abc?auth=x&token=abc", content=b"sealed")).json()
            assert up["direct_path"] == "/mms/image/abc"
            assert (await http.get(up["url"])).content == b"sealed"
            assert (await http.get("/mms/image/other")).status_code == 404
            assert (await http.delete("/mms/image/abc")).status_code == 405


async def test_the_same_seed_keeps_the_trust_root_and_the_ca(tmp_path: Path) -> None:
    async with running(SandboxOptions(port=0, seed="s", state=tmp_path / "one.db")) as first:
        shutil.copy(first.ca_file, tmp_path / "old.pem")
    async with running(SandboxOptions(port=0, state=tmp_path / "one.db")) as second:
        assert second.trust_root == first.trust_root
        trust = ssl.create_default_context(cafile=str(tmp_path / "old.pem"))
        async with httpx.AsyncClient(verify=trust, timeout=30) as http:
            assert (await http.get(second.media_url + "/nothing")).status_code == 404


async def post(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await http.post(path, json=body)
    assert answer.status_code < 300, answer.text
    return answer.json()


async def test_a_killed_sandbox_comes_back_with_everything(tmp_path: Path) -> None:
    if node_modules() is None:
        pytest.skip("Baileys is not installed")
    state, directory = tmp_path / "state.db", str(tmp_path / "alice")
    async with sandbox(state=state) as box, client_of(box) as http:
        for number in (ALICE, BOB):
            await post(http, "/control/phones", {"number": number})
        client = await BaileysClient.spawn(box.line["wsUrl"], box.line["trustRoot"], box.line["caFile"])
        await client.command("start", "alice", dir=directory)
        await post(http, f"/control/phones/{ALICE}/scan", {"qr": (await client.expect("alice", "qr"))["qr"]})
        await client.expect("alice", "close")
        await client.command("start", "alice", dir=directory)
        await client.expect("alice", "drained")
        for index in range(5):
            await client.command("send", "alice", to=f"{BOB}@s.whatsapp.net", text=f"out {index}", id=f"OUT{index}")
            await client.expect("alice", "ack", lambda ack, index=index: ack["id"] == f"OUT{index}")
        await client.command("end", "alice")
        await client.expect("alice", "close")
        await post(http, f"/control/phones/{BOB}/send", {"to": ALICE, "text": "before the kill"})
        assert await box.end(signal.SIGKILL) == -signal.SIGKILL
        await client.close()

    async with sandbox(state=state) as again, client_of(again) as http:
        assert again.line["trustRoot"] == box.line["trustRoot"]
        inbox = (await http.get(f"/control/phones/{BOB}/messages?after=0")).json()["messages"]
        assert [message["text"] for message in inbox] == [f"out {index}" for index in range(5)]
        client = await BaileysClient.spawn(again.line["wsUrl"], again.line["trustRoot"], again.line["caFile"])
        try:
            await client.command("start", "alice", dir=directory)
            await client.expect("alice", "open")
            assert (await client.expect("alice", "message"))["text"] == "before the kill"
            await client.command("send", "alice", to=f"{BOB}@s.whatsapp.net", text="after the kill", id="AFTER")
            await client.expect("alice", "ack", lambda ack: ack["id"] == "AFTER")
            more = (await http.get(f"/control/phones/{BOB}/messages?after=5&wait=15000")).json()["messages"]
            assert [message["text"] for message in more] == ["after the kill"]
            assert (await http.get("/control/stats")).json()["violations"] == []
        finally:
            await client.close()


async def test_a_client_that_was_live_at_a_kill_comes_back_on_the_same_port_without_a_code(
    tmp_path: Path, ground: Ground
) -> None:
    if node_modules() is None:
        pytest.skip("Baileys is not installed")
    state, directory = tmp_path / "state.db", str(tmp_path / "alice")
    # Held for us, or somebody else might be given it while nobody listens.
    port = ground.options.port
    async with sandbox(state=state, port=port) as box:
        client = await BaileysClient.spawn(box.line["wsUrl"], box.line["trustRoot"], box.line["caFile"])
        async with client_of(box) as http:
            await post(http, "/control/phones", {"number": ALICE})
            await client.command("start", "alice", dir=directory)
            await post(http, f"/control/phones/{ALICE}/scan", {"qr": (await client.expect("alice", "qr"))["qr"]})
        await client.expect("alice", "close")
        await client.command("start", "alice", dir=directory)
        await client.expect("alice", "open")
        await client.expect("alice", "drained")
        assert await box.end(signal.SIGKILL) == -signal.SIGKILL
    try:
        assert (await client.expect("alice", "close"))["code"] == 428
        await client.command("start", "alice", dir=directory)
        assert (await client.expect("alice", "close"))["code"] == 408
        async with sandbox(state=state, port=port) as again:
            for name in ("wsUrl", "trustRoot", "caFile"):
                assert again.line[name] == box.line[name]
            await client.command("start", "alice", dir=directory)
            await client.expect("alice", "open")
            async with client_of(again) as http:
                stats = (await http.get("/control/stats")).json()
            assert (stats["qrShown"], stats["logins"], stats["violations"]) == (0, 1, [])
            assert client.seen("alice", "qr") == []
    finally:
        await client.close()
