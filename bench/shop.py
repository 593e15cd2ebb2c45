"""One account with a gateway and a store of its own, which can be stopped, filled, and started with WhatsApp away.

The store is filled through its own port while no gateway has it, because 100,000 sends over HTTP would take minutes.
What a measurement added is deleted again behind the gateway's back, so that each burst meets the store at the same
size; the gateway keeps nothing of the outbox in memory.
"""

from __future__ import annotations

import secrets
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace

from bench.http_client import Connection
from bench.processes import Command
from bench.stage import NO_LIMITS, Stage, instance, wahub_account
from wahub.adapters.sql.database import open_database
from wahub.adapters.system_clock import SystemClock
from wahub.domain.idempotency import make_key
from wahub.domain.ids import ChatId, InstanceId, MessageId, QueueId
from wahub.domain.message import Text
from wahub.domain.outbox import DeliveryMark, Entry, ItemState
from wahub.ports.store import KeyRecord, Tx

NEVER_MS = "86400000"
_NOTHING_LISTENS = "ws://127.0.0.1:9/"
_CHATS = 1_000
_BATCH = 500
_SETTINGS = NO_LIMITS | {"MAX_QUEUE_SIZE": "0", "RESTORE_JITTER_MS": "0,0"}
_AWAY = {"WAHUB_WA_URL": _NOTHING_LISTENS, "RECONNECT_BASE_MS": NEVER_MS, "RECONNECT_MAX_MS": NEVER_MS}


class Shop:
    """An account on the stage; `index` must be its own. `on` is the stage as this gateway sees it, while it runs."""

    def __init__(self, stage: Stage, index: int, name: str) -> None:
        self.index = index
        self.name = name
        self._stage = stage
        self._home = stage.data_dir.parent
        self._data = self._home / f"data-{name}"
        self._starts = 0
        self._filled = 0
        self._on: Stage | None = None

    @property
    def on(self) -> Stage:
        assert self._on is not None
        return self._on

    @property
    def url(self) -> str:
        """Where its gateway listens."""
        return str(self.on.gateway.facts["url"])

    @property
    def path(self) -> str:
        """The route that sends a text."""
        return f"/instances/{instance(self.index)}/client/action/send-message"

    async def start(self, *, away: bool = False) -> None:
        """Start its gateway; `away`: WhatsApp cannot be reached, and it will not try again."""
        self._starts += 1
        settings = self._stage.whatsapp | _SETTINGS | (_AWAY if away else {})
        arguments = ["serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", str(self._data)]
        gateway = await Command.start(f"{self.name}-{self._starts}", arguments, self._home, settings)
        self._on = replace(
            self._stage,
            gateway=gateway,
            data_dir=self._data,
            hub=Connection(gateway.facts["url"]),
            linked={"wahub": self.index, "plain": 0},
        )
        await self._on.until_engine()
        if not away and self._filled:
            await self._on.until_ready(self.index)

    async def stop(self) -> None:
        """Stop its gateway in order, if it runs."""
        if self._on is not None:
            await self._on.hub.close()
            await self._on.gateway.stop()
            self._on = None

    async def link(self, people: list[str]) -> None:
        """Pair with a phone, write to everybody and be answered, so that sessions stand; then stop."""
        await self.start()
        await self.on.link_wahub(self.index + 1)
        already = (await self.on.stats())["messages"]["accepted"]
        for who in people:
            await self.on.send(self.on.hub, self.index, who, f"Hello {who}")
        await self.on.until_accepted(already + len(people))
        await self.on.until_idle()
        for who in people:
            hello = {"to": wahub_account(self.index), "text": "Hello to you"}
            await self.on.control.call("POST", f"/control/phones/{who}/send", hello)
        await self.on.until_idle()
        await self.stop()

    def branch(self, name: str) -> Shop:
        """The same account with a copy of the store. The two must not be linked at the same time."""
        other = Shop(self._stage, self.index, name)
        shutil.copytree(self._data, other._data)
        return other

    async def fill(self, settled: int, queued: int = 0) -> None:
        """Put so many items into the store, besides the few that it has. No gateway may run."""
        self._filled = settled + queued
        database = open_database(f"sqlite:///{self._data}/wahub.db", SystemClock())
        now = SystemClock().now()
        of = InstanceId(instance(self.index))
        entries = [lambda at=at: _settled(of, at, now - 3600 - (settled - at)) for at in range(settled)]
        entries += [lambda at=at: _queued(of, at, now - 3600) for at in range(queued)]
        for first in range(0, len(entries), _BATCH):
            await database.write(lambda tx, part=entries[first : first + _BATCH]: _add(tx, part))  # type: ignore[misc]
        await database.close()

    def mark(self) -> int:
        """Where the items end that are there now, for `forget_after`."""
        with self._shell() as shell:
            found = shell.execute("SELECT coalesce(max(position), 0) FROM outbox").fetchone()
        return int(found[0])

    def forget_after(self, mark: int) -> None:
        """Delete all items, and their keys, that came after the mark."""
        with self._shell() as shell:
            shell.execute(
                "DELETE FROM outbox_keys WHERE (instance, key) IN"
                " (SELECT instance, key FROM outbox WHERE position > ?)",
                (mark,),
            )
            shell.execute("DELETE FROM outbox WHERE position > ?", (mark,))

    def _shell(self) -> sqlite3.Connection:
        return sqlite3.connect(self._data / "wahub.db", timeout=20)


def _add(tx: Tx, parts: list[Callable[[], Entry]]) -> None:
    for part in parts:
        entry = part()
        tx.outbox.add(entry)
        tx.keys.put(entry.instance, KeyRecord(entry.key, entry.id, entry.created_at))


def _queued(of: InstanceId, number: int, at: float) -> Entry:
    chat = ChatId.parse(f"1505555{number % _CHATS:04}")
    text = Text(f"Your order {number} is on its way and will be with you on Thursday.")
    entry = Entry(
        id=QueueId(secrets.token_hex(16)),
        instance=of,
        chat=chat,
        content=text,
        message_id=MessageId(f"3EB0{secrets.token_hex(9).upper()}"),
        key=make_key(of, chat, text, None, None),
        created_at=at,
        next_attempt_at=at,
        joined_at=at,
        expires_at=at + 168 * 3600,
    )
    return entry.noted(at, "accepted")


def _settled(of: InstanceId, number: int, at: float) -> Entry:
    entry = replace(
        _queued(of, number, at),
        state=ItemState.SENT,
        attempts=1,
        on_wire=True,
        claimed_at=at + 1,
        settled_at=at + 2,
        delivery=DeliveryMark.READ,
    )
    return entry.noted(at + 1, "attempt", "1").noted(at + 2, "sent").noted(at + 3, "delivered").noted(at + 9, "read")
