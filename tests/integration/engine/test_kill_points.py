"""The process that takes a message dies at each named point: told exactly once afterwards, whatever kind it is."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.engine.conftest import StartEngine
from tests.integration.engine.network import Account, Box, new_message_id
from tests.integration.engine.waiting import until

from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.domain.instance import Disconnect
from wahub.domain.message import Poll
from wahub.ports.engine import CaughtUp, Closed, Inbound

PEER = "15550002222"
POINTS = ("after_spool", "after_key_commit", "after_receipt")
IMAGE = {"media": {"kind": "image", "base64": base64.b64encode(b"a picture").decode(), "caption": "survive"}}
TEXT = {"text": "survive"}
POLL = Poll("Come?", ("yes", "no"), multiple=False, secret=bytes(range(32)))


class Scene:
    """An account, somebody who writes to it, an engine, and others that die when they take the next message."""

    def __init__(
        self,
        box: Box,
        account: Account,
        engine: BaileysEngine,
        start_engine: StartEngine,
        settings: BaileysSettings,
    ) -> None:
        self.box = box
        self.account = account
        self._engine = engine
        self._start = start_engine
        # What the dead one leaves is found by the one that goes on.
        self._settings = replace(settings, spool_dir=engine._settings.spool_dir)
        self.peer = PEER
        self.group = ""
        self.poll = ""
        self.stored: set[str] = set()
        """Messages that were acknowledged; the gateway knows them when they come again."""

    async def say(self, to: str, **what: Any) -> str:
        return str((await self.box.post(f"phones/{self.peer}/send", to=to, **what))["messageId"])

    async def vote(self) -> str:
        return str((await self.box.post(f"phones/{PEER}/vote", pollId=self.poll, options=["no"]))["messageId"])

    async def new_group(self) -> None:
        made = await self.box.post("groups", subject="Ours", owner=PEER, members=[self.account.number])
        self.group = str(made["id"])
        await until(lambda: any(event.body["chat"] == self.group for event in self.account.watcher.all(Inbound)))

    def told(self) -> list[dict[str, Any]]:
        assert self.account.watcher is not None
        bodies = [dict(event.body) for event in self.account.watcher.all(Inbound)]
        news = [body for body in bodies if body["message_id"] not in self.stored]
        return [body for body in news if body["type"] not in ("group_update", "call")]

    async def take_all(self) -> None:
        """What is told so far is stored."""
        assert self.account.watcher is not None
        await self.account.watcher.first(CaughtUp)
        for event in self.account.watcher.all(Inbound):
            self.account.link.ack_inbound(event.seq)
            self.stored.add(event.body["message_id"])

    async def arrive(self, kind: str) -> str:
        """A message of that kind is written."""
        to = self.group if kind.startswith("group") else self.account.number
        if kind == "vote":
            return await self.vote()
        return await self.say(to, **(IMAGE if kind.endswith("image") else TEXT))

    async def prepare(self, kind: str) -> None:
        """What went before it: nothing, or a message so that keys and sessions are there."""
        if kind == "first":
            self.peer = str(int(self.peer) + 1)
            await self.box.phone(self.peer)
        if kind.startswith("group"):
            await self.new_group()
        if kind in ("group text", "group image"):
            await self.say(self.group, text="before")
            await until(lambda: [body["text"] for body in self.told()][-1:] == ["before"])
        if kind in ("text", "image", "vote"):
            await self.say(self.account.number, text="before")
            await until(lambda: [body["text"] for body in self.told()][-1:] == ["before"])
        if kind == "vote":
            self.poll = await self.account.send_poll(PEER, POLL, new_message_id())
            await self.box.received(PEER, 1)
        await self.take_all()

    async def dies(self, point: str, kind: str) -> str:
        """The message of that kind that was being taken when the process died."""
        await self.account.link.close()
        dying = await self._start(self._settings, fault=point)
        watcher = await self.account.login(dying)
        await watcher.first(CaughtUp)
        message = await self.arrive(kind)
        assert (await watcher.first(Closed)).reason is Disconnect.ENGINE_DIED
        await dying.stop()
        watcher = await self.account.login(self._engine)
        await watcher.first(CaughtUp)
        return message


@pytest_asyncio.fixture(loop_scope="session")
async def scene(
    box: Box, account: Account, engine: BaileysEngine, start_engine: StartEngine, box_settings: BaileysSettings
) -> Scene:
    await box.phone(PEER)
    return Scene(box, account, engine, start_engine, box_settings)


def _expected(kind: str) -> tuple[str, str | None]:
    return ("vote", None) if kind == "vote" else ("image" if kind.endswith("image") else "text", "survive")


@pytest.mark.parametrize("kind", ["first", "text", "image", "vote", "group first", "group text", "group image"])
async def test_it_is_told_exactly_once(scene: Scene, kind: str) -> None:
    for point in POINTS:
        await scene.prepare(kind)
        message = await scene.dies(point, kind)
        [body] = scene.told()
        assert (body["message_id"], body["type"], body["text"]) == (message, *_expected(kind)), point
        if kind == "vote":
            assert body["options"] == ["no"]
        # The ratchets still work.
        after = await scene.say(scene.group or scene.account.number, text="after")
        await until(lambda after=after: [body["message_id"] for body in scene.told()][1:] == [after])
        await scene.take_all()
    stats = await scene.box.get("stats")
    assert (stats["violations"], stats["messages"]["undecryptable"]) == ([], 0)
