"""A key vault in memory, with a record of what was written when, and switches to make it slow, fenced or broken."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tests.integration.engine.waiting import PATIENCE

from wahub.domain.errors import StaleLeaseError
from wahub.domain.ids import ChatId, MessageId
from wahub.domain.inbox import PollKey
from wahub.domain.message import Content, Poll
from wahub.domain.session import KeyChanges, KeyName


class MemoryVault:
    def __init__(self, values: Mapping[KeyName, bytes] = MappingProxyType({})) -> None:
        self.values: dict[KeyName, bytes] = dict(values)
        self.sent: dict[MessageId, tuple[ChatId, Content]] = {}
        self.polls: dict[MessageId, PollKey] = {}
        """Received ones."""
        self.reads: list[list[KeyName]] = []
        self.commits: list[KeyChanges] = []
        self.fenced = False
        self.broken = False
        self.readable = asyncio.Event()
        """While it is cleared, questions wait for their answer."""
        self.readable.set()
        self.gate = asyncio.Event()
        """Writes wait for it."""
        self.gate.set()
        self.waiting = asyncio.Event()
        """Set while a write waits."""

    async def read(self, names: Sequence[KeyName]) -> Mapping[KeyName, bytes]:
        self.reads.append(list(names))
        await self.readable.wait()
        return {name: self.values[name] for name in names if name in self.values}

    async def write(self, changes: KeyChanges) -> None:
        if not self.gate.is_set():
            self.waiting.set()
            await self.gate.wait()
        if self.fenced:
            raise StaleLeaseError
        if self.broken:
            raise OSError("disk full")
        for name, value in changes.values.items():
            if value is None:
                self.values.pop(name, None)
            else:
                self.values[name] = value
        self.commits.append(changes)

    async def until_a_write_waits(self) -> None:
        await asyncio.wait_for(self.waiting.wait(), PATIENCE)

    async def sent_message(self, message_id: MessageId) -> tuple[ChatId, Content] | None:
        return self.sent.get(message_id)

    async def poll(self, message_id: MessageId) -> PollKey | None:
        _, content = self.sent.get(message_id, (None, None))
        if isinstance(content, Poll):
            return PollKey(content.options, content.secret)
        return self.polls.get(message_id)
