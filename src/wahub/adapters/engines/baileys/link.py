"""The gateway's end of one link: its events, its sends, and the answers to what the side process asks of the store.

A link ends with exactly one `Closed`, either told by the side process or, when that process dies, made here. Sends
that are under way then get their result: a process that died says nothing about the wire, so theirs is uncertain.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

from wahub.adapters.engines.baileys import wire
from wahub.adapters.engines.baileys.translate import to_closed, to_event, to_poll_key, to_result, to_wire
from wahub.domain.errors import PairingRefusedError, StaleLeaseError
from wahub.domain.ids import ChatId, MessageId
from wahub.domain.instance import Disconnect, Stage
from wahub.domain.message import Content
from wahub.domain.session import KeyChanges, KeyName
from wahub.ports import engine as port

log = logging.getLogger(__name__)

_Reply = wire.Told | wire.Probed | wire.Pairing | wire.Fetched
_Answer = TypeVar("_Answer", wire.Told, wire.Probed, wire.Pairing, wire.Fetched)

_LOGOUT_SECONDS = 5.0
_CLOSE_SECONDS = 10.0
_TYPING_SECONDS = 2.0
_EXISTS_SECONDS = 6.0
"""A second more than the side process waits for WhatsApp; so are the following."""
_PROBE_SECONDS = 11.0
_PAIRING_SECONDS = 11.0
_FETCH_SECONDS = 7_200.0
"""The side process gives up by itself; this only ends what nobody would answer."""


class BaileysLink:
    """One live connection, as `ports.engine.Link` says. Made by `BaileysEngine.open` only."""

    def __init__(
        self,
        number: int,
        spec: port.LinkSpec,
        vault: port.KeyVault,
        send_frame: Callable[[wire.ToEngine], None],
        engine_clock: Callable[[float], float],
    ) -> None:
        self.number = number
        self._spec = spec
        self._trusted_until = spec.trusted_until
        self._vault = vault
        self._send_frame = send_frame
        self._engine_clock = engine_clock
        self._events: deque[port.LinkEvent] = deque()
        self._reported = asyncio.Event()
        self._sends: dict[str, asyncio.Future[port.SendResult]] = {}
        self._questions: dict[int, asyncio.Future[_Reply | None]] = {}
        self._numbers = itertools.count(1)
        self._answers: set[asyncio.Task[None]] = set()
        self._closed = asyncio.Event()
        self._opened = False
        self._vitals = port.LinkVitals(time.monotonic())

    @property
    def spec(self) -> port.LinkSpec:
        return self._spec

    @property
    def closed(self) -> bool:
        """Whether the link has ended."""
        return self._closed.is_set()

    @property
    def vitals(self) -> port.LinkVitals:
        """Its signs of life, as the side process last told them."""
        return self._vitals

    @property
    def sending(self) -> bool:
        """Whether a send is under way."""
        return bool(self._sends)

    # --- the port --------------------------------------------------------------------------------------------------

    async def events(self) -> AsyncIterator[port.LinkEvent]:
        """Everything the link reports, in order, ending after `Closed`. One consumer."""
        while True:
            while self._events:
                event = self._events.popleft()
                yield event
                if isinstance(event, port.Closed):
                    return
            self._reported.clear()
            await self._reported.wait()

    async def send(self, message_id: MessageId, chat: ChatId, content: Content) -> port.SendResult:
        """Send under this id and wait for the server's answer; never raises for a lost link."""
        if self.closed:
            return port.SendNotStarted("link_lost", link_lost=True)
        if message_id in self._sends:
            return port.SendNotStarted("already_sending")
        result: asyncio.Future[port.SendResult] = asyncio.get_running_loop().create_future()
        self._sends[message_id] = result
        try:
            self._tell(wire.Send(**self._address, id=message_id, chat=chat.jid, content=to_wire(content)))
            return await result
        finally:
            if self._sends.get(message_id) is result:
                del self._sends[message_id]

    async def show_typing(self, chat: ChatId, typing: bool) -> bool:
        """Tell the chat that somebody types, or no longer does. False if it could not be told within 2 s."""
        frame = wire.Typing(**self._address, n=next(self._numbers), chat=chat.jid, typing=typing)
        told = await self._ask(frame, wire.Told, _TYPING_SECONDS)
        return told is not None and told.value is True

    async def exists(self, chat: ChatId) -> bool | None:
        """Whether WhatsApp knows this phone number; None when it gave no answer, or `chat` is no phone number."""
        frame = wire.Exists(**self._address, n=next(self._numbers), chat=chat.jid)
        told = await self._ask(frame, wire.Told, _EXISTS_SECONDS)
        return None if told is None else told.value

    async def probe(self) -> port.Probe:
        """Ask the server for a sign of life, and wait at most 10 s for it. See the port."""
        frame = wire.ProbeLink(**self._address, n=next(self._numbers))
        probed = await self._ask(frame, wire.Probed, _PROBE_SECONDS)
        return port.Probe(False, False) if probed is None else port.Probe(probed.logged_in, probed.answered)

    async def pairing_code(self, phone: str) -> port.PairingCode:
        """A code to link by. PairingRefusedError, whose text is one of these words:

        not_a_number, not_waiting (no QR code is shown now), no_answer, link_lost, or refused_<code> (WhatsApp's error).
        """
        if not (phone.isascii() and phone.isdigit()):
            raise PairingRefusedError("not_a_number")
        frame = wire.Pair(**self._address, n=next(self._numbers), phone=phone)
        pairing = await self._ask(frame, wire.Pairing, _PAIRING_SECONDS)
        if pairing is None:
            raise PairingRefusedError("link_lost" if self.closed else "no_answer")
        if pairing.code is None:
            raise PairingRefusedError(pairing.reason or "no_answer")
        return port.PairingCode(pairing.code, pairing.ttl_ms / 1000)

    async def _ask(
        self,
        question: wire.Typing | wire.Exists | wire.ProbeLink | wire.Pair | wire.Fetch,
        answer: type[_Answer],
        seconds: float,
    ) -> _Answer | None:
        """The side process's answer; None when the link ends or nothing comes in time."""
        if self.closed:
            return None
        future: asyncio.Future[_Reply | None]
        future = asyncio.get_running_loop().create_future()
        self._questions[question.n] = future
        try:
            self._tell(question)
            found = await asyncio.wait_for(future, seconds)
            return found if isinstance(found, answer) else None
        except TimeoutError:
            return None
        finally:
            del self._questions[question.n]

    def extend(self, trusted_until: float) -> None:
        """Lengthen the term (monotonic seconds). Shorter or past values are ignored."""
        if trusted_until > self._trusted_until and not self.closed:
            self._trusted_until = trusted_until
            self._tell(wire.Extend(**self._address, until=self._engine_clock(trusted_until)))

    def ack_inbound(self, *seqs: int) -> None:
        """The messages are stored: the spool may drop them."""
        if seqs and not self.closed:
            self._tell(wire.InboundAck(**self._address, seqs=list(seqs)))

    def watch(self, presence: bool) -> None:
        """Whether to ask for, and report, the presence of the people who write."""
        if not self.closed:
            self._tell(wire.Watch(**self._address, presence=presence))

    async def fetch(self, media: port.MediaRef, path: Path, limit: int) -> port.Fetched:
        """Fetch a file of at most `limit` bytes (0: of any size) and write it, checked, to `path`. Never raises."""
        frame = wire.Fetch(
            **self._address,
            n=next(self._numbers),
            kind=media.kind,
            direct_path=media.direct_path,
            media_key=media.media_key,
            file_sha256=media.file_sha256,
            file_enc_sha256=media.file_enc_sha256,
            path=str(path),
            limit=limit,
        )
        fetched = await self._ask(frame, wire.Fetched, _FETCH_SECONDS)
        if fetched is None:
            return port.Fetched("not_open" if self.closed else "failed")
        return port.Fetched(fetched.error, fetched.size, fetched.sha256)

    async def logout(self) -> None:
        """Unlink at the server (best effort, at most 5 s), then close."""
        if not self.closed:
            self._tell(wire.Logout(**self._address))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), _LOGOUT_SECONDS)
        await self.close()

    async def close(self) -> None:
        """Close the socket and wait until it is closed. Closing twice is fine."""
        if not self.closed:
            self._tell(wire.Close(**self._address))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), _CLOSE_SECONDS)

    # --- the side process's end ------------------------------------------------------------------------------------

    def start(self, creds: bytes | None) -> None:
        """Ask the side process to connect."""
        until = self._engine_clock(self._trusted_until)
        spec = self._spec
        self._tell(
            wire.Open(
                **self._address,
                instance=spec.instance,
                until=until,
                creds=creds,
                proxy=spec.proxy,
                device_name=spec.options.device_name,
                mark_online=spec.options.mark_online,
            )
        )

    def handle(self, frame: wire.AboutLink) -> None:
        """Take a frame about this link. Frames of another epoch are none of ours."""
        if frame.epoch != self._spec.epoch or self.closed:
            return
        match frame:
            case wire.InboundMessage(seq=seq, body=body):
                # First, because it is by far the most frequent.
                self._report(port.Inbound(seq, body))
            case wire.Write() | wire.Read() | wire.NeedMessage() | wire.NeedPoll():
                self._answer(frame)
            case wire.Sent():
                self._on_sent(frame)
            case wire.Told() | wire.Probed() | wire.Pairing() | wire.Fetched():
                question = self._questions.get(frame.n)
                if question is not None and not question.done():
                    question.set_result(frame)
            case wire.ClosedNow():
                # The side process settles what it took before it reports the end, so what is left it never saw.
                self.end(to_closed(frame), port.SendNotStarted("link_lost", link_lost=True))
            case _:
                self._opened = self._opened or isinstance(frame, wire.OpenedNow)
                self._report(to_event(frame))

    def take_vitals(self, row: wire.VitalsRow, monotonic: Callable[[float], float]) -> None:
        """News of the signs of life; `monotonic` makes our seconds out of the side process's milliseconds."""
        heard, unanswered, unhandled = (None if at is None else monotonic(at) for at in row[1:])
        heard_at = self._vitals.heard_at if heard is None else heard
        self._vitals = port.LinkVitals(heard_at, unanswered, unhandled)

    def end_with_engine(self, detail: str) -> None:
        """The side process is gone."""
        self.end(port.Closed(Disconnect.ENGINE_DIED, None, detail, self._stage), port.SendUncertain("engine_died"))

    def end_with_recycling(self) -> None:
        """The side process was replaced on purpose; nothing was under way."""
        closed = port.Closed(Disconnect.RECYCLED, None, "engine process replaced", self._stage)
        self.end(closed, port.SendUncertain("engine_replaced"))

    def fail(self) -> None:
        """Something of ours failed on a frame of this link: end it, and none other."""
        self._tell(wire.Close(**self._address))
        closed = port.Closed(Disconnect.UNKNOWN, None, "frame_failed", self._stage)
        self.end(closed, port.SendUncertain("link_closed"))

    def end(self, closed: port.Closed, outstanding: port.SendResult) -> None:
        """Report the end once and settle what is under way."""
        if self.closed:
            return
        self._closed.set()
        for result in self._sends.values():
            if not result.done():
                result.set_result(outstanding)
        for question in self._questions.values():
            if not question.done():
                question.set_result(None)
        self._report(closed)

    @property
    def _stage(self) -> Stage:
        """How far it got, as far as we were told: a dead process takes the rest with it."""
        return Stage.OPEN if self._opened else Stage.UNREACHED

    @property
    def _address(self) -> dict[str, int]:
        return {"link": self.number, "epoch": self._spec.epoch}

    def _report(self, event: port.LinkEvent) -> None:
        self._events.append(event)
        self._reported.set()

    def _tell(self, frame: wire.ToEngine) -> None:
        self._send_frame(frame)

    def _on_sent(self, frame: wire.Sent) -> None:
        result = self._sends.get(frame.id)
        if result is not None and not result.done():
            result.set_result(to_result(frame))
        elif frame.outcome in ("acked", "refused"):
            # Nobody waits any more (the send was cancelled): it is evidence all the same.
            code = frame.code if frame.outcome == "refused" else None
            self._report(port.Acked(MessageId(frame.id), code))

    # --- what the side process asks --------------------------------------------------------------------------------

    def _answer(self, frame: wire.Read | wire.Write | wire.NeedMessage | wire.NeedPoll) -> None:
        task = asyncio.create_task(self._answer_soon(frame))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _answer_soon(self, frame: wire.Read | wire.Write | wire.NeedMessage | wire.NeedPoll) -> None:
        try:
            match frame:
                case wire.Write():
                    answer = await self._write(frame)
                case wire.Read():
                    answer = await self._read(frame)
                case wire.NeedMessage():
                    answer = await self._sent_message(frame)
                case wire.NeedPoll():
                    answer = await self._poll(frame)
        except StaleLeaseError:
            answer = wire.Answer(q=frame.q, error="fenced")
        except Exception as error:  # noqa: BLE001 - whatever the store raises, the side process must hear of it
            log.error("The store failed a question of the engine: %s", type(error).__name__)
            answer = wire.Answer(q=frame.q, error="failed")
        self._tell(answer)

    async def _write(self, frame: wire.Write) -> wire.Answer:
        await self._vault.write(KeyChanges({KeyName(kind, name): value for kind, name, value in frame.changes}))
        return wire.Answer(q=frame.q)

    async def _read(self, frame: wire.Read) -> wire.Answer:
        values = await self._vault.read([KeyName(kind, name) for kind, name in frame.names])
        return wire.Answer(q=frame.q, value=[(key.kind, key.id, value) for key, value in values.items()])

    async def _sent_message(self, frame: wire.NeedMessage) -> wire.Answer:
        found = await self._vault.sent_message(MessageId(frame.id))
        return wire.Answer(q=frame.q, value=None if found is None else to_wire(found[1]))

    async def _poll(self, frame: wire.NeedPoll) -> wire.Answer:
        found = await self._vault.poll(MessageId(frame.id))
        return wire.Answer(q=frame.q, value=None if found is None else to_poll_key(found))
