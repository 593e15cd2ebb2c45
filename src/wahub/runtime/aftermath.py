"""What a runner does when something of its own failed: the store, the engine's process, or a bug.

Nobody may read `ready` then. The end of the link is kept until the store takes it; meanwhile the runner waits, longer
each time.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import structlog

from wahub.domain.instance import Disconnect, Stage
from wahub.ports.engine import Closed
from wahub.ports.wakeup import link_topic
from wahub.runtime.ending import Endings, Verdict
from wahub.runtime.reach import Reach

if TYPE_CHECKING:
    from wahub.runtime.runner import Runner

log = structlog.get_logger("wahub.runner")


class Aftermath:
    """Of one runner."""

    def __init__(self, runner: Runner, reach: Reach) -> None:
        self.failed: str | None = None
        """What failed on our own side at the last attempt: the name of the error."""
        self._runner = runner
        self._deps = runner.deps
        self._reach = reach
        self._unstored: tuple[Closed, Verdict | None] | None = None
        """The end of the last link, while the store would not take it."""
        self._failures = 0
        """How often in a row something of our own failed."""

    def __bool__(self) -> bool:
        """Whether there is an end that is not stored."""
        return self._unstored is not None

    def keep(self, closed: Closed, verdict: Verdict | None) -> None:
        """A link ended like this, and the store does not know."""
        self._unstored = closed, verdict

    def no_engine(self) -> None:
        """No link could be opened, because no engine process is up."""
        self.keep(Closed(Disconnect.ENGINE_DIED, None, "no engine process is up", Stage.UNREACHED), None)

    def forget(self) -> None:
        """The end of the last link is of no interest any more."""
        self._unstored = None

    def store_answers(self) -> None:
        """The beginning of the next link was stored."""
        self._failures = 0

    async def store(self) -> None:
        """Store the end that was kept, if there is one."""
        if self._unstored is None:
            return
        closed, verdict = self._unstored
        endings = Endings(self._deps, self._runner.term.held, self._runner.sight, self._reach)
        first = closed.reason is Disconnect.ENGINE_DIED and closed.stage is Stage.UNREACHED
        follows = await endings.note(closed, verdict, again=not first)
        self._unstored, self._failures = None, 0
        self._runner.plan(follows, verdict)

    async def sit_out(self, error: Exception) -> None:
        """Store the end of the link now, or wait longer each time."""
        runner = self._runner
        self.failed = type(error).__name__
        self._failures += 1
        # The trace once; a store that is gone for an hour fails thousands of times.
        log.error("runner will try again", instance=runner.instance, error=self.failed, exc_info=self._failures == 1)
        runner.attempted.set()
        if self._unstored is not None and runner.lease is not None:
            with contextlib.suppress(Exception):
                await self.store()
                return
        delay = self._deps.settings.reconnect.ladder.delay(self._failures, self._deps.random())
        if not runner.departure.stopping:
            await self._deps.wakeup.wait(link_topic(runner.instance), delay)
