"""One Signal session per person, however often the link comes back: the pre-keys of others are not ours to spend."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from tests.integration.engine.conftest import StartEngine
from tests.integration.engine.network import Account, Box
from tests.integration.engine.waiting import until

from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.domain.session import KeyName
from wahub.ports.engine import Inbound, SendAcked

PEER = "15550002222"
LINKS = 4
UNHIDDEN = "export const hideKnownLids = () => {};\n"


@pytest.fixture
def without_hiding(box_settings: BaileysSettings, tmp_path: Path) -> Path:
    """The side process that lets Baileys see every LID."""
    directory = tmp_path / "unhidden"
    shutil.copytree(box_settings.directory, directory)
    (directory / "node_modules").symlink_to(box_settings.directory.parent / "node_modules")
    (directory / "known_lids.mjs").write_text(UNHIDDEN)
    return directory


async def _write_on_each_link(account: Account, box: Box, engine: BaileysEngine) -> None:
    await box.phone(PEER)
    for number in range(LINKS):
        if number:
            await account.link.close()
            await account.login(engine)
        assert await account.send(PEER, f"link {number}") == SendAcked()
    assert [message["text"] for message in await box.received(PEER, LINKS)] == [f"link {n}" for n in range(LINKS)]


async def _sessions(account: Account, box: Box, number: str) -> int:
    lid = (await box.get(f"phones/{number}"))["lid"].split("@")[0]
    stored = json.loads(account.vault.values[KeyName("session", f"{lid}_1.0")])
    return len(stored["_sessions"])


async def _keys_taken(account: Account, box: Box) -> Counter[str]:
    """How often the keys of each address were asked for."""
    asked = [entry["stanza"] for entry in await box.trace(account.number, "iq") if entry["direction"] == "in"]
    users = [user for query in asked for user in _below(query, "key") if user["tag"] == "user"]
    return Counter(user["attrs"]["jid"].split("@")[0] for user in users)


def _below(node: dict[str, object], tag: str) -> list[dict[str, dict[str, str]]]:
    children = node.get("children") or []
    assert isinstance(children, list)
    return [inner for child in children if child["tag"] == tag for inner in child.get("children") or []]


async def test_a_new_link_goes_on_with_the_session(account: Account, box: Box, engine: BaileysEngine) -> None:
    await _write_on_each_link(account, box, engine)
    assert await _sessions(account, box, PEER) == 1
    assert await _sessions(account, box, account.number) == 1
    taken = await _keys_taken(account, box)
    assert taken
    assert set(taken.values()) == {1}
    await box.post(f"phones/{PEER}/send", to=account.number, text="and back")
    await until(lambda: [event.body["text"] for event in account.watcher.all(Inbound)] == ["and back"])
    assert (await box.get("stats"))["messages"]["undecryptable"] == 0


async def test_without_it_each_link_takes_new_keys(
    start_engine: StartEngine, box: Box, away: Account, box_settings: BaileysSettings, without_hiding: Path
) -> None:
    """The test above can fail: this is what it would see. If this fails, Baileys keeps sessions by itself."""
    engine = await start_engine(box_settings, directory=without_hiding)
    await away.login(engine)
    await _write_on_each_link(away, box, engine)
    assert await _sessions(away, box, PEER) == LINKS
    assert max((await _keys_taken(away, box)).values()) == LINKS


async def test_who_wrote_first_is_answered_in_that_session(account: Account, box: Box) -> None:
    await box.phone(PEER)
    await box.post(f"phones/{PEER}/send", to=account.number, text="first")
    await account.watcher.first(Inbound)
    assert await account.send(PEER, "answer") == SendAcked()
    await box.received(PEER, 1)
    assert await _sessions(account, box, PEER) == 1


async def test_one_who_cannot_read_gets_a_new_session(account: Account, box: Box) -> None:
    await box.phone(PEER)
    assert await account.send(PEER, "read") == SendAcked()
    await box.received(PEER, 1)
    await box.fault({"number": PEER}, retryReceipt={})
    assert await account.send(PEER, "unread") == SendAcked()
    assert [message["text"] for message in await box.received(PEER, 2)] == ["read", "unread"]
    assert await _sessions(account, box, PEER) == 2
