"""The supervisor: one runner for each instance that is wanted, none for the rest.

It compares what the store says with what runs, on every hint (`instances`) and every few seconds. At start the
instances that were linked come back a few at a time (contract B.8): a slot is free again when its instance is ready
or its first attempt failed, and then rests for a random while, so that hundreds of accounts do not log in at the
same second. Instances that are created later start at once.

A crash of this loop ends the process: nothing would start or stop any more, and a restart is better than that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable

import structlog

from wahub.domain.ids import InstanceId
from wahub.domain.instance import Instance, State
from wahub.ports.wakeup import INSTANCES, deleted_topic
from wahub.runtime.deps import RuntimeDeps
from wahub.runtime.janitor import Janitor
from wahub.runtime.leaser import Leaser
from wahub.runtime.runner import Runner
from wahub.services import instance

log = structlog.get_logger("wahub.supervisor")

_LEFT_ALONE = frozenset({State.ERROR, State.FAILED_QR_TIMEOUT, State.RESTRICTED})
"""States that no restart ends: someone has to ask (contract B.1)."""


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
        self._waiting: set[InstanceId] = set()
        """Instances that the restore will start when their turn comes."""

    async def boot(self) -> None:
        """Before anyone may look: no link is up, and the store says so. `run` does it if nobody did."""
        now = self._deps.clock.now()
        self._found = await self._deps.database.write(lambda tx: instance.boot(tx, now))

    async def run(self) -> None:
        """Supervise until cancelled; call `stop` afterwards."""
        if self._found is None:
            await self.boot()
        found = self._found or []
        self._spawn(self._leaser.run())
        self._spawn(Janitor(self._deps).run())
        restoring = [known for known in found if known.observed.phone and not known.deleting]
        self._waiting = {known.id for known in restoring}
        self._spawn(self._restore(restoring))
        while True:
            await self._reconcile()
            await self._deps.wakeup.wait(INSTANCES, self._deps.settings.poll_every)

    async def stop(self) -> None:
        """Stop every runner, all at the same time."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._deleting.values(), return_exceptions=True)
        await asyncio.gather(*(runner.stop() for runner in self._runners.values()), return_exceptions=True)
        self._runners.clear()

    # --- what should run ---------------------------------------------------------------------------------------------

    async def _reconcile(self) -> None:
        known = {found.id: found for found in await self._deps.database.read(lambda tx: tx.instances.list())}
        for wanted in known.values():
            if wanted.deleting:
                self._start_delete(wanted.id)
            elif wanted.unlinking and wanted.id not in self._waiting:
                self._start_unlink(wanted.id)
            elif wanted.id not in self._runners and wanted.id not in self._waiting:
                self._start(wanted)
        for gone in [wanted for wanted in self._runners if wanted not in known and wanted not in self._deleting]:
            runner = self._runners.pop(gone)
            self._spawn(runner.stop())

    def _start(self, wanted: Instance) -> Runner | None:
        if (running := self._runners.get(wanted.id)) is not None:
            return running
        if wanted.observed.state in _LEFT_ALONE:
            return None
        runner = Runner(self._deps, self._leaser, wanted.id)
        self._runners[wanted.id] = runner
        return runner

    def _start_delete(self, wanted: InstanceId) -> None:
        # An unlinking that runs has the instance's link: the next round finds it done.
        if wanted not in self._deleting and wanted not in self._unlinking:
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
                runner = self._runners[wanted] = Runner(self._deps, self._leaser, wanted)
                await self._let_try(runner)
            await runner.unlink()
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
                runner = Runner(self._deps, self._leaser, wanted)
                await self._let_try(runner)
            await runner.delete()
            log.info("instance deleted", instance=wanted)
        except Exception as error:  # noqa: BLE001 - whatever it was, the mark stays and the next round tries again
            log.error("delete will be tried again", instance=wanted, error=type(error).__name__)
            if runner is not None:
                # Nobody owns it any more, and the next try opens a link of its own.
                await asyncio.gather(runner.stop(), return_exceptions=True)
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

    async def _restore(self, found: Iterable[Instance]) -> None:
        pending = list(found)
        total = len(pending)
        slots = asyncio.Semaphore(max(self._deps.settings.restore_concurrency, 1))
        await asyncio.gather(*(self._restore_one(known, slots) for known in pending))
        connected = sum(
            runner.connected for wanted, runner in self._runners.items() if any(known.id == wanted for known in pending)
        )
        self._on_restored(connected, total)

    async def _restore_one(self, known: Instance, slots: asyncio.Semaphore) -> None:
        async with slots:
            current = await self._deps.database.read(lambda tx: tx.instances.get(known.id))
            runner = None if current is None or current.deleting else self._start(current)
            self._waiting.discard(known.id)
            if runner is None:
                return
            try:
                await asyncio.wait_for(runner.attempted.wait(), self._deps.settings.restore_patience)
            except TimeoutError:
                log.warning("restore goes on without it", instance=known.id)
            low, high = self._deps.settings.restore_jitter
            await self._deps.clock.sleep(low + (high - low) * self._deps.random())

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
