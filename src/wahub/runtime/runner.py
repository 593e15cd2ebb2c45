"""The loop of one instance: hold its lease, keep a link up, write down what the link reports.

Promise: at most one link at a time, always under the current lease term; every report is stored, in order, before
the next is looked at; an inbound message is acknowledged to the engine only after its commit. Not promised: that a
link can be had.

A crash leaves a lease that runs out by itself, links that the engine closes when its input ends, rows in `sending`
that the next holder settles (`services/outbox/attempt.py::recover`), and spooled inbound messages that the next link
reports again.

After a link ends, `pause_after` says how long to wait: not at all after pairing (515) and after a round of QR codes,
at least a minute when another client took the session over, never again when WhatsApp banned the account, else by
the ladder of contract 0.12. Losing the network never leads to `needs_qr`.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import structlog

from wahub.domain.errors import EngineDownError, InstanceNotFoundError, StaleLeaseError
from wahub.domain.ids import InstanceId
from wahub.domain.instance import Disconnect, Instance
from wahub.domain.lease import Lease
from wahub.ports.engine import (
    Acked,
    CaughtUp,
    Closed,
    Inbound,
    Link,
    LinkEvent,
    LinkSpec,
    Opened,
    Paired,
    QrShown,
    Receipted,
)
from wahub.ports.store import Tx
from wahub.ports.wakeup import WEBHOOKS, link_topic, outbox_topic
from wahub.runtime.deps import RuntimeDeps
from wahub.runtime.leaser import Leaser
from wahub.runtime.reports import ReportBatch
from wahub.runtime.sender import Sender
from wahub.runtime.vault import StoreVault
from wahub.services import instance, outbox

log = structlog.get_logger("wahub.runner")

_STALE_PAUSE = 1.0


class Runner:
    """Runs one instance until stopped or deleted."""

    def __init__(self, deps: RuntimeDeps, leaser: Leaser, wanted: InstanceId) -> None:
        self.instance = wanted
        self.lease: Lease | None = None
        self.attempted = asyncio.Event()
        """Set once the first link opened, showed a code or failed."""
        self.connected = False
        self._deps = deps
        self._leaser = leaser
        self._until = 0.0
        self._link: Link | None = None
        self._sender: Sender | None = None
        self._closing: asyncio.Task[None] | None = None
        self._unlinked = asyncio.Event()
        self._unlinked.set()
        self._unlinks = 0
        """How often the account was unlinked: a link that was being opened meanwhile has the credentials of before."""
        self._attempt = 0
        self._caught_up = False
        """The current link's offline queue is drained."""
        self._stopping = False
        self._task = asyncio.create_task(self._run(), name=f"runner:{wanted}")

    # --- asked by others ---------------------------------------------------------------------------------------------

    def extend(self, until: float) -> None:
        """The lease term got longer."""
        self._until = until
        if self._link is not None:
            self._link.extend(until)

    def lease_lost(self, lease: Lease) -> None:
        """Someone else holds the instance now: close the link without a word to the server."""
        if self.lease == lease:
            self.lease = None
            if self._link is not None:
                self._closing = asyncio.create_task(self._link.close())

    def hurry(self) -> None:
        """A caller asked to reconnect: do not sit out the pause."""
        self._deps.wakeup.notify(self._pause_topic)

    async def stop(self) -> None:
        """Finish the item on the wire, close the link, give the lease up."""
        self._stopping = True
        await self._end_link(self._deps.settings.stop_patience, logout=False)
        await self._end_task()
        if self.lease is not None:
            with contextlib.suppress(Exception):
                await self._leaser.release(self.lease)
        self._leaser.forget(self.instance)

    async def delete(self) -> None:
        """Unlink at the server, close, and remove everything of the instance (contract 0.13)."""
        deps = self._deps
        self._stopping = True
        await self._stop_sender(deps.settings.delete_patience)
        lease = self.lease or await self._claim()
        known, cancelled = await deps.database.write(lambda tx: instance.prepare_delete(tx, lease, deps.clock.now()))
        await self._end_link(deps.settings.delete_patience, logout=True)
        await self._end_task()
        await deps.engine.forget(self.instance)
        if known is not None:
            await deps.farewell(known, cancelled)
        await deps.database.write(lambda tx: instance.finish_delete(tx, lease, deps.clock.now()))
        self._leaser.forget(self.instance)

    async def unlink(self) -> None:
        """Log out at the server and wait for a new scan; the queue stays (contract 0.13, `keep=1`)."""
        deps, lease = self._deps, self._lease
        # The loop must not open the next link before the credentials of this one are gone.
        self._unlinked.clear()
        self._unlinks += 1
        try:
            await self._end_link(deps.settings.delete_patience, logout=True)
            await deps.database.write(lambda tx: instance.finish_unlink(tx, lease, deps.clock.now(), deps.new_id()))
        finally:
            self._unlinked.set()
        deps.wakeup.notify(WEBHOOKS)
        self.hurry()

    @property
    def done(self) -> bool:
        """Whether the loop ended by itself (the instance is gone)."""
        return self._task.done()

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopping:
            # While the account is unlinked no other link may be opened: neither with its old credentials, nor with new
            # ones that would be purged with them.
            await self._unlinked.wait()
            if self._stopping:
                return
            try:
                if self.lease is None:
                    await self._take_over()
                reason = await self._one_link()
            except StaleLeaseError:
                # Someone took over. Asking again at once would only take it back from them.
                self.lease = None
                await self._deps.clock.sleep(_STALE_PAUSE)
                continue
            except InstanceNotFoundError:
                return
            except EngineDownError:
                reason = Disconnect.ENGINE_DIED
            except Exception as error:
                log.exception("runner will try again", instance=self.instance, error=type(error).__name__)
                reason = Disconnect.UNKNOWN
            self.attempted.set()
            if self._stopping:
                return
            if reason in (Disconnect.TERM_EXPIRED, Disconnect.CLOSED_BY_US):
                # The term ran out under the link: only a new epoch may go on.
                self.lease = None
                continue
            await self._pause(self._pause_after(reason))

    async def _take_over(self) -> None:
        self.lease = await self._claim()
        self._leaser.watch(self.instance, self)
        found = await self._deps.database.write(self._recover)
        if found:
            log.info("sends of unknown fate taken over", instance=self.instance, count=found)

    def _recover(self, tx: Tx) -> int:
        return outbox.recover(tx, self._lease, self._deps.clock.now(), self._deps.settings.rules.policy)

    async def _claim(self) -> Lease:
        while True:
            claimed = await self._leaser.claim(self.instance)
            if claimed is not None:
                lease, self._until = claimed
                return lease
            await self._deps.clock.sleep(self._deps.settings.lease_ttl / 5)

    @property
    def _lease(self) -> Lease:
        if self.lease is None:
            raise StaleLeaseError
        return self.lease

    def _pause_after(self, reason: Disconnect) -> float | None:
        """Seconds to wait before the next link; None: not before someone asks."""
        if reason in (
            Disconnect.RESTART_REQUIRED,
            Disconnect.LOGGED_OUT,
            Disconnect.MULTIDEVICE_MISMATCH,
            # The next round of codes follows at once: whoever comes to scan shall find one.
            Disconnect.QR_EXPIRED,
        ):
            return 0.0
        if reason is Disconnect.BANNED:
            return None
        if reason is Disconnect.REPLACED:
            return self._deps.settings.replaced_pause
        self._attempt += 1
        return self._deps.settings.ladder.delay(self._attempt, self._deps.random())

    @property
    def _pause_topic(self) -> str:
        return link_topic(self.instance)

    async def _pause(self, seconds: float | None) -> None:
        if seconds is None:
            while not await self._deps.wakeup.wait(self._pause_topic, 3_600.0):
                pass
        elif seconds > 0:
            await self._deps.wakeup.wait(self._pause_topic, seconds)

    async def _one_link(self) -> Disconnect:
        """Open a link and serve it to its end."""
        deps, lease, unlinks = self._deps, self._lease, self._unlinks
        now, policy = deps.clock.now(), deps.settings.rules.policy

        def begin(tx: Tx) -> None:
            # The last link's loop is over; if it could not store an outcome, the item would stay on the wire for ever.
            outbox.recover(tx, lease, now, policy, also_own=True)
            instance.link_started(tx, lease, now)

        await deps.database.write(begin)
        spec = LinkSpec(self.instance, lease.epoch, self._until)
        self._caught_up = False
        link = await deps.engine.open(spec, StoreVault(deps.database, lease))
        self._link = link
        link.extend(self._until)
        if self._stopping:
            await link.close()
        try:
            if unlinks != self._unlinks:
                await link.logout()
                await link.close()
                # Again: it may have written keys after they were purged.
                await deps.database.write(lambda tx: instance.finish_unlink(tx, lease, deps.clock.now(), deps.new_id()))
                return Disconnect.CLOSED_BY_US
            return await self._serve(link, lease)
        except (StaleLeaseError, InstanceNotFoundError):
            raise
        except Exception as error:
            # Callers must not read "ready" until the next link is tried. If the store is what failed, they will.
            with contextlib.suppress(Exception):
                await self._note_closed(lease, Closed(Disconnect.UNKNOWN, None, type(error).__name__))
            raise
        finally:
            self.connected = False
            self._link = None
            await self._stop_sender()
            await link.close()

    async def _serve(self, link: Link, lease: Lease) -> Disconnect:
        batch = ReportBatch(self._deps, lease, link)
        async for event in link.events():
            if isinstance(event, Inbound | Receipted | Acked):
                await batch.add(event)
                continue
            await batch.flush()
            if isinstance(event, Closed):
                await self._stop_sender()
                await self._note_closed(lease, event)
                return event.reason
            await self._note(link, lease, event)
        return Disconnect.UNKNOWN

    async def _note(self, link: Link, lease: Lease, event: LinkEvent) -> None:
        deps = self._deps
        now, event_id = deps.clock.now(), deps.new_id()
        match event:
            case QrShown(text, ttl):
                await deps.database.write(lambda tx: instance.qr_shown(tx, lease, text, ttl, now, event_id))
                self.attempted.set()
            case Paired(me):
                await deps.database.write(lambda tx: instance.paired(tx, lease, me, now, event_id))
            case Opened(me):
                await self._note_opened(link, lease, Opened(me))
            case CaughtUp():
                self._caught_up = True
                policy = deps.settings.rules.policy
                await deps.database.write(lambda tx: outbox.start_evidence_wait(tx, lease, now, policy))
                deps.wakeup.notify(outbox_topic(self.instance))
            case _:
                raise TypeError(f"unexpected event {type(event).__name__}")
        deps.wakeup.notify(WEBHOOKS)

    async def _note_opened(self, link: Link, lease: Lease, event: Opened) -> None:
        deps = self._deps
        now, event_id = deps.clock.now(), deps.new_id()
        policy = deps.settings.rules.policy
        # Until the engine says that the offline queue is drained, nothing of unknown fate may leave again. It may say
        # so before it says that the link is open: the server closes an empty queue at once.
        patience = 0.0 if self._caught_up else deps.settings.drain_patience
        patient = replace(policy, evidence_wait=policy.evidence_wait + patience)

        def work(tx: Tx) -> Instance:
            outbox.start_evidence_wait(tx, lease, now, patient)
            return instance.opened(tx, lease, event.me, now, event_id)

        await deps.database.write(work)
        self._attempt = 0
        self.connected = True
        self.attempted.set()
        log.info("ready", instance=self.instance)
        if self._sender is None and not self._stopping:
            self._sender = Sender(deps, lease, link)

    async def _note_closed(self, lease: Lease, event: Closed) -> None:
        deps = self._deps
        now, event_id = deps.clock.now(), deps.new_id()
        log.info("link closed", instance=self.instance, reason=str(event.reason), code=event.code)
        if not self._unlinked.is_set() or (event.reason is Disconnect.CLOSED_BY_US and self._stopping):
            # Whoever unlinks writes it down, once, also when the server's own word comes first.
            return
        await deps.database.write(lambda tx: instance.closed(tx, lease, event.reason, event.detail, now, event_id))
        deps.wakeup.notify(WEBHOOKS)

    # --- endings -----------------------------------------------------------------------------------------------------

    async def _stop_sender(self, patience: float | None = None) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            await sender.stop(self._deps.settings.stop_patience if patience is None else patience)

    async def _end_link(self, patience: float, *, logout: bool) -> None:
        await self._stop_sender(patience)
        link = self._link
        if link is None:
            return
        if logout:
            await link.logout()
        await link.close()

    async def _end_task(self) -> None:
        self.hurry()
        # Without a lease it only waits for one, and nothing is under way.
        patience = 10.0 if self.lease is not None else 0.0
        try:
            await asyncio.wait_for(asyncio.shield(self._task), patience)
        except TimeoutError:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
