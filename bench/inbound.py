"""Received messages: how long one takes from the socket to the webhook, and how many come through per second.

Latency: people write at a steady rate. The clock starts when the sandbox hands the frame to the socket and stops when a
receiver in this process has read the whole POST; for plain Baileys, when `messages.upsert` names the message. All by
one clock of this machine.

Throughput: messages were written beforehand and are let go all at once (bench/town.py), to one account and to
several; sides alternate. For plain Baileys the time runs to the last `messages.upsert`; for wahub to the last commit in
the event log, as another reader of the file sees it, and to the last POST. The sandbox says when it had written the
last frame.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from bench import town
from bench.hooks import Hook
from bench.inbound_report import Burst, Delays, Found, result
from bench.machine import QUIET, Meter, until_quiet
from bench.report import Result
from bench.stage import Stage, patience, plain_account, stage, until, wahub_account
from wahub.adapters.engines.baileys.install import InstalledEngine

PER_SECOND = 50
_ATTEMPTS = 2
"""How many rounds are run, per round asked for, until enough of them were quiet."""
_PATIENCE = 120.0
_LOOK_EVERY = 0.01
_TOWN = (str(Path(town.__file__).resolve()),)
_LOGGED = "SELECT count(*) FROM events WHERE position > ? AND event = 'message'"
_NEWEST = "SELECT coalesce(max(position), 0) FROM events"


@dataclass(frozen=True, slots=True)
class Size:
    """`messages`: of a burst, to all accounts together; `seconds`: of steady writing, after `warm_up` messages.

    `patience`: seconds for which a burst waits at most until the machine is quiet.
    """

    messages: int = 1_000
    rounds: int = 3
    seconds: int = 20
    accounts: int = 5
    people: int = 10
    warm_up: int = 100
    patience: float = 5.0


Arrivals = asyncio.Future[dict[str, float]]
"""When each message came, epoch seconds, by its id; from now on."""


class _Message(msgspec.Struct):
    id: str


class _Data(msgspec.Struct):
    message: _Message | None = None
    """None in the news of a link, which come whatever is asked for."""


class _Body(msgspec.Struct):
    data: _Data


_decode = msgspec.json.Decoder(_Body).decode


@dataclass(slots=True)
class Receiver:
    """What was posted: when each body was complete. `url` is where."""

    url: str = ""
    posts: list[tuple[float, bytes]] = field(default_factory=list)

    def first_times(self) -> dict[str, float]:
        """When each message came first, epoch seconds, by its id."""
        times: dict[str, float] = {}
        for at, body in self.posts:
            if (message := _decode(body).data.message) is not None:
                times.setdefault(message.id, at)
        return times


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on loopback until the end of the block."""
    receiver = Receiver()

    class Noting(Hook):
        def take(self, head: bytes, body: bytes) -> None:
            receiver.posts.append((time.time(), body))
            super().take(head, body)

    server = await asyncio.get_running_loop().create_server(Noting, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        server.close()


async def run(engine: InstalledEngine, size: Size) -> Result:
    """Delays, then bursts to one account and to all."""
    async with receiving() as receiver, stage(engine, _TOWN) as on:
        on.webhook = {"url": receiver.url, "events": ["message"]}
        measure = _Inbound(on, receiver, await on.make_people(size.people), size)
        await on.link_wahub(size.accounts)
        await on.link_plain(size.accounts)
        await measure.get_acquainted()
        delays = await measure.delays()
        bursts = {count: await measure.bursts(count) for count in sorted({1, size.accounts})}
        await on.check_clean()
    return result(Found(PER_SECOND, size.messages, delays, bursts))


class _Inbound:
    """Both sides on one stage."""

    def __init__(self, on: Stage, receiver: Receiver, people: list[str], size: Size) -> None:
        self.people = people
        self._on = on
        self._receiver = receiver
        self._size = size

    async def get_acquainted(self) -> None:
        """What people answer here has arrived afterwards, and is not counted with what comes next."""
        answers = self._size.accounts * len(self.people)
        plain = await self._plain_times(answers)
        await self._on.get_acquainted(self.people, self._size.accounts)
        await plain
        await self._posted(answers)

    # --- latency -----------------------------------------------------------------------------------------------------

    async def delays(self) -> Delays:
        """Milliseconds of each message; the first ones compile JavaScript and count for nothing."""
        sides: dict[str, list[float]] = {}
        spent: dict[str, dict[str, float]] = {}
        count, others = self._size.seconds * PER_SECOND, 0.0
        for side, arrivals in (("plain", self._plain_times), ("wahub", self._wahub_times)):
            await self._written_steadily(side, arrivals, self._size.warm_up)
            await self._on.until_idle()
            meter = self._meter()
            sides[side] = await self._written_steadily(side, arrivals, count)
            spent[side], busy = meter.per_unit(count)
            others = max(others, busy)
        return Delays(sides, spent, others)

    async def _written_steadily(
        self, side: str, arrivals: Callable[[int], Awaitable[Arrivals]], count: int
    ) -> list[float]:
        self._receiver.posts.clear()
        came = await arrivals(count)
        body = {
            "from": self.people,
            "to": _accounts(side, self._size.accounts),
            "count": count,
            "perSecond": PER_SECOND,
        }
        written = (await self._call("steady", body))["written"]
        times = await came
        return [(times[message_id] - at) * 1000 for message_id, at in written.items()]

    # --- throughput --------------------------------------------------------------------------------------------------

    async def bursts(self, accounts: int) -> list[tuple[Burst, Burst]]:
        """Pairs of bursts, plain Baileys first; those during which nothing else ran, if there were any."""
        messages, rounds = self._size.messages, self._size.rounds
        await self._plain_burst(accounts, messages // 4)
        await self._wahub_burst(accounts, messages // 4)
        pairs: list[tuple[Burst, Burst]] = []
        quiet: list[tuple[Burst, Burst]] = []
        while len(quiet) < rounds and len(pairs) < rounds * _ATTEMPTS:
            await until_quiet(self._size.patience)
            pair = await self._plain_burst(accounts, messages), await self._wahub_burst(accounts, messages)
            pairs.append(pair)
            quiet = [both for both in pairs if max(one.others for one in both) <= QUIET]
            if len(pairs) == rounds and not quiet:
                # It will not be quiet soon, either.
                break
        return quiet or pairs

    async def _plain_burst(self, accounts: int, messages: int) -> Burst:
        each = messages // accounts
        await self._hold("plain", accounts, each)
        meter = self._meter()
        came = await self._plain_times(each * accounts)
        let_go = await self._call("release", {})
        ended = max((await came).values())
        cpu, others = meter.per_unit(each * accounts)
        return Burst.of(each * accounts, let_go, ended, ended, cpu, others)

    async def _wahub_burst(self, accounts: int, messages: int) -> Burst:
        each = messages // accounts
        await self._hold("wahub", accounts, each)
        self._receiver.posts.clear()
        with closing(self._open_log()) as log:
            newest = log.execute(_NEWEST).fetchone()[0]
            meter = self._meter()
            logged = asyncio.ensure_future(self._until_logged(log, newest, each * accounts))
            let_go = await self._call("release", {})
            in_log = await logged
        ended = max((await self._posted(each * accounts)).values())
        cpu, others = meter.per_unit(each * accounts)
        return Burst.of(each * accounts, let_go, in_log, ended, cpu, others)

    async def _hold(self, side: str, accounts: int, each: int) -> None:
        await self._call("hold", {"from": self.people, "to": _accounts(side, accounts), "each": each})
        await self._on.until_idle()

    async def _until_logged(self, log: sqlite3.Connection, newest: int, count: int) -> float:
        async def all_logged() -> bool:
            # Counting reads every row, and would take the machine from those who are measured.
            if log.execute(_NEWEST).fetchone()[0] < newest + count:
                return False
            return bool(log.execute(_LOGGED, (newest,)).fetchone()[0] >= count)

        async with patience(f"{count} messages in the log", _PATIENCE):
            await until(all_logged, _LOOK_EVERY)
        return time.time()

    def _open_log(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self._on.data_dir / 'wahub.db'}?mode=ro", uri=True, isolation_level=None)

    # --- both --------------------------------------------------------------------------------------------------------

    async def _plain_times(self, count: int) -> Arrivals:
        self._on.plain.tell(do="listen", messages=count)
        # What comes before it listens is heard by nobody.
        await self._on.plain.hear("listening")
        return asyncio.ensure_future(self._received())

    async def _received(self) -> dict[str, float]:
        times = (await self._on.plain.hear("received"))["times"]
        return {message_id: at / 1000 for message_id, at in times.items()}

    async def _wahub_times(self, count: int) -> Arrivals:
        return asyncio.ensure_future(self._posted(count))

    async def _posted(self, count: int) -> dict[str, float]:
        async def all_posted() -> bool:
            self._on.gateway.check()
            return len(self._receiver.posts) >= count and len(self._receiver.first_times()) >= count

        async with patience(f"{count} webhooks", _PATIENCE):
            await until(all_posted)
        return self._receiver.first_times()

    async def _call(self, name: str, body: dict[str, Any]) -> Any:
        async with patience(f"the sandbox to {name}", _PATIENCE):
            return await self._on.control.call("POST", f"/bench/{name}", body)

    def _meter(self) -> Meter:
        return Meter(self._on.pids() | {"benchmark": os.getpid()})


def _accounts(side: str, count: int) -> list[str]:
    number = plain_account if side == "plain" else wahub_account
    return [number(index) for index in range(count)]
