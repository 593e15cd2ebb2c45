"""The stage of a benchmark: one sandbox with phones, a gateway and the yardstick, and accounts linked to both."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from bench.http_client import CallError, Connection
from bench.machine import cpu_seconds
from bench.processes import BenchError, Command, Plain
from wahub.adapters.engines.baileys.install import InstalledEngine

LINK_TIMEOUT = 90.0
_REST_S = 0.5
_AT_REST = 0.06
"""Cores that all processes together may use and count as resting."""
NO_LIMITS = {
    "MAX_SENDS_PER_MINUTE_PER_INSTANCE": "0",
    "MAX_SENDS_PER_HOUR_PER_INSTANCE": "0",
    "SEND_SPACING_MS": "0",
    "MAX_QUEUE_SIZE": "1000000",
    "LOG_LEVEL": "warning",
}
_WAHUB, _PLAIN, _PEOPLE = "1202555", "1303555", "1404555"
# Nobody listens there; the gateway's posts to it fail and are put off, as for any receiver that is down.
_EVENTS = ["disconnected"]


def wahub_account(index: int) -> str:
    """The number of the phone that a gateway instance is linked to."""
    return f"{_WAHUB}{index:04}"


def plain_account(index: int) -> str:
    """The number of the phone that a plain socket is linked to."""
    return f"{_PLAIN}{index:04}"


def person(index: int) -> str:
    """The number of somebody who receives."""
    return f"{_PEOPLE}{index:04}"


@dataclass(slots=True)
class Stage:
    """What is running. Accounts `0 … linked - 1` of each side are linked and ready."""

    sandbox: Command
    gateway: Command
    plain: Plain
    data_dir: Path
    control: Connection
    hub: Connection
    whatsapp: dict[str, str]
    """Settings that lead a gateway to the sandbox."""
    linked: dict[str, int] = field(default_factory=lambda: {"wahub": 0, "plain": 0})
    webhook: dict[str, object] = field(default_factory=lambda: {"url": "http://127.0.0.1:9/", "events": _EVENTS})
    """What instances that are linked from now on post, and where."""

    @property
    def engine_pid(self) -> int:
        """The gateway's engine process. BenchError if there are several: the figures would not compare."""
        found = sorted((self.data_dir / "run").glob("engine-*.pid"))
        if len(found) != 1:
            raise BenchError(f"one engine process was expected; there are {len(found)}")
        return int(found[0].read_text())

    async def until_engine(self) -> None:
        """Wait until the gateway's engine process runs: it starts after the gateway listens."""
        async with patience("the engine process"):
            while not list((self.data_dir / "run").glob("engine-*.pid")):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)

    async def make_people(self, count: int) -> list[str]:
        """People with phones that are on; their numbers."""
        numbers = [person(index) for index in range(count)]
        for number in numbers:
            await self.control.call("POST", "/control/phones", {"number": number, "name": f"Person {number[-4:]}"})
        return numbers

    async def link_wahub(self, upto: int) -> None:
        """Link instances until there are `upto`."""
        for index in range(self.linked["wahub"], upto):
            await self._link_instance(index)
            self.linked["wahub"] = index + 1

    async def link_plain(self, upto: int) -> None:
        """Link plain sockets until there are `upto`."""
        for index in range(self.linked["plain"], upto):
            number = plain_account(index)
            await self.control.call("POST", "/control/phones", {"number": number, "name": f"Plain {index}"})
            self.plain.tell(do="link", name=number)
            shown = await self.plain.hear("qr", number)
            await self.control.call("POST", f"/control/phones/{number}/scan", {"qr": shown["text"]})
            await self.plain.hear("open", number)
            self.linked["plain"] = index + 1

    async def _link_instance(self, index: int) -> None:
        number, name = wahub_account(index), instance(index)
        await self.control.call("POST", "/control/phones", {"number": number, "name": f"Shop {index}"})
        body = {"name": name, "webhook": self.webhook, "typingIndicatorEnabled": False}
        await self.hub.call("POST", "/instances", body)
        async with patience(f"instance {name} to be ready"):
            while True:
                with contextlib.suppress(CallError):
                    code = await self.hub.call("GET", f"/instances/{name}/client/qr")
                    png = code["qrCode"]["data"]["qr_code"]
                    await self.control.call("POST", f"/control/phones/{number}/scan", {"png": png})
                    break
                await asyncio.sleep(0.05)
        await self.until_ready(index)

    async def until_ready(self, index: int) -> None:
        """Wait until an instance is linked."""
        async with patience(f"instance {instance(index)} to be ready"):
            await until(partial(self._is_ready, instance(index)))

    async def _is_ready(self, name: str) -> bool:
        status = await self.hub.call("GET", f"/instances/{name}/client/status")
        return bool(status["clientStatus"]["instanceStatus"] == "ready")

    async def stats(self) -> dict[str, Any]:
        """The sandbox's counters."""
        found = await self.control.call("GET", "/control/stats")
        assert isinstance(found, dict)
        return found

    async def acks(self, number: str | None = None) -> list[tuple[str, float]]:
        """When the server acknowledged which message id, oldest first, epoch seconds; the last ones only."""
        path = "/control/trace" + (f"?number={number}" if number else "")
        trace = await self.control.call("GET", path)
        return [
            (entry["stanza"]["attrs"]["id"], datetime.fromisoformat(entry["at"]).timestamp())
            for entry in trace["stanzas"]
            if entry["direction"] == "out"
            and entry["stanza"]["tag"] == "ack"
            and entry["stanza"]["attrs"].get("class") == "message"
        ]

    async def until_accepted(self, total: int, every: float = 0.05) -> None:
        """Wait until the server has taken this many messages in all."""
        async with patience(f"the server to take {total} messages"):
            while (await self.stats())["messages"]["accepted"] < total:
                self.gateway.check()
                await asyncio.sleep(every)

    async def until_idle(self) -> None:
        """Wait until no process of ours does anything: receipts and settling follow a message later."""
        async with patience("everything to come to rest"):
            before = self._cpu()
            while True:
                await asyncio.sleep(_REST_S)
                now = self._cpu()
                if now - before < _REST_S * _AT_REST:
                    return
                before = now

    def _cpu(self) -> float:
        return sum(cpu_seconds(pid) for pid in self.pids().values())

    def pids(self) -> dict[str, int]:
        """The processes, by the names of the tables."""
        ours = {"gateway": self.gateway.pid, "engine": self.engine_pid, "sandbox": self.sandbox.pid}
        return {"plain Baileys": self.plain.pid, **ours}

    async def get_acquainted(self, people: list[str], accounts: int) -> None:
        """Each account writes to each person and is answered, so that sessions stand and no message carries a prekey.

        Both sides do it, so that both are warm.
        """
        already = (await self.stats())["messages"]["accepted"]
        names = [plain_account(index) for index in range(accounts)]
        self.plain.tell(do="burst", names=names, to=people, messages=len(people))
        await self.plain.hear("done")
        for index in range(accounts):
            for who in people:
                await self.send(self.hub, index, who, f"Hello {who} from {index}, {time.time()}")
        await self.until_accepted(already + 2 * accounts * len(people))
        await self.until_idle()
        for number in [*names, *(wahub_account(index) for index in range(accounts))]:
            for who in people:
                await self.control.call("POST", f"/control/phones/{who}/send", {"to": number, "text": "Hello to you"})
        await self.until_idle()

    async def send(self, connection: Connection, index: int, to: str, text: str) -> None:
        """Hand a text to the gateway; BenchError unless it accepts."""
        body = b'{"chatId":"%s","message":"%s"}' % (to.encode(), text.encode())
        path = f"/instances/{instance(index)}/client/action/send-message"
        status, answer = await connection.request("POST", path, body)
        if status != 202:
            raise BenchError(f"the gateway answered {status}: {answer[:300].decode(errors='replace')}")

    async def check_clean(self) -> None:
        """BenchError unless the server has nothing to complain about."""
        stats = await self.stats()
        if stats["violations"] or stats["messages"]["duplicates"] or stats["messages"]["undecryptable"]:
            raise BenchError(f"the sandbox saw {stats['messages']} and violations {stats['violations'][:3]}")


