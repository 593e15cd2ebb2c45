"""The vault a link reads and writes its keys through: the store, under one lease term."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wahub.domain.ids import ChatId, MessageId
from wahub.domain.inbox import PollKey
from wahub.domain.lease import Lease
from wahub.domain.message import Content
from wahub.domain.session import KeyChanges, KeyName
from wahub.ports.store import Database
from wahub.services import inbox, session


class StoreVault:
    """`KeyVault` over a Database. Writes raise StaleLeaseError once the term is over, and then nothing was written."""

    def __init__(self, database: Database, lease: Lease) -> None:
        self._database = database
        self._lease = lease

    async def read(self, names: Sequence[KeyName]) -> Mapping[KeyName, bytes]:
        return await self._database.read(lambda tx: session.read(tx, self._lease.instance, names))

    async def write(self, changes: KeyChanges) -> None:
        await self._database.write(lambda tx: session.write(tx, self._lease, changes))

    async def sent_message(self, message_id: MessageId) -> tuple[ChatId, Content] | None:
        return await self._database.read(lambda tx: session.sent_message(tx, self._lease.instance, message_id))

    async def poll(self, message_id: MessageId) -> PollKey | None:
        return await self._database.read(lambda tx: inbox.find_poll(tx, self._lease.instance, message_id))
