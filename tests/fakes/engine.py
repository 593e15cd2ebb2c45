"""An engine without WhatsApp: tests script what its links report and read what was sent over them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from wahub.domain.errors import EngineDownError
from wahub.domain.ids import ChatId, InstanceId, MessageId
from wahub.domain.instance import Disconnect
from wahub.domain.message import Content
from wahub.domain.outbox import SendAcked, SendNotStarted, SendResult, SendUncertain
from wahub.ports.engine import CaughtUp, Closed, KeyVault, LinkEvent, LinkSpec, Opened, OwnIdentity

ME = OwnIdentity(phone="201234567890", lid="987654321012345", name="Shop")

Answer = Callable[[MessageId, ChatId, Content], SendResult]


@dataclass
class FakeLink:
    """One link. `report` makes it say something; `sent` is what went over it, in order."""

    spec: LinkSpec
    vault: KeyVault
    answer: Answer
    sent: list[tuple[MessageId, ChatId, Content]] = field(default_factory=list)
    acked: list[int] = field(default_factory=list)
    extended: list[float] = field(default_factory=list)
    logged_out: bool = False
    typed: list[tuple[ChatId, bool]] = field(default_factory=list)
    """Typing indicators that were shown (True) and taken away (False), in order."""
    asked: list[ChatId] = field(default_factory=list)
    """Numbers that WhatsApp was asked about."""
    who: Callable[[ChatId], bool | None] = lambda _chat: True
    """What WhatsApp says about a number."""
    types: bool = True
    """Whether typing indicators come through."""
    hold: asyncio.Event | None = None
    """When set, sends wait for it: a test that wants an item to stay on the wire."""

    def __post_init__(self) -> None:
        self._events: asyncio.Queue[LinkEvent] = asyncio.Queue()
        self._closed = asyncio.Event()
        self.sending = asyncio.Event()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def report(self, *events: LinkEvent) -> None:
        """Queue events for the consumer."""
        for event in events:
            self._events.put_nowait(event)

    def open_up(self) -> None:
        """Log in with nothing waiting."""
        self.report(Opened(ME), CaughtUp(0))

    def break_off(self, reason: Disconnect, code: int | None = None) -> None:
        """The link ends; sends under way become uncertain."""
        if not self._closed.is_set():
            self._closed.set()
            self.report(Closed(reason, code, ""))

    async def events(self) -> AsyncIterator[LinkEvent]:
        while True:
            event = await self._events.get()
            yield event
            if isinstance(event, Closed):
                return

    async def send(self, message_id: MessageId, chat: ChatId, content: Content) -> SendResult:
        if self._closed.is_set():
            return SendNotStarted("link closed", link_lost=True)
        self.sent.append((message_id, chat, content))
        self.sending.set()
        if self.hold is not None:
            waits = [asyncio.ensure_future(self.hold.wait()), asyncio.ensure_future(self._closed.wait())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if self._closed.is_set():
                return SendUncertain("link closed during the send")
        return self.answer(message_id, chat, content)

    async def show_typing(self, chat: ChatId, typing: bool) -> bool:
        if self._closed.is_set() or not self.types:
            return False
        self.typed.append((chat, typing))
        return True

    async def exists(self, chat: ChatId) -> bool | None:
        if self._closed.is_set():
            return None
        self.asked.append(chat)
        return self.who(chat)

    def extend(self, trusted_until: float) -> None:
        self.extended.append(trusted_until)

    def ack_inbound(self, seq: int) -> None:
        self.acked.append(seq)

    async def logout(self) -> None:
        self.logged_out = True
        self.break_off(Disconnect.CLOSED_BY_US)

    async def close(self) -> None:
        self.break_off(Disconnect.CLOSED_BY_US)


class FakeEngine:
    """Makes FakeLinks; `next_link` waits for one to be opened."""

    def __init__(self) -> None:
        self.links: list[FakeLink] = []
        self.down = False
        self.forgotten: list[InstanceId] = []
        self.answer: Answer = lambda _id, _chat, _content: SendAcked()
        self._opened: asyncio.Queue[FakeLink] = asyncio.Queue()

    @property
    def healthy(self) -> bool:
        return not self.down

    async def start(self) -> None:
        pass

    async def forget(self, instance: InstanceId) -> None:
        self.forgotten.append(instance)

    async def stop(self) -> None:
        for link in self.links:
            await link.close()

    async def open(self, spec: LinkSpec, vault: KeyVault) -> FakeLink:
        if self.down:
            raise EngineDownError("the engine process is down")
        link = FakeLink(spec, vault, self.answer)
        self.links.append(link)
        self._opened.put_nowait(link)
        return link

    async def next_link(self) -> FakeLink:
        """The next link that gets opened, of whichever instance."""
        return await asyncio.wait_for(self._opened.get(), 10)

    def of(self, instance: InstanceId) -> list[FakeLink]:
        """All links opened for an instance, oldest first."""
        return [link for link in self.links if link.spec.instance == instance]
