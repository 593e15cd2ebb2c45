"""A sandbox in the test's own event loop, and linked accounts on it."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.integration.engine.vault import MemoryVault
from tests.integration.engine.waiting import PATIENCE, Watcher, until, until_asked

from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.domain.ids import ChatId, InstanceId, MessageId, message_id
from wahub.domain.instance import Disconnect, EngineOptions
from wahub.domain.message import Poll, Text
from wahub.ports.engine import Closed, LinkSpec, Opened, Paired, QrShown, SendAcked, SendResult
from wahub.sandbox.serve import Addresses

_entropy = itertools.count(1)
_accounts = itertools.count(1)


def new_message_id() -> MessageId:
    return message_id("15550001111", next(_entropy).to_bytes(16, "big"))


@dataclass
class Box:
    """The sandbox, through its public control API."""

    addresses: Addresses
    http: httpx.AsyncClient

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = await self.http.post(f"/control/{path}", json=body)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else {}

    async def get(self, path: str) -> dict[str, Any]:
        answer = await self.http.get(f"/control/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def phone(self, number: str) -> None:
        await self.post("phones", number=number, name=f"Person {number[-2:]}")

    async def received(self, number: str, count: int) -> list[dict[str, Any]]:
        """The phone's messages, once there are at least `count`."""
        after, found = 0, []
        deadline = time.monotonic() + PATIENCE
        while len(found) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} messages arrived"
            page = (await self.get(f"phones/{number}/messages?after={after}&wait=1000"))["messages"]
            found += page
            after = page[-1]["seq"] if page else after
        return found

    async def fault(self, match: dict[str, Any], times: int = 1, **do: dict[str, Any]) -> str:
        return str((await self.post("faults", match=match, do=do, times=times))["id"])

    async def inject(self, number: str, **do: dict[str, Any]) -> None:
        """A fault at once, on the live socket of the account's newest device."""
        device = (await self.get(f"phones/{number}"))["devices"][-1]["id"]
        await self.post(f"phones/{number}/devices/{device}/inject", fault=do)

    async def trace(self, number: str, tag: str) -> list[dict[str, Any]]:
        entries = (await self.get(f"trace?number={number}&after=0"))["stanzas"]
        return [entry for entry in entries if entry["stanza"]["tag"] == tag]


@dataclass
class Account:
    """An account with a phone, and what its gateway knows of it."""

    box: Box
    number: str
    vault: MemoryVault = field(default_factory=MemoryVault)
    epoch: int = 0
    proxy: str | None = None
    options: EngineOptions = field(default_factory=EngineOptions)
    watcher: Watcher | None = None
    instance: InstanceId = field(default_factory=lambda: InstanceId(f"account-{next(_accounts)}"))
    """Another one in each test: an engine that saw them all cannot take one for the other."""
    spool: Path | None = None
    """What the engine that it was last connected by keeps of its messages."""

    @property
    def link(self) -> Any:
        assert self.watcher is not None
        return self.watcher.link

    async def connect(self, engine: BaileysEngine, term: float = 60.0) -> Watcher:
        # One that died is started again; on a busy machine that takes longer than `open` waits for it.
        await until(lambda: engine.pids)
        self.epoch += 1
        spec = LinkSpec(self.instance, self.epoch, time.monotonic() + term, self.proxy, self.options)
        self.spool = engine._settings.spool_dir / self.instance
        self.watcher = Watcher(await engine.open(spec, self.vault))
        return self.watcher

    async def pair(self, engine: BaileysEngine) -> Watcher:
        """Scan the code, see the restart, come back logged in."""
        await self.box.phone(self.number)
        watcher = await self.connect(engine)
        code = await watcher.first(QrShown)
        await self.box.post(f"phones/{self.number}/scan", qr=code.text)
        assert (await watcher.first(Paired)).me.phone == self.number
        assert (await watcher.first(Closed)).reason is Disconnect.RESTART_REQUIRED
        return await self.login(engine)

    async def login(self, engine: BaileysEngine, term: float = 60.0) -> Watcher:
        watcher = await self.connect(engine, term)
        await watcher.first(Opened)
        return watcher

    async def settled(self) -> None:
        """Until the server has what Baileys asks of it by itself after the login: the next question is ours."""

        async def have_come() -> bool:
            asked = {entry["stanza"]["attrs"].get("xmlns") for entry in await self.box.trace(self.number, "iq")}
            return asked >= {"abt", "blocklist", "privacy"}

        await until_asked(have_come)

    async def send(self, to: str, text: str, identity: MessageId | None = None) -> SendResult:
        return await self.link.send(identity or new_message_id(), ChatId.parse(to), Text(text))

    async def send_poll(self, to: str, poll: Poll, identity: MessageId | None = None) -> MessageId:
        """Send a poll as the gateway does: it is in the store before it leaves."""
        identity = identity or new_message_id()
        self.vault.sent[identity] = (ChatId.parse(to), poll)
        assert await self.link.send(identity, ChatId.parse(to), poll) == SendAcked()
        return identity
