"""Serving one link: what it reports is stored, in order, before the next report is looked at.

Promise: every report is one transaction under the lease the link was opened with; an inbound message is acknowledged to
the engine only after its commit; a send loop runs exactly while the link is open. The end of the link is stored as
what follows from it (domain/reconnect.py).

A crash between two reports loses none: the engine reports inbound messages again, the server repeats what was not
acknowledged, and what a link said of itself is moot with the link.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import structlog

from wahub.domain.inbox import Address
from wahub.domain.instance import State
from wahub.domain.lease import Lease
from wahub.domain.lifecycle import IncidentKind
from wahub.domain.reconnect import Next
from wahub.ports.engine import (
    Acked,
    CaughtUp,
    Closed,
    Inbound,
    Link,
    LinkEvent,
    Mapped,
    Missed,
    Opened,
    Paired,
    PresenceSeen,
    QrShown,
    Receipted,
)
from wahub.ports.store import Tx
from wahub.ports.wakeup import WEBHOOKS, outbox_topic
from wahub.runtime import journal
from wahub.runtime.deps import RuntimeDeps
from wahub.runtime.ending import Endings, Verdict
from wahub.runtime.presence import PresenceNews
from wahub.runtime.reach import Reach
from wahub.runtime.reports import ReportBatch
from wahub.runtime.sender import Sender
from wahub.runtime.sight import LinkFacts, Sight
from wahub.services import contact, gap, lifecycle, outbox
from wahub.services.lifecycle import Moved

log = structlog.get_logger("wahub.runner")


class Serving:
    """One link from its opening to its end."""

    def __init__(
        self, deps: RuntimeDeps, lease: Lease, sight: Sight, facts: LinkFacts, reach: Reach, news: Callable[[], None]
    ) -> None:
        self.verdict: Verdict | None = None
        self.next: Next | None = None
        """What follows from the end of the link, once it is stored."""
        self.closed: Closed | None = None
        """How it ended, as soon as that is known."""
        self.shows_qr = False
        self._deps = deps
        self._lease = lease
        self._sight = sight
        self._facts = facts
        self._reach = reach
        self._news = news
        self._presence = PresenceNews(deps, lease)
        self._stopping = False

    @property
    def link(self) -> Link:
        """The link that is served."""
        return self._facts.link

    async def serve(self) -> None:
        """Take every report until the link has ended."""
        link, facts = self._facts.link, self._facts
        batch = ReportBatch(self._deps, self._lease, link)
        async for event in link.events():
            if isinstance(event, PresenceSeen):
                self._presence.add(event)
                continue
            if isinstance(event, Inbound | Receipted | Acked):
                facts.active_at = self._deps.clock.monotonic()
                if facts.sender is not None:
                    facts.sender.heard()
                await batch.add(event)
                continue
            await batch.flush()
            if isinstance(event, Closed):
                self.closed = event
                await self.stop_sender()
                await self._presence.close()
                self.next = await Endings(self._deps, self._lease, self._sight, self._reach).note(event, self.verdict)
                return
            self._note_reached()
            await self._note(event)
            self._deps.wakeup.notify(WEBHOOKS)
            self._news()

    async def end(self, verdict: Verdict) -> None:
        """Close the link for a reason of ours. The first reason stands."""
        if self.verdict is None:
            self.verdict = verdict
        await self._facts.link.close()

    def no_more_sends(self) -> None:
        """The runner stops: a link that opens now gets no send loop."""
        self._stopping = True

    async def stop_sender(self, patience: float | None = None) -> None:
        """Finish the item on the wire, and claim no other."""
        sender, self._facts.sender = self._facts.sender, None
        if sender is not None:
            await sender.stop(self._deps.settings.stop_patience if patience is None else patience)

    # --- what it reports ---------------------------------------------------------------------------------------------

    async def _note(self, event: LinkEvent) -> None:
        deps, lease = self._deps, self._lease
        now, event_id = deps.clock.now(), deps.new_id()
        match event:
            case QrShown(text, ttl):
                self._take(
                    await deps.database.write(lambda tx: lifecycle.qr_shown(tx, lease, text, ttl, now, event_id)), "qr"
                )
                self.shows_qr = self._sight.observed.state is State.NEEDS_QR
            case Paired(me):
                self.shows_qr = False
                moved = await deps.database.write(lambda tx: lifecycle.paired(tx, lease, me, now, event_id))
                self._take(moved, "authenticated")
            case Opened():
                await self._note_opened(event)
            case CaughtUp():
                await self._note_caught_up(event, now)
            case Missed():
                await self._note_missed(event, now)
            case Mapped(phone, lid):
                await deps.database.write(lambda tx: contact.connect(tx, lease, Address(phone, lid), now, event_id))
            case PresenceSeen():
                pass  # told by others
            case _:
                raise TypeError(f"unexpected event {type(event).__name__}")

    async def _note_caught_up(self, event: CaughtUp, now: float) -> None:
        deps, lease = self._deps, self._lease
        self._facts.caught_up = True
        policy = deps.settings.rules.policy

        def work(tx: Tx) -> bool:
            outbox.start_evidence_wait(tx, lease, now, policy)
            return gap.caught_up(tx, lease, event.announced, event.received, now)

        self._alert_gap(await deps.database.write(work))
        deps.wakeup.notify(outbox_topic(lease.instance))

    async def _note_missed(self, event: Missed, now: float) -> None:
        lease, what = self._lease, (event.message_id, event.chat, event.sender, event.why, float(event.at))
        self._alert_gap(await self._deps.database.write(lambda tx: gap.missed(tx, lease, *what, now)))

    def _alert_gap(self, due: bool) -> None:
        if due:
            journal.alert(self._lease.instance, "incident", kind=str(IncidentKind.MESSAGES_MISSED))

    async def _note_opened(self, event: Opened) -> None:
        deps, lease, facts = self._deps, self._lease, self._facts
        now, event_id = deps.clock.now(), deps.new_id()
        policy = deps.settings.rules.policy
        # Until the engine says that the offline queue is drained, nothing of unknown fate may leave again. It may say
        # so before it says that the link is open: the server closes an empty queue at once.
        patience = 0.0 if facts.caught_up else deps.settings.drain_patience
        patient = replace(policy, evidence_wait=policy.evidence_wait + patience)

        def work(tx: Tx) -> Moved:
            outbox.start_evidence_wait(tx, lease, now, patient)
            if not facts.caught_up:
                gap.not_caught_up(tx, lease)
            return lifecycle.opened(tx, lease, event.me, now, event_id, by_poll=event.polled)

        paired = self._sight.observed.awaits_ready
        moved = await deps.database.write(work)
        facts.opened_at = facts.opened_at or deps.clock.monotonic()
        self._take(moved, "ready")
        paired_at = moved.after.observed.authenticated_at
        if paired and paired_at is not None:
            journal.note(lease.instance, "ready_after_authenticated_ms", ms=round((now - paired_at) * 1000))
        if facts.sender is None and not self._stopping and self.verdict is None:
            facts.sender = Sender(deps, lease, facts.link)

    def _take(self, moved: Moved, event: str, **fields: object) -> None:
        self._sight.take(moved)
        journal.note(self._lease.instance, event, **fields)
        journal.moved(moved)

    def _note_reached(self) -> None:
        if not self._facts.reached:
            self._facts.reached = True
            self._reach.reached(self._lease.instance, self._deps.clock.monotonic())
