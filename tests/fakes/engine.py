"""An engine without WhatsApp: tests script what its links report and read what was sent over them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from wahub.domain.errors import EngineDownError, PairingRefusedError
from wahub.domain.ids import ChatId, InstanceId, MessageId
from wahub.domain.instance import Disconnect, Stage
from wahub.domain.message import Content
from wahub.domain.outbox import SendAcked, SendNotStarted, SendResult, SendUncertain
from wahub.ports.engine import (
    LOGIN_REFUSED,
    CaughtUp,
    Closed,
    Fetched,
    KeyVault,
    LinkEvent,
    LinkSpec,
    LinkVitals,
    MediaRef,
    Opened,
    OwnIdentity,
    PairingCode,
    Probe,
)

ME = OwnIdentity(phone="201234567890", lid="987654321012345", name="Shop")

_REFUSALS = (Disconnect.LOGGED_OUT, Disconnect.BANNED, Disconnect.MULTIDEVICE_MISMATCH, Disconnect.BAD_SESSION)
"""What a server says to a login that it refuses."""

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
    monotonic: Callable[[], float] = lambda: 0.0
    opened: bool = False
    seen: LinkVitals | None = None
    """Its vitals, when a test sets them; without, the link was heard of this moment."""
    probes: list[Probe] = field(default_factory=list)
    """What the next probes find, the last for ever; without any, all is well."""
    probed: int = 0
    code: PairingCode | PairingRefusedError = field(default_factory=lambda: PairingCode("ABCD1234", 150.0))
    codes_asked: list[str] = field(default_factory=list)
    watched: list[bool] = field(default_factory=list)
    """What it was told about presence, in order."""
    fetched: list[MediaRef] = field(default_factory=list)
    fetches: Callable[[MediaRef, Path, int], Fetched] = lambda _media, _path, _limit: Fetched("gone")
    """What becomes of a fetch; writes the file if it has one."""
    hold: asyncio.Event | None = None
    """When set, sends wait for it: a test that wants an item to stay on the wire."""

    def __post_init__(self) -> None:
        self._events: asyncio.Queue[LinkEvent] = asyncio.Queue()
        self._closed = asyncio.Event()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def report(self, *events: LinkEvent) -> None:
        """Queue events for the consumer."""
        for event in events:
            self.opened = self.opened or isinstance(event, Opened)
            self._events.put_nowait(event)

    def open_up(self) -> None:
        """Log in with nothing waiting."""
        self.report(Opened(ME), CaughtUp(0))

    def break_off(
        self, reason: Disconnect, code: int | None = None, stage: Stage | None = None, detail: str | None = None
    ) -> None:
        """The link ends; sends under way become uncertain. Its stage is what it got to, if none is given."""
        if not self._closed.is_set():
            self._closed.set()
            got_to = stage or (Stage.OPEN if self.opened else Stage.REACHED)
            if detail is None:
                detail = LOGIN_REFUSED if got_to is Stage.REACHED and reason in _REFUSALS else ""
            self.report(Closed(reason, code, detail, got_to))

    def lose_network(self) -> None:
        """Nothing gets through any more: the handshake fails, or the open link breaks."""
        self.break_off(Disconnect.TIMED_OUT, 408, None if self.opened else Stage.UNREACHED)

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

    @property
    def vitals(self) -> LinkVitals:
        return self.seen or LinkVitals(heard_at=self.monotonic())

    async def probe(self) -> Probe:
        self.probed += 1
        if not self.probes:
            return Probe(logged_in=self.opened, answered=not self.closed)
        found = self.probes.pop(0) if len(self.probes) > 1 else self.probes[0]
        if found.logged_in and found.answered and not self.opened:
            self.report(Opened(ME, polled=True), CaughtUp(0))
        return found

    async def pairing_code(self, phone: str) -> PairingCode:
        self.codes_asked.append(phone)
        if isinstance(self.code, PairingRefusedError):
            raise self.code
        return self.code

    def extend(self, trusted_until: float) -> None:
        self.extended.append(trusted_until)

    def ack_inbound(self, *seqs: int) -> None:
        self.acked.extend(seqs)

    def watch(self, presence: bool) -> None:
        self.watched.append(presence)

    async def fetch(self, media: MediaRef, path: Path, limit: int) -> Fetched:
        self.fetched.append(media)
        if self._closed.is_set():
            return Fetched("not_open")
        return self.fetches(media, path, limit)

    async def logout(self) -> None:
        self.logged_out = True
        self.break_off(Disconnect.CLOSED_BY_US)

    async def close(self) -> None:
        self.break_off(Disconnect.CLOSED_BY_US)


class FakeEngine:
    """Makes FakeLinks; `next_link` waits for one to be opened."""

    def __init__(self, monotonic: Callable[[], float] = lambda: 0.0) -> None:
        self.monotonic = monotonic
        self.on_open: Callable[[FakeLink], None] = lambda _link: None
        """What every new link does by itself."""
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
        link = FakeLink(spec, vault, self.answer, monotonic=self.monotonic)
        self.links.append(link)
        self._opened.put_nowait(link)
        self.on_open(link)
        return link

    async def next_link(self) -> FakeLink:
        """The next link that gets opened, of whichever instance."""
        return await asyncio.wait_for(self._opened.get(), 30)

    def of(self, instance: InstanceId) -> list[FakeLink]:
        """All links opened for an instance, oldest first."""
        return [link for link in self.links if link.spec.instance == instance]
