"""The supervisor: one runner for each instance that is wanted, none for the rest.

It compares what the store says with what runs, on every hint (`instances`) and every few seconds. At start the
instances that were linked come back a few at a time (runtime/restore.py). Instances that are created later start at
once. What callers asked of an instance is handed to its runner; the runner says in the store that it took it up.

A crash of this loop ends the process: nothing would start or stop any more, and a restart is better than that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine

import structlog

from wahub.domain.ids import InstanceId
from wahub.domain.instance import AT_REST, Instance, State
from wahub.domain.lifecycle import Ask, Lifecycle
from wahub.domain.restore import RestoreItem, RestoreQueue
from wahub.ports.engine import Link
from wahub.ports.store import Tx
from wahub.ports.wakeup import INSTANCES, deleted_topic
from wahub.runtime.deps import RuntimeDeps
from wahub.runtime.janitor import Janitor
from wahub.runtime.leaser import Leaser
from wahub.runtime.reach import Reach
from wahub.runtime.restore import RESTORE, RETRY, Restore
from wahub.runtime.runner import Runner
from wahub.services import instance, lifecycle

log = structlog.get_logger("wahub.supervisor")

_ASKED_TOO_LONG_AGO = 600.0
"""Seconds after which a request for a restart or a code is void."""


def _look(tx: Tx) -> tuple[dict[InstanceId, Instance], list[Lifecycle]]:
    """Which instances there are, and of which something is asked."""
    return {found.id: found for found in tx.instances.list()}, [tx.lifecycles.get(one) for one in tx.lifecycles.asked()]


class Supervisor:
    """Starts and stops runners."""

    def __init__(self, deps: RuntimeDeps, on_restored: Callable[[int, int], None]) -> None:
        self._deps = deps
        self._leaser = Leaser(deps)
        self._runners: dict[InstanceId, Runner] = {}
        self._deleting: dict[InstanceId, asyncio.Task[None]] = {}
        self._unlinking: set[InstanceId] = set()
        self._on_restored = on_restored
        self._found: list[Instance] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._vital: list[asyncio.Task[None]] = []
        self._waiting: set[InstanceId] = set()
        """Instances that the restore will start when their turn comes."""
        self._handed: dict[InstanceId, float | None] = {}
        """When what was last handed to a runner had been asked for."""
        self._restore = Restore(deps, self._restore_one, self._give_up)
        settings = deps.settings
        self._reach = Reach(settings.reconnect.ladder, settings.return_gap, deps.random, self._hint)

    async def boot(self) -> int:
        """Before anyone may look: no link is up, the store says so, and the row shows who waits.

        `run` does it if nobody did. Returns how many instances there are.
        """
        now = self._deps.clock.now()
        self._found = await self._deps.database.write(lambda tx: instance.boot(tx, now))
        for known in self._found:
            if self._is_restored(known):
                self._restore.put(RESTORE, known.id)
        return len(self._found)

    async def run(self) -> None:
        """Supervise until cancelled; call `stop` afterwards."""
        if self._found is None:
            await self.boot()
        found = self._found or []
        self._must_run(self._leaser.run())
        self._must_run(Janitor(self._deps).run())
        restoring = [known.id for known in found if self._is_restored(known)]
        self._waiting = set(restoring)
        self._must_run(self._restore.run(restoring))
        self._spawn(self._tell_restored(restoring))
        while True:
            for task in self._vital:
                if task.done():
                    task.result()
            try:
                await self._reconcile()
            except Exception as error:  # noqa: BLE001 - any fault of the store
                # What runs goes on running; the next round finds what this one did not.
                log.error("instances will be looked at again", error=type(error).__name__)
            await self._deps.wakeup.wait(INSTANCES, self._deps.settings.poll_every)

    @staticmethod
    def _is_restored(known: Instance) -> bool:
        """Linked accounts come back in a row; one that sits out a pause is no work for the row."""
        waits = known.observed.state in (*AT_REST, State.PAUSED)
        return known.observed.linked and not known.deleting and not waits

    @property
    def restore_queue(self) -> RestoreQueue:
        """The row of instances that come back."""
        return self._restore.snapshot

    @property
    def open_links(self) -> dict[InstanceId, Link]:
        """The links that are open, by instance."""
        seen = {wanted: runner.sight.link for wanted, runner in self._runners.items()}
        return {
            wanted: facts.link for wanted, facts in seen.items() if facts is not None and facts.opened_at is not None
        }

    async def stop(self) -> None:
        """Stop every runner, all at the same time."""
        for task in (*self._tasks, *self._vital):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._vital, return_exceptions=True)
        runners = [runner.departure.stop() for runner in self._runners.values()]
        await asyncio.gather(*runners, self._end_deletes(), return_exceptions=True)
        self._runners.clear()

    async def _end_deletes(self) -> None:
        """Give deletes under way a moment; the mark of one that is not done survives."""
        deletes = set(self._deleting.values())
        if deletes:
            _, late = await asyncio.wait(deletes, timeout=self._deps.settings.delete_patience)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # --- what should run ---------------------------------------------------------------------------------------------

    async def _reconcile(self) -> None:
        known, asked = await self._deps.database.read(_look)
        for ended in [wanted for wanted, runner in self._runners.items() if runner.done]:
            # Its instance was gone for a moment, and was created anew.
            self._leaser.forget(ended, self._runners.pop(ended))
        for wanted in known.values():
            if wanted.deleting:
                self._start_delete(wanted.id)
            elif wanted.unlinking and wanted.id not in self._waiting:
                self._start_unlink(wanted.id)
            elif wanted.id in self._runners:
                self._runners[wanted.id].reconfigured(wanted.config)
            elif wanted.id not in self._waiting:
                self._start(wanted)
        for record in asked:
            if record.instance in known and not known[record.instance].deleting:
                self._hand(record)
        self._handed = {wanted: at for wanted, at in self._handed.items() if wanted in known}
        for gone in [wanted for wanted in self._runners if wanted not in known and wanted not in self._deleting]:
            runner = self._runners.pop(gone)
            self._spawn(runner.departure.stop())

    def _start(self, wanted: Instance) -> Runner | None:
        if (running := self._runners.get(wanted.id)) is not None:
            return running
        if wanted.observed.state in AT_REST:
            return None
        return self._add(wanted.id)

    def _add(self, wanted: InstanceId) -> Runner:
        runner = self._runners[wanted] = Runner(self._deps, self._leaser, self._reach, wanted)
        return runner

    def _hand(self, record: Lifecycle) -> None:
        """Hand what a caller asked for to the runner, once."""
        wanted = record.instance
        if self._handed.get(wanted) == record.asked_at or wanted in self._waiting:
            # Whoever waits for its turn in the row is told when it came.
            return
        self._handed[wanted] = record.asked_at
        if record.asked is not Ask.RETRY and self._deps.clock.now() - (record.asked_at or 0.0) > _ASKED_TOO_LONG_AGO:
            # Whoever asked has gone; a link that is well by now must not be broken for it.
            self._spawn(self._drop_ask(wanted))
            return
        if record.asked is Ask.RETRY:
            self._restore.put(RETRY, wanted)
            return
        runner = self._runners.get(wanted) or self._add(wanted)
        runner.ask(record)

    async def _drop_ask(self, wanted: InstanceId) -> None:
        with contextlib.suppress(Exception):
            await self._deps.database.write(lambda tx: lifecycle.drop_ask(tx, wanted))

    def _hint(self, wanted: InstanceId) -> None:
        runner = self._runners.get(wanted)
        if runner is not None:
            runner.turns.look_again()

    def _start_delete(self, wanted: InstanceId) -> None:
        # An unlinking that runs has the instance's link: the next round finds it done.
        if wanted not in self._deleting and wanted not in self._unlinking:
            self._restore.drop(wanted)
            self._waiting.discard(wanted)
            self._deleting[wanted] = asyncio.create_task(self._delete(wanted), name=f"delete:{wanted}")

    def _start_unlink(self, wanted: InstanceId) -> None:
        if wanted not in self._unlinking:
            self._unlinking.add(wanted)
            self._spawn(self._unlink(wanted))

    async def _unlink(self, wanted: InstanceId) -> None:
        try:
            if not await self._still(wanted, lambda found: found.unlinking):
                return
            runner = self._runners.get(wanted)
            if runner is None:
                # It runs like any other from here on: afterwards it waits for a scan.
                runner = self._add(wanted)
                await self._let_try(runner)
            await runner.departure.unlink()
            log.info("instance unlinked, queue kept", instance=wanted)
        except Exception as error:  # noqa: BLE001 - whatever it was, the mark stays and the next round tries again
            log.error("unlink will be tried again", instance=wanted, error=type(error).__name__)
        finally:
            self._unlinking.discard(wanted)
            self._deps.wakeup.notify(deleted_topic(wanted))

    async def _delete(self, wanted: InstanceId) -> None:
        runner = self._runners.pop(wanted, None)
        try:
            if runner is None:
                if not await self._still(wanted, lambda found: found.deleting):
                    return
                runner = Runner(self._deps, self._leaser, self._reach, wanted)
                await self._let_try(runner)
            await runner.departure.delete()
            log.info("instance deleted", instance=wanted)
        except Exception as error:  # noqa: BLE001 - whatever it was, the mark stays and the next round tries again
            log.error("delete will be tried again", instance=wanted, error=type(error).__name__)
            if runner is not None:
                # Nobody owns it any more, and the next try opens a link of its own.
                await asyncio.gather(runner.departure.stop(), return_exceptions=True)
        finally:
            self._deleting.pop(wanted, None)
            self._deps.wakeup.notify(deleted_topic(wanted))

    async def _still(self, wanted: InstanceId, asked: Callable[[Instance], bool]) -> bool:
        """Whether it is still asked for.

        The round that started us may have read the store before the same work was done; meanwhile a caller may have
        created the instance anew.
        """
        found = await self._deps.database.read(lambda tx: tx.instances.get(wanted))
        return found is not None and asked(found)

    async def _let_try(self, runner: Runner) -> None:
        """Unlinking at the server needs a link: give a runner that was just made the time to get one."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(runner.attempted.wait(), self._deps.settings.delete_patience)

    # --- start-up ----------------------------------------------------------------------------------------------------

    async def _tell_restored(self, first: list[InstanceId]) -> None:
        await self._restore.first_round_over.wait()
        connected = sum(runner.connected for runner in map(self._runners.get, first) if runner is not None)
        self._on_restored(connected, len(first))

    async def _restore_one(self, item: RestoreItem) -> str | None:
        """Start it and wait until it was attempted; the name of what failed on our side, or None."""
        current, record = await self._deps.database.read(
            lambda tx: (tx.instances.get(item.instance), tx.lifecycles.get(item.instance))
        )
        self._waiting.discard(item.instance)
        if current is None or current.deleting:
            return None
        if item.kind == RETRY:
            runner = self._runners.get(item.instance) or self._add(item.instance)
            runner.ask(record)
            return None
        started = self._start(current)
        if started is None:
            return None
        await self._attempted(started)
        if not started.attempted.is_set():
            log.warning("restore goes on without it", instance=item.instance)
        if started.aftermath.failed is None:
            return None
        # What is left of the failed attempt goes before the next one; nothing is purged.
        failed = started.aftermath.failed
        self._waiting.add(item.instance)
        self._runners.pop(item.instance, None)
        await started.departure.stop()
        return failed

    async def _attempted(self, runner: Runner) -> None:
        """Wait until the runner's first attempt is over, or for as long as one place of the row may wait."""
        patience = asyncio.ensure_future(self._deps.clock.sleep(self._deps.settings.restore.patience))
        attempted = asyncio.ensure_future(runner.attempted.wait())
        try:
            await asyncio.wait((patience, attempted), return_when=asyncio.FIRST_COMPLETED)
        finally:
            patience.cancel()
            attempted.cancel()

    async def _give_up(self, wanted: InstanceId, text: str) -> None:
        runner = self._add(wanted)
        try:
            await runner.departure.give_up(text)
            self._waiting.discard(wanted)
        finally:
            self._runners.pop(wanted, None)
            await runner.departure.stop()

    def _must_run(self, work: Coroutine[None, None, None]) -> None:
        """A loop whose end would leave the worker half alive: then it ends as a whole."""
        self._vital.append(asyncio.create_task(work))
        self._vital[-1].add_done_callback(lambda _done: self._deps.wakeup.notify(INSTANCES))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
