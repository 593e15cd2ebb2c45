"""The send loop of one link.

Promise: items leave in order (per chat and priority), each under the id it got at acceptance, one at a time per
instance; what the server said is stored before the next one leaves. Not promised: that an item leaves at a given
second.

One round is: one transaction that settles the last attempt and finds the next item; if that needs it, WhatsApp is asked
about the number and the chat sees somebody type; another transaction looks again and claims; then the wire. Claiming
comes last before the wire, because a claimed row is one whose fate a crash makes unknown.

A crash
- before the claim's commit leaves the item queued;
- between that commit and the wire, or between the wire and the settling commit, leaves it `sending` under this
  epoch: the next holder of the lease takes it as unknown, waits for proof and sends it again under the same id
  (services/outbox/attempt.py::recover).

The loop lives as long as its link. When the link is lost, `Link.send` answers at once, that answer is settled like any
other, and nothing is claimed for a second; meanwhile the runner hears of the loss and stops the loop. Hints on
`outbox:<instance>` shorten the wait for work; without one the loop looks by itself.
"""

from __future__ import annotations

import asyncio

import structlog

from wahub.domain.errors import StaleLeaseError
from wahub.domain.lease import Lease
from wahub.domain.outbox import (
    LINK_RETRY_WAIT,
    Entry,
    ItemState,
    SendAcked,
    SendNotStarted,
    SendRefused,
    SendResult,
    SendUncertain,
)
from wahub.ports.engine import Link
from wahub.ports.store import Tx
from wahub.ports.wakeup import WEBHOOKS, outbox_topic, settled_topic, watch_topic
from wahub.runtime.deps import RuntimeDeps
from wahub.runtime.typing import prepare, stop_typing
from wahub.services import outbox
from wahub.services.outbox import Claimed, Idle, Prepare, Prepared

log = structlog.get_logger("wahub.sender")

ACK_TIMEOUT = "ack_timeout"
"""How an engine says that the server did not answer a send in time."""

PREPARE_TIMEOUT = "prepare_timeout"
"""… and that it did not answer what has to be asked before a send, such as the recipient's devices."""

LOOK_EVERY = 10.0
"""Seconds between two looks at the store when no hint came."""

Finished = tuple[Entry, SendResult]


class Sender:
    """Sends what is queued over one link, until stopped."""

    def __init__(self, deps: RuntimeDeps, lease: Lease, link: Link) -> None:
        self._deps = deps
        self._lease = lease
        self._link = link
        self._topic = outbox_topic(lease.instance)
        self._stopping = asyncio.Event()
        self._typing_at: Entry | None = None
        """The item whose chat sees somebody type."""
        self._clearing: set[asyncio.Task[None]] = set()
        self.unacked = 0
        """Sends in a row that the server did not answer in time."""
        self.answered_at = 0.0
        """When the server last took or refused a send, in monotonic seconds."""
        self.busy = False
        """Something is on the wire or about to be."""
        self._task = asyncio.create_task(self._run(), name=f"sender:{lease.instance}")

    async def stop(self, patience: float) -> None:
        """Claim nothing more; wait up to `patience` seconds for the item on the wire and its stored outcome."""
        self._stopping.set()
        self._deps.wakeup.notify(self._topic)
        try:
            await asyncio.wait_for(asyncio.shield(self._task), patience)
        except TimeoutError:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        finished: Finished | None = None
        prepared: Prepared | None = None
        while True:
            try:
                step = await self._advance(finished, prepared)
            except StaleLeaseError:
                log.warning("send loop ended: the lease is gone", instance=self._lease.instance)
                return
            except Exception as error:  # noqa: BLE001 - any fault of the store
                # The outcome in hand must not be lost with a passing fault of the store.
                log.error("send loop will try again", instance=self._lease.instance, error=type(error).__name__)
                await self._deps.clock.sleep(2.0)
                continue
            finished = prepared = None
            self.busy = isinstance(step, Claimed | Prepare)
            if not (isinstance(step, Claimed) and self._types_for(step.entry)):
                # What was prepared is not what goes out: it was cancelled, or something overtook it.
                self._clear_typing()
            if isinstance(step, Claimed):
                finished = await self._put_on_wire(step.entry)
            elif self._stopping.is_set():
                return
            elif isinstance(step, Prepare):
                prepared = await prepare(self._link, self._deps.clock, step, self._deps.settings.rules.typing.cap)
                self._typing_at = step.entry if step.typing and prepared.exists is not False else None
            else:
                await self._wait(step)

    async def _advance(self, finished: Finished | None, prepared: Prepared | None) -> Claimed | Prepare | Idle:
        """Settle what finished and find or claim what is next, in one transaction."""
        now = self._deps.clock.now()
        rules = self._deps.settings.rules
        stopping = self._stopping.is_set()

        def work(tx: Tx) -> Claimed | Prepare | Idle:
            if finished is not None:
                entry, result = finished
                outbox.settle_attempt(tx, self._lease, entry.id, result, now, rules.policy)
                if isinstance(result, SendNotStarted) and result.link_lost:
                    # Whatever comes next would meet the same end, and take a slot of the rate windows for it.
                    return Idle(now + LINK_RETRY_WAIT)
            if stopping:
                return Idle(None)
            return outbox.claim_next(tx, self._lease, now, rules, prepared)

        if finished is None and stopping:
            return Idle(None)
        step = await self._deps.database.write(work)
        if finished is not None:
            self._deps.fault("after_settle")
        if finished is not None or prepared is not None:
            # Also what was prepared may have been settled: its number is not on WhatsApp.
            self._deps.wakeup.notify(settled_topic(self._lease.instance))
            self._deps.wakeup.notify(WEBHOOKS)
        return step

    async def _put_on_wire(self, entry: Entry) -> Finished:
        assert entry.state is ItemState.SENDING
        self._deps.fault("after_claim")
        result: SendResult
        try:
            result = await self._link.send(entry.message_id, entry.chat, entry.content)
        except Exception as error:  # an engine that breaks its promise must not end the loop
            log.exception("the engine failed during a send", instance=self._lease.instance)
            result = SendUncertain(type(error).__name__)
        self._deps.fault("after_ack")
        self._clear_typing()
        self._note_answer(result)
        return entry, result

    def heard(self) -> None:
        """The server said something about messages: the link is not mute."""
        self.unacked = 0

    def _note_answer(self, result: SendResult) -> None:
        if isinstance(result, SendUncertain | SendNotStarted) and result.reason in (ACK_TIMEOUT, PREPARE_TIMEOUT):
            self.unacked += 1
            self._deps.wakeup.notify(watch_topic(self._lease.instance))
        elif isinstance(result, SendAcked | SendRefused):
            self.unacked = 0
            self.answered_at = self._deps.clock.monotonic()

    def _types_for(self, entry: Entry) -> bool:
        return self._typing_at is not None and self._typing_at.id == entry.id

    def _clear_typing(self) -> None:
        """The indicator goes, in the background: nothing waits for it."""
        entry, self._typing_at = self._typing_at, None
        if entry is not None:
            clearing = asyncio.create_task(stop_typing(self._link, entry))
            self._clearing.add(clearing)
            clearing.add_done_callback(self._clearing.discard)

    async def _wait(self, idle: Idle) -> None:
        wait = LOOK_EVERY
        if idle.until is not None:
            wait = min(max(idle.until - self._deps.clock.now(), 0.0), wait)
        await self._deps.wakeup.wait(self._topic, wait)
