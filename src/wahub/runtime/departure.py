"""How a runner ends, and how its account is unlinked: stop, give up, delete, log out.

Promise: the item on the wire is finished or its fate is unknown; the socket is closed before anything is removed; an
account is unlinked at the server if that can be done in a few seconds, also when it is at rest and has no link.

A crash in the middle of a delete or of an unlinking leaves its mark in the store: the next start does it again.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from wahub.domain.instance import Disconnect, State
from wahub.domain.lifecycle import IncidentKind
from wahub.ports.engine import Link
from wahub.ports.wakeup import WEBHOOKS
from wahub.runtime import journal
from wahub.runtime.ending import Verdict
from wahub.runtime.serving import Serving
from wahub.services import instance, lifecycle

if TYPE_CHECKING:
    from wahub.runtime.runner import Runner

_BY_CALLER = Verdict(Disconnect.LOGGED_OUT, "logged out by a caller", silent=True)
_TASK_PATIENCE = 10.0


class Departure:
    """The endings of one runner."""

    def __init__(self, runner: Runner) -> None:
        self.stopping = False
        self.logs_out = False
        """A link that is opened now is for unlinking only."""
        self.may_link = asyncio.Event()
        """Cleared while the account is unlinked: no other link may be opened, neither with its old credentials, nor
        with new ones that the unlinking would purge."""
        self.may_link.set()
        self.unlinks = 0
        """How often the account was unlinked: a link that was being opened meanwhile has the credentials of before."""
        self._runner = runner
        self._deps = runner.deps
        self._farewell: asyncio.Event | None = None
        """Set when the link that is opened for unlinking only has ended."""

    # --- asked by others ---------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Finish the item on the wire, close the link, give the lease up."""
        self.stopping = True
        await self._end_link(self._deps.settings.stop_patience, logout=False)
        await self._runner.end_task(_TASK_PATIENCE)
        await self._runner.term.release()

    async def give_up(self, text: str) -> None:
        """It could not be started again and again: state `error`, and nothing more runs."""
        self.stopping = True
        lease = await self._runner.term.hold()
        now, event_id, kind = self._deps.clock.now(), self._deps.new_id(), IncidentKind.RESTORE_FAILED
        journal.moved(
            await self._deps.database.write(lambda tx: lifecycle.failed(tx, lease, kind, text, now, event_id))
        )
        self._deps.wakeup.notify(WEBHOOKS)
        await self.stop()

    async def delete(self) -> None:
        """Unlink at the server, close, and remove everything of the instance (contract 0.13)."""
        deps, runner = self._deps, self._runner
        await self._stop_sender(deps.settings.delete_patience)
        lease = await runner.term.hold()
        known, cancelled = await deps.database.write(lambda tx: instance.prepare_delete(tx, lease, deps.clock.now()))
        await self._link_to_unlink()
        self.stopping = self.logs_out = True
        if runner.serving is not None:
            # The farewell says it all; another event might overtake it.
            runner.serving.verdict = _BY_CALLER
        await self._end_link(deps.settings.delete_patience, logout=True)
        await runner.end_task(_TASK_PATIENCE)
        await deps.engine.forget(runner.instance)
        await deps.forget_files(runner.instance)
        if known is not None:
            await deps.farewell(known, cancelled)
        while await deps.database.write(lambda tx: instance.shed(tx, lease)):
            pass
        await deps.database.write(lambda tx: instance.finish_delete(tx, lease, deps.clock.now()))
        runner.term.forget()

    async def unlink(self) -> None:
        """Log out at the server and wait for a new scan; the queue stays (contract 0.13, `keep=1`)."""
        runner = self._runner
        lease = runner.term.held
        await self._link_to_unlink()
        # The loop must not open the next link before the credentials of this one are gone.
        self.may_link.clear()
        self.unlinks += 1
        try:
            if runner.serving is not None:
                runner.serving.verdict = _BY_CALLER
            await self._end_link(self._deps.settings.delete_patience, logout=True)
            now, event_id = self._deps.clock.now(), self._deps.new_id()
            runner.take(await self._deps.database.write(lambda tx: lifecycle.unlinked(tx, lease, now, event_id)))
            runner.aftermath.forget()
            runner.turns.open_after(0.0)
        finally:
            self.logs_out = False
            self.may_link.set()
        self._deps.wakeup.notify(WEBHOOKS)
        runner.turns.look_again()

    # --- asked by the loop -------------------------------------------------------------------------------------------

    async def begin(self, serving: Serving) -> None:
        """A link was just opened: end it, if that is all it is for, or if nobody wants it any more."""
        if self.logs_out:
            serving.verdict = _BY_CALLER
            self._runner.turns.plan(None)
        if self.stopping or self.logs_out:
            serving.no_more_sends()
            await (serving.link.logout() if self.logs_out else serving.link.close())

    async def undo(self, link: Link) -> None:
        """The account was unlinked while this link was being opened with its old credentials."""
        lease = self._runner.term.held
        await link.logout()
        await link.close()
        await self._deps.database.write(lambda tx: lifecycle.purge_again(tx, lease))
        self._runner.turns.plan(0.0)

    def ended(self) -> None:
        """A link has ended."""
        if self._farewell is not None:
            self._farewell.set()

    # --- steps -------------------------------------------------------------------------------------------------------

    async def _link_to_unlink(self) -> None:
        """An account at rest has no link, and WhatsApp must be told over one: open it for that, and for nothing else.

        Not where WhatsApp refuses the account: there an attempt does harm, and changes nothing.
        """
        runner, seen = self._runner, self._runner.sight.observed
        if runner.serving is not None or runner.lease is None or not seen.linked or seen.state is State.RESTRICTED:
            return
        self.logs_out, self._farewell = True, asyncio.Event()
        runner.turns.open_after(0.0)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._farewell.wait(), self._deps.settings.delete_patience)
        self._farewell = None

    async def _stop_sender(self, patience: float) -> None:
        serving = self._runner.serving
        if serving is not None:
            serving.no_more_sends()
            await serving.stop_sender(patience)

    async def _end_link(self, patience: float, *, logout: bool) -> None:
        await self._stop_sender(patience)
        facts = self._runner.sight.link
        if facts is None:
            return
        if logout:
            await facts.link.logout()
        await facts.link.close()
