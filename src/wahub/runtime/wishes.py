"""What callers ask of a runner: a restart, a retry, a pairing code.

A wish stays in the store until the transaction that acts on it; one that cannot be acted on now is tried again, and one
whose worker died is found by the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from wahub.domain.errors import InstanceNotFoundError, StaleLeaseError
from wahub.domain.instance import Disconnect
from wahub.domain.lifecycle import Ask, Lifecycle
from wahub.domain.watchdog import Restart
from wahub.runtime.ending import Verdict
from wahub.runtime.pairing import PairingCodes
from wahub.services import lifecycle

if TYPE_CHECKING:
    from wahub.runtime.runner import Runner

log = structlog.get_logger("wahub.runner")

_AGAIN_AFTER = 2.0


class Wishes:
    """The wishes that one runner was told and has not acted on."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._deps = runner.deps
        self._told: list[Lifecycle] = []
        self.codes = PairingCodes(runner.deps, runner.instance, self._renew_codes)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._told)

    def add(self, record: Lifecycle) -> None:
        """A caller asked for something."""
        self._told.append(record)

    async def act(self) -> None:
        """Act on all of them."""
        while self._told:
            record = self._told.pop(0)
            try:
                await self._act_on(record)
            except StaleLeaseError:
                # It is acted on under the next term.
                self._told.insert(0, record)
                raise
            except InstanceNotFoundError:
                raise
            except Exception as error:  # noqa: BLE001 - any fault of the store
                log.error("a request will be tried again", instance=record.instance, error=type(error).__name__)
                await self._deps.clock.sleep(_AGAIN_AFTER)
                self._told.append(record)

    async def _act_on(self, record: Lifecycle) -> None:
        match record.asked:
            case Ask.SOFT_RESTART | Ask.HARD_RESTART:
                hard = record.asked is Ask.HARD_RESTART
                restart = Restart(hard=hard, since=self._deps.clock.monotonic(), asked=True)
                await self.restart(restart, "asked to restart")
            case Ask.RETRY:
                await self._retry()
            case Ask.PAIRING_CODE:
                await self._code(record)
            case None:
                pass

    async def restart(self, restart: Restart, why: str, *, after: float = 0.0) -> None:
        """Close the link, if there is one, and open another after so many seconds; hard: under a new lease term."""
        runner = self._runner
        lease, now = runner.term.held, self._deps.clock.now()
        moved = await self._deps.database.write(lambda tx: lifecycle.restart(tx, lease, now, why, asked=restart.asked))
        runner.sight.restart = restart
        runner.take(moved)
        runner.turns.open_after(after, new_term=restart.hard)
        await runner.end_link(Verdict(Disconnect.RECYCLED, why, silent=True), self._deps.settings.delete_patience)

    async def _retry(self) -> None:
        runner = self._runner
        lease, now = runner.term.held, self._deps.clock.now()
        runner.take(await self._deps.database.write(lambda tx: lifecycle.retry(tx, lease, now)))
        runner.begin_setup()
        runner.turns.open_after(0.0)

    async def _code(self, record: Lifecycle) -> None:
        runner = self._runner
        lease, now = runner.term.held, self._deps.clock.now()
        self.codes.want(record.pairing_phone or "")
        serving = runner.serving
        if serving is None:
            runner.sight.record = await self._deps.database.write(lambda tx: lifecycle.begin_pairing(tx, lease, now))
            runner.turns.open_after(0.0)
        elif serving.shows_qr:
            self.codes.fetch(lease, serving.link)
        # Else its next code of the other kind says that the link is ready for it.

    async def _renew_codes(self) -> None:
        """A new round of codes, because the running one is nearly over."""
        self._runner.turns.open_after(0.0)
        await self._runner.end_link(Verdict(Disconnect.RECYCLED, "a fresh pairing code is wanted", silent=True))