def instance(index: int) -> str:
    """The id of an instance."""
    return f"bench-{index}"


@contextlib.asynccontextmanager
async def stage(engine: InstalledEngine, town: Sequence[str] = ()) -> AsyncIterator[Stage]:
    """Start everything with temporary data; stop and remove it at the end of the block.

    `town`: the arguments of Python that start a sandbox in the place of the command.
    """
    async with contextlib.AsyncExitStack() as cleanup:
        home = Path(
            cleanup.enter_context(tempfile.TemporaryDirectory(prefix="wahub-bench-", ignore_cleanup_errors=True))
        )
        program, arguments = (town, []) if town else (("-m", "wahub"), ["sandbox", "--port", "0"])
        sandbox = await Command.start("sandbox", arguments, home, {}, program)
        cleanup.push_async_callback(sandbox.stop)
        facts = sandbox.facts
        whatsapp = {
            "WAHUB_WA_URL": facts["wsUrl"],
            "WAHUB_WA_TRUST_ROOT": facts["trustRoot"],
            "WAHUB_WA_CA_FILE": facts["caFile"],
        }
        arguments = ["serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", str(home / "data")]
        gateway = await Command.start("gateway", arguments, home, whatsapp | NO_LIMITS)
        cleanup.push_async_callback(gateway.stop)
        plain = await Plain.start(engine, home, facts["wsUrl"], facts["trustRoot"])
        cleanup.push_async_callback(plain.stop)
        control, hub = Connection(facts["controlUrl"]), Connection(gateway.facts["url"])
        cleanup.push_async_callback(control.close)
        cleanup.push_async_callback(hub.close)
        yield Stage(sandbox, gateway, plain, home / "data", control, hub, whatsapp)


async def until(holds: Callable[[], Awaitable[bool]], every: float = 0.05) -> None:
    """Ask again and again: what is asked is another process."""
    while not await holds():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(every)


@contextlib.asynccontextmanager
async def patience(what: str, seconds: float = LINK_TIMEOUT) -> AsyncIterator[None]:
    """BenchError naming `what` if the block takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise BenchError(f"waited {seconds:.0f} s for {what}") from None
