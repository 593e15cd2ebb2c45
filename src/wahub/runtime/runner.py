"""The loop of one instance: hold its lease, keep a link up, and between two links wait as long as it should.

Promise: at most one link at a time, always under the current lease term. What a link reports is stored by
runtime/serving.py; what timers do is in runtime/watch.py; what follows when a link ends was decided by
domain/reconnect.py and stored with its end. Not promised: that a link can be had.

A crash leaves a lease that runs out by itself, links that the engine closes when its input ends, rows in `sending`
that the next holder settles (`services/outbox/attempt.py::recover`), and spooled inbound messages that the next link
reports again. A pause that was under way goes on after the next start, for its end is stored.

Between two links the runner waits for what comes first: the time that was decided, a person who asks, or its turn
when all links of the worker were cut off (runtime/reach.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine

import structlog

from wahub.domain.errors import EngineDownError, InstanceNotFoundError, StaleLeaseError
from wahub.domain.ids import InstanceId
from wahub.domain.instance import Config, Disconnect, Stage, State
from wahub.domain.lease import Lease
from wahub.domain.lifecycle import Lifecycle
from wahub.domain.reconnect import Next
from wahub.domain.watchdog import Restart
from wahub.ports.engine import Closed, Link, LinkSpec
from wahub.ports.store import Tx
from wahub.ports.wakeup import link_topic, watch_topic
from wahub.runtime import journal
from wahub.runtime.aftermath import Aftermath
from wahub.runtime.departure import Departure
from wahub.runtime.deps import RuntimeDeps
from wahub.runtime.ending import Verdict
from wahub.runtime.leaser import Leaser
from wahub.runtime.presence import PresenceWish
from wahub.runtime.reach import Reach
from wahub.runtime.serving import Serving
from wahub.runtime.sight import LinkFacts, Sight
from wahub.runtime.term import Term
from wahub.runtime.turns import Turns
from wahub.runtime.vault import StoreVault
from wahub.runtime.watch import Watch
from wahub.runtime.wishes import Wishes
from wahub.services import lifecycle, outbox
from wahub.services.lifecycle import Moved

log = structlog.get_logger("wahub.runner")

_STALE_PAUSE = 1.0


_OTHER_WAY = Verdict(Disconnect.RECYCLED, "its proxy or its engine settings changed")


def _same_way(one: Config, other: Config) -> bool:
    """Whether a link that was opened with one would be opened in the same way with the other."""
    return (one.proxy, one.engine) == (other.proxy, other.engine)


class Runner:
    """Runs one instance until stopped or deleted."""

    def __init__(self, deps: RuntimeDeps, leaser: Leaser, reach: Reach, wanted: InstanceId) -> None:
        self.instance = wanted
        self.attempted = asyncio.Event()
        """Set once the first link opened, showed a code or failed, or when none is to be opened."""
        self.sight = Sight(wanted)
        self.deps = deps
        self.term = Term(deps, leaser, self, wanted)
        self.aftermath = Aftermath(self, reach)
        self.turns = Turns(deps, reach, wanted)
        self.departure = Departure(self)
        self._wishes = Wishes(self)
        self._presence = PresenceWish()
        self._reach = reach
        self.serving: Serving | None = None
        self._config: Config | None = None
        """What the current link was opened with."""
        self._beside: set[asyncio.Task[None]] = set()
        self._begun = False
        """What was stored before this process began was taken up."""
        self._task = asyncio.create_task(self._run(), name=f"runner:{wanted}")

    # --- asked by others ---------------------------------------------------------------------------------------------

    @property
    def lease(self) -> Lease | None:
        """The current term, or None while there is none."""
        return self.term.lease

    @property
    def connected(self) -> bool:
        """Whether its link is open."""
        return self.sight.link is not None and self.sight.link.opened_at is not None

    def extend(self, until: float) -> None:
        """The lease term got longer."""
        self.term.until = until
        if self._link is not None:
            self._link.extend(until)

    def lease_lost(self, lease: Lease) -> None:
        """Someone else holds the instance now: close the link without a word to the server."""
        if self.lease == lease:
            self.term.lease = None
            if self._link is not None:
                self._spawn(self._link.close())
            self.turns.look_again()

    def ask(self, record: Lifecycle) -> None:
        """A caller asked for something."""
        self._wishes.add(record)
        self.turns.look_again()
        if self.serving is not None:
            # The loop is busy with the link: what concerns the link is done beside it.
            self._spawn(self._act_beside())

    def reconfigured(self, config: Config) -> None:
        """Its configuration may have changed: a link over another proxy must be another link."""
        self._presence.configure(config)
        old = self._config
        if old is None or _same_way(old, config):
            return
        self._config = config
        if self.serving is not None:
            self._spawn(self.serving.end(_OTHER_WAY))
        elif old.proxy != config.proxy:
            # It need not wait with those whose way is cut: its own may be open.
            self._reach.leave(self.instance)
            self.deps.wakeup.notify(link_topic(self.instance))

    @property
    def done(self) -> bool:
        """Whether the loop ended by itself (the instance is gone)."""
        return self._task.done()

    # --- asked by its timers -----------------------------------------------------------------------------------------

    async def end_link(self, verdict: Verdict, patience: float | None = None) -> None:
        """Close the link for a reason of ours; first wait so many seconds for the item on the wire, if any."""
        serving = self.serving
        if serving is not None:
            if patience is not None:
                await serving.stop_sender(patience)
            await serving.end(verdict)

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        watch = asyncio.create_task(Watch(self).run(), name=f"watch:{self.instance}")
        try:
            await self._loop()
        finally:
            watch.cancel()
            self._reach.leave(self.instance)
            await asyncio.gather(watch, return_exceptions=True)

    async def _loop(self) -> None:
        while not self.departure.stopping:
            await self.departure.may_link.wait()
            if self.departure.stopping:
                return
            try:
                if self.lease is None:
                    await self._take_over()
                if self.aftermath:
                    await self.aftermath.store()
                if not await self._may_open():
                    continue
                self.aftermath.failed = None
                await self._one_link()
            except StaleLeaseError:
                # Someone took over. Asking again at once would only take it back from them.
                self.term.lease = None
                await self.deps.clock.sleep(_STALE_PAUSE)
                continue
            except InstanceNotFoundError:
                return
            except EngineDownError:
                self.aftermath.no_engine()
            except Exception as error:  # noqa: BLE001 - any fault of the store, or a bug: neither may end the loop
                await self.aftermath.sit_out(error)
            self.attempted.set()

    async def _take_over(self) -> None:
        lease = await self.term.claim()
        policy, now = self.deps.settings.rules.policy, self.deps.clock.now()

        def work(tx: Tx) -> int:
            found = tx.instances.get(self.instance)
            if found is None:
                raise InstanceNotFoundError(self.instance)
            self.sight.instance, self.sight.record = found, tx.lifecycles.get(self.instance)
            return outbox.recover(tx, lease, now, policy)

        recovered = await self.deps.database.write(work)
        self.term.begin(lease)
        if recovered:
            log.info("sends of unknown fate taken over", instance=self.instance, count=recovered)
        if not self._begun:
            self._begun = True
            self._begin_as_stored()
        self._poke()

    def _begin_as_stored(self) -> None:
        seen = self.sight.observed
        self.turns.resume(seen, self.sight.record)
        if self.turns.waits:
            self.attempted.set()
        if not seen.linked and seen.state is State.CONNECTING:
            self.begin_setup()

    def begin_setup(self) -> None:
        """An account that is not linked is being set up: the time for it begins."""
        self.sight.init_since, self.sight.init_attempts = self.deps.clock.monotonic(), 1

    @property
    def _link(self) -> Link | None:
        return None if self.sight.link is None else self.sight.link.link

    async def _may_open(self) -> bool:
        """Wait until the next link may be opened; False when something else has to be done first."""
        may = await self.turns.wait(lambda: self.sight.observed.state, self._interrupted)
        if may:
            await self._end_pause()
            return True
        if self.lease is not None and not self.departure.stopping:
            await self._wishes.act()
            if self.turns.new_term:
                self.turns.new_term = False
                await self.term.renounce()
        return False

    def _interrupted(self) -> bool:
        return (
            self.departure.stopping or self.lease is None or not self.departure.may_link.is_set() or bool(self._wishes)
        )

    async def _end_pause(self) -> None:
        """The pause is over, by itself or because someone asked."""
        if self.sight.observed.state is not State.PAUSED:
            return
        lease, now = self.term.held, self.deps.clock.now()
        if self.sight.record.pause_reason == "ready_timeout":
            why = "not ready in time"
            self.sight.restart = Restart(hard=False, since=self.deps.clock.monotonic(), asked=False)
            self.take(await self.deps.database.write(lambda tx: lifecycle.restart(tx, lease, now, why, asked=False)))
        else:
            self.take(await self.deps.database.write(lambda tx: lifecycle.cooldown_over(tx, lease, now)))

    # --- one link ----------------------------------------------------------------------------------------------------

    async def _one_link(self) -> None:
        """Open a link and serve it to its end."""
        deps, lease, unlinks = self.deps, self.term.held, self.departure.unlinks
        now, policy = deps.clock.now(), deps.settings.rules.policy
        slow = self.sight.observed.restart_attempts > deps.settings.reconnect.ladder.fast

        def begin(tx: Tx) -> Moved:
            # The last link's loop is over; if it could not store an outcome, the item would stay on the wire for ever.
            outbox.recover(tx, lease, now, policy, also_own=True)
            return lifecycle.attempt(tx, lease, now, slow=slow)

        self.take(await deps.database.write(begin))
        self.aftermath.store_answers()
        assert self.sight.instance is not None
        config = self._config = self.sight.instance.config
        self._reach.join(self.instance, config.proxy)
        spec = LinkSpec(self.instance, lease.epoch, self.term.until, config.proxy, config.engine)
        link = await deps.engine.open(spec, StoreVault(deps.database, lease))
        facts = self.sight.link = LinkFacts(link, since=deps.clock.monotonic())
        serving = self.serving = Serving(deps, lease, self.sight, facts, self._reach, self._news)
        link.extend(self.term.until)
        self._presence.begin(link, config)
        self._poke()
        if self._config is not config:
            # It was changed while the link was being opened.
            self._spawn(serving.end(_OTHER_WAY))
        if self._wishes:
            self._spawn(self._act_beside())
        await self.departure.begin(serving)
        try:
            if unlinks != self.departure.unlinks:
                await self.departure.undo(link)
            else:
                await serving.serve()
                self.plan(serving.next, serving.verdict)
                if serving.closed is not None and serving.closed.reason is Disconnect.TERM_EXPIRED:
                    # The term ran out under the link: only a new epoch may go on.
                    self.term.lease = None
        except (StaleLeaseError, InstanceNotFoundError):
            raise
        except Exception as error:
            stage = Stage.OPEN if facts.opened_at is not None else Stage.REACHED
            ours = Closed(Disconnect.UNKNOWN, None, type(error).__name__, stage)
            self.aftermath.keep(serving.closed or ours, serving.verdict)
            raise
        finally:
            await serving.stop_sender()
            await link.close()
            self._presence.end()
            self.sight.link = self.serving = None
            self.departure.ended()
            self._poke()

    def plan(self, follows: Next | None, verdict: Verdict | None) -> None:
        """When the next link is due."""
        if self.departure.stopping:
            return
        if follows is not None:
            if follows.wait is None:
                self.sight.restart = None
            self.turns.plan(follows.wait)
        elif verdict is None or not verdict.silent:
            self.term.lease = None
            self.turns.plan(0.0)

    def _news(self) -> None:
        """The link reported something of itself."""
        facts = self.sight.link
        if facts is not None and facts.opened_at is not None:
            self.sight.restart = self.sight.init_since = None
            self.attempted.set()
        elif self.serving is not None and self.serving.shows_qr:
            self.sight.restart = self.sight.init_since = None
            self.attempted.set()
            if self.lease is not None and self._link is not None:
                self._wishes.codes.fetch(self.lease, self._link)
        self._poke()

    def take(self, moved: Moved) -> None:
        """Something was stored."""
        self.sight.take(moved)
        journal.moved(moved)
        self._poke()

    async def restart(self, restart: Restart, why: str, *, after: float = 0.0) -> None:
        """A timer wants a restart."""
        await self._wishes.restart(restart, why, after=after)

    async def _act_beside(self) -> None:
        with contextlib.suppress(StaleLeaseError, InstanceNotFoundError):
            await self._wishes.act()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    def _poke(self) -> None:
        self.deps.wakeup.notify(watch_topic(self.instance))

    # --- asked by its departure --------------------------------------------------------------------------------------

    async def end_task(self, patience: float) -> None:
        """Wait until the loop has ended, so many seconds; then end it."""
        self.turns.look_again()
        try:
            # Without a lease it only waits for one, and nothing is under way.
            await asyncio.wait_for(asyncio.shield(self._task), patience if self.lease is not None else 0.0)
        except TimeoutError:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            if self._link is not None:
                await self._link.close()
