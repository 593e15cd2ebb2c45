"""The sweeping loop: ends what is over, and forgets what nobody needs any more.

- Items whose time is over are expired, also for instances that nobody can link: a caller waits for that fate.
- Items of unknown fate are given up after the resend window, also where no link comes back.
- Webhook deliveries that were taken are forgotten after a week, events when their retention is over. Deliveries whose
  endpoint is held become dead letters when their time is over. The trouble of an endpoint that nobody uses any more is
  forgotten.
- Messages, chats and what could not be read are forgotten when their retention is over. Of a message that is forgotten
  early, what recognises a second copy stays as long as one may come.
- Pictures of pairing codes leave the event log when the code dies.

A crash loses nothing: the next sweep finds the same rows. Two workers that sweep at once do the same work once, because
each row is written under its own condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import structlog

from wahub.domain.ids import InstanceId
from wahub.domain.thread import IDENTITY_KEPT
from wahub.ports.store import Tx
from wahub.ports.wakeup import WEBHOOKS
from wahub.runtime.deps import RuntimeDeps
from wahub.services import outbox

log = structlog.get_logger("wahub.janitor")

BATCH = 500
DELIVERIES_KEPT = 7 * 86_400.0
TIDY_EVERY = 3_600.0
LAPSE_EVERY = 60.0


class Janitor:
    """Sweeps until cancelled."""

    def __init__(self, deps: RuntimeDeps) -> None:
        self._deps = deps
        self._tidied_at = float("-inf")
        self._lapsed_at = float("-inf")
        self._blanked_until = 0.0
        """Messages that were stored before that are forgotten already."""

    async def run(self) -> None:
        """Sweep for ever; a fault of the store is logged and the next sweep tries again."""
        while True:
            try:
                await self.sweep()
            except Exception as error:  # noqa: BLE001 - the store may come back
                log.error("the sweep will be tried again", error=type(error).__name__)
            await self._deps.clock.sleep(self._deps.settings.sweep_every)

    async def sweep(self) -> None:
        """One round."""
        deps = self._deps
        while await self._expire() == BATCH:
            pass
        await self._lapse()
        now = deps.clock.now()
        await deps.database.write(lambda tx: tx.events.end_secrets(now))
        if deps.clock.monotonic() - self._tidied_at >= TIDY_EVERY:
            await deps.database.write(lambda tx: tx.webhooks.forget_settled(now - DELIVERIES_KEPT))
            await deps.database.write(lambda tx: tx.dead.forget_endpoints())
            await self._forget_events(now)
            await self._forget_messages(now)
            self._tidied_at = deps.clock.monotonic()

    async def _forget_events(self, now: float) -> None:
        """Some at a time: a long transaction would hold up everything else."""
        kept = self._deps.settings.events_kept
        position: int | None = None if kept is None else 0
        while kept is not None and position is not None:
            forget = partial(_forget, before=now - kept, position=position)
            position = await self._deps.database.write(forget)

    async def _forget_messages(self, now: float) -> None:
        kept, database = self._deps.settings.messages_kept, self._deps.database
        if kept is None:
            return
        over, late = now - kept, now - IDENTITY_KEPT
        for owner in await database.read(lambda tx: [known.id for known in tx.instances.list()]):
            if over > late:
                await self._blank_messages(owner, over)
            # A read first: a write that finds nothing to do would hold up everything else all the same.
            due = partial(_is_due, owner=owner, over=over, late=min(over, late))
            remove = partial(_remove_some, owner=owner, over=over, late=min(over, late))
            while await database.read(due):
                if not await database.write(remove):
                    break
        self._blanked_until = over

    async def _blank_messages(self, owner: InstanceId, over: float) -> None:
        place: tuple[float, int] | None = (self._blanked_until, 0)
        while place is not None:
            look = partial(_to_blank, owner=owner, over=over, after=place)
            positions, place = await self._deps.database.read(look)
            if positions:
                await self._deps.database.write(partial(_blank, positions=positions))

    async def _lapse(self) -> None:
        deps = self._deps
        if deps.clock.monotonic() - self._lapsed_at < LAPSE_EVERY:
            return
        self._lapsed_at = deps.clock.monotonic()
        now, policy = deps.clock.now(), deps.settings.rules.policy
        if await deps.database.write(lambda tx: outbox.lapse_due(tx, now, policy)):
            deps.wakeup.notify(WEBHOOKS)
        await deps.database.write(lambda tx: tx.dead.bury_overdue(now, "the endpoint was held until its time was over"))

    async def _expire(self) -> int:
        deps = self._deps
        now = deps.clock.now()
        # A read first: usually nothing is over, and a read disturbs no writer.
        if not await deps.database.read(lambda tx: len(tx.outbox.expired(now, 1))):
            return 0
        found = await deps.database.write(lambda tx: outbox.expire_due(tx, now, BATCH))
        deps.wakeup.notify(WEBHOOKS)
        return found


def _forget(tx: Tx, before: float, position: int) -> int | None:
    return tx.events.forget(before, position, BATCH)


def _to_blank(
    tx: Tx, owner: InstanceId, over: float, after: tuple[float, int]
) -> tuple[Sequence[int], tuple[float, int] | None]:
    return tx.retention.to_blank(owner, after, over, BATCH)


def _blank(tx: Tx, positions: Sequence[int]) -> None:
    tx.retention.blank(positions)


def _is_due(tx: Tx, owner: InstanceId, over: float, late: float) -> bool:
    return tx.retention.is_due(owner, late, over)


def _remove_some(tx: Tx, owner: InstanceId, over: float, late: float) -> int:
    """A batch of each kind; returns how many rows that were."""
    retention = tx.retention
    removed = retention.forget(owner, late, BATCH) + retention.forget_chats(owner, over, BATCH)
    return removed + retention.forget_missed(owner, over, BATCH)
