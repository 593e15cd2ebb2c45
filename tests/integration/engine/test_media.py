"""Files of messages, from the sandbox's media server: what a phone sent is what lies on the disk."""

from __future__ import annotations

import asyncio
import base64
import random
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tests.integration.engine.network import Account, Box
from tests.support.proxies import HttpProxy, Proxy, Socks5Proxy, proxy_running

from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.domain.ids import InstanceId
from wahub.domain.inbox import from_engine
from wahub.domain.media import Attached, attached
from wahub.ports.engine import Fetched, Inbound

NUMBER, PEER = "15550001111", "15550002222"


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


async def sent(box: Box, to: Account, data: bytes, after: int = 0, **media: Any) -> Attached:
    """A phone sends a file; what the account's link tells of it."""
    await box.phone(PEER)
    shown = {"kind": "image", **media, "base64": base64.b64encode(data).decode()}
    await box.post(f"phones/{PEER}/send", to=to.number, media=shown)
    return await told(to, after)


async def told(to: Account, after: int = 0) -> Attached:
    assert to.watcher is not None
    inbound = await to.watcher.first(Inbound, after=after)
    found = attached(from_engine(InstanceId("shop"), inbound.body))
    assert found is not None
    return found


def left_in(folder: Path) -> list[str]:
    """Names of what lies there, parts of files too."""
    return sorted(file.name for file in folder.glob("file*"))


@pytest_asyncio.fixture(loop_scope="session")
async def server(box: Box) -> AsyncIterator[httpx.AsyncClient]:
    """The media server, as anybody reaches it."""
    trust = ssl.create_default_context(cafile=box.addresses.ca_file)
    async with httpx.AsyncClient(base_url=box.addresses.media_url, verify=trust) as client:
        yield client


@pytest.mark.parametrize(
    "media",
    [
        {"kind": "image", "caption": "look"},
        {"kind": "video"},
        {"kind": "audio", "voice": True},
        {"kind": "document", "fileName": "list.pdf", "caption": "read"},
        {"kind": "document", "fileName": "list.pdf"},
        {"kind": "sticker"},
    ],
    ids=["image", "video", "voice", "document with a caption", "document", "sticker"],
)
async def test_what_was_sent_is_what_is_fetched(
    box: Box, account: Account, tmp_path: Path, media: dict[str, Any]
) -> None:
    data = content(70_001)
    found = await sent(box, account, data, **media)
    assert (found.ref.kind, found.size, found.name) == (media["kind"], len(data), media.get("fileName"))
    target = tmp_path / "file"
    fetched = await account.link.fetch(found.ref, target, len(data))
    assert (fetched.error, fetched.size) == (None, len(data))
    assert target.read_bytes() == data
    assert target.stat().st_mode & 0o777 == 0o600
    assert left_in(tmp_path) == ["file"]


async def test_a_file_that_the_account_sent_from_its_own_phone(box: Box, account: Account, tmp_path: Path) -> None:
    await box.phone(PEER)
    data = content(5_000)
    shown = {"kind": "image", "base64": base64.b64encode(data).decode()}
    await box.post(f"phones/{NUMBER}/send", to=PEER, media=shown)
    found = await told(account)
    assert account.watcher.first and account.watcher.all(Inbound)[0].body["from_me"]
    assert (await account.link.fetch(found.ref, tmp_path / "file", 0)).error is None
    assert (tmp_path / "file").read_bytes() == data


async def test_what_goes_wrong_has_a_word_and_leaves_no_file(
    box: Box, account: Account, server: httpx.AsyncClient, tmp_path: Path
) -> None:
    found = await sent(box, account, content(9_000))
    target = tmp_path / "file"

    async def word(limit: int = 0) -> str | None:
        fetched: Fetched = await account.link.fetch(found.ref, target, limit)
        assert target.exists() == (fetched.error is None)
        return fetched.error

    assert await word(limit=8_999) == "too_large"
    for status, expected in ((404, "gone"), (410, "gone"), (403, "refused"), (500, "refused")):
        await box.fault({"stanza": "download"}, mediaError={"status": status})
        assert await word() == expected
    sealed = (await server.get(found.ref.direct_path)).content
    await server.put(found.ref.direct_path, content=sealed[:4_000] + bytes([sealed[4_000] ^ 1]) + sealed[4_001:])
    assert await word() == "damaged"
    await server.put(found.ref.direct_path, content=sealed)
    assert await word() is None
    assert left_in(tmp_path) == ["file"]


async def test_a_link_that_ends_answers_at_once(box: Box, account: Account, tmp_path: Path) -> None:
    found = await sent(box, account, content(100))
    fetches = [asyncio.create_task(account.link.fetch(found.ref, tmp_path / str(at), 0)) for at in range(6)]
    await asyncio.sleep(0)
    await account.link.close()
    answers = await asyncio.wait_for(asyncio.gather(*fetches), 10)
    assert {answer.error for answer in answers} <= {"not_open", None}
    assert (await account.link.fetch(found.ref, tmp_path / "later", 0)).error == "not_open"
    assert not (tmp_path / "later").exists()


@pytest.mark.parametrize(("scheme", "kind"), [("http", HttpProxy), ("socks5", Socks5Proxy)], ids=["http", "socks5"])
async def test_a_file_comes_through_the_proxy_of_its_account(
    box: Box, engine: BaileysEngine, tmp_path: Path, scheme: str, kind: type[Proxy]
) -> None:
    async with proxy_running(kind("shop", "pass word")) as proxy:
        account = Account(box, NUMBER, proxy=proxy.url(scheme))
        await account.pair(engine)
        data = content(40_000)
        found = await sent(box, account, data)
        before = len(proxy.targets)
        assert (await account.link.fetch(found.ref, tmp_path / "file", 0)).error is None
        assert (tmp_path / "file").read_bytes() == data
        assert proxy.targets[before:] == [box.addresses.media_url.removeprefix("https://")]
        await account.link.close()


async def test_a_large_file_costs_the_engine_no_memory(
    box: Box, away: Account, own_engine: BaileysEngine, tmp_path: Path
) -> None:
    data = content(40_000_000)
    await away.login(own_engine)
    found = await sent(box, away, data)
    # Once for what is loaded with the first download.
    assert (await away.link.fetch(found.ref, tmp_path / "first", 0)).error is None
    before = _peak(own_engine.pids[0])
    answers = await asyncio.gather(*(away.link.fetch(found.ref, tmp_path / str(at), 0) for at in range(4)))
    assert [answer.error for answer in answers] == [None] * 4
    assert all((tmp_path / str(at)).read_bytes() == data for at in range(4))
    # 160 MB came by. What is garbage already counts, too: up to 95 MB were seen, and 235 or more with whole files.
    assert _peak(own_engine.pids[0]) - before < 160_000_000


def _peak(pid: int) -> int:
    """The most memory that the process ever held, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (found,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(found.split()[1]) * 1024
