"""The Baileys engine: side processes, and which link lives in which.

Each process has a number, a lock and a pid file, and room for `instances_per_engine` links. Number 1 always runs;
others are started when the room is used up and end when their last link is gone for a while. A process that dies
takes its links with it: each reports `Closed(ENGINE_DIED)`, sends under way become uncertain, and the process is
started again with a backoff. Links are not opened again here: that is the runtime's decision.

A process whose memory grows past its share (source: spec/sandbox.md §3, Node and Baileys leak slowly) is replaced at a
moment when none of its links has a send under way; those links report `Closed(RECYCLED)`.

A crash of the gateway ends the processes (their input ends). A new gateway waits for their locks before it opens
any link, whatever numbers they had, because an instance may move between processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import replace

from wahub.adapters.engines.baileys import run_files, wire
from wahub.adapters.engines.baileys.allowance import Allowance
from wahub.adapters.engines.baileys.link import BaileysLink
from wahub.adapters.engines.baileys.process import EngineProcess
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.domain.errors import EngineDownError
from wahub.domain.ids import InstanceId
from wahub.domain.session import CREDS
from wahub.ports.engine import KeyVault, LinkSpec

log = logging.getLogger(__name__)

_BACKOFF_FIRST = 0.2
_BACKOFF_MOST = 10.0
_STEADY_SECONDS = 10.0
_UP_SECONDS = 5.0
_IDLE_SECONDS = 30.0


class _Slot:
    """A number, the process that has it now, and the links in it."""

    def __init__(self, number: int, allowance: Allowance) -> None:
        self.number = number
        self.allowance = allowance
        self.process: EngineProcess | None = None
        self.links: dict[int, BaileysLink] = {}
        self.reserved = 0
        self.up = asyncio.Event()
        self.first_try, self.second_try = _attempt(), _attempt()
        self.task: asyncio.Task[None] | None = None
        self.empty_since: float | None = None
        self.recycling = False
        """The process is being replaced on purpose."""

    def came_up(self) -> None:
        for attempt in (self.first_try, self.second_try):
            if not attempt.done():
                attempt.set_result(None)

    def failed(self, error: EngineDownError) -> None:
        attempt = self.second_try if self.first_try.done() else self.first_try
        if not attempt.done():
            attempt.set_exception(error)

    @property
    def sending(self) -> bool:
        """Whether a send is under way."""
        return any(link.sending for link in self.links.values())

    @property
    def load(self) -> int:
        return len(self.links) + self.reserved

    def take(self, frame: wire.AboutLink) -> None:
        """Hand a frame to its link, and forget the link with its last frame."""
        link = self.links.get(frame.link)
        if link is not None:
            try:
                link.handle(frame)
            except Exception as error:  # noqa: BLE001 - the trouble of one link must not reach the others' process
                log.error("A frame failed its link: %s", type(error).__name__)
                link.fail()
            if link.closed:
                self.drop(link)

    def take_vitals(self, row: wire.VitalsRow, monotonic: Callable[[float], float]) -> None:
        """Hand a link its signs of life."""
        link = self.links.get(row[0])
        if link is not None:
            link.take_vitals(row, monotonic)

    def drop(self, link: BaileysLink) -> None:
        self.links.pop(link.number, None)
        if not self.links:
            self.empty_since = time.monotonic()

    def lose_links(self) -> None:
        """The process died, or was replaced."""
        links, self.links = list(self.links.values()), {}
        for link in links:
            if self.recycling:
                link.end_with_recycling()
            else:
                link.end_with_engine(f"engine process {self.number} died")
        self.recycling = False


class BaileysEngine:
    """Makes links; see `ports.engine.Engine`."""

    def __init__(self, settings: BaileysSettings) -> None:
        self._settings = settings
        self._slots: dict[int, _Slot] = {}
        self._next_link = 1
        self._by_instance: dict[InstanceId, BaileysLink] = {}
        self._stopping = False
        self._janitor: asyncio.Task[None] | None = None

    # --- the port --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Wait until no process of an earlier gateway lives, then start the first. EngineDownError if it cannot."""
        settings = self._settings
        settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings.spool_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        held = await run_files.wait_for_predecessors(settings.run_dir, settings.lock_timeout)
        if held is not None:
            raise EngineDownError(
                f"An engine process of an earlier start still runs and holds {held}; "
                f"its pid is in {held.with_suffix('.pid').name}: end it"
            )
        slot = self._add_slot()
        try:
            await asyncio.shield(slot.first_try)
        except EngineDownError:
            # It may have been killed; one that cannot run fails again. How long that takes, a busy machine decides.
            try:
                await asyncio.shield(slot.second_try)
            except EngineDownError:
                await self.stop()
                raise
        self._janitor = asyncio.create_task(self._look_after())

    async def open(self, spec: LinkSpec, vault: KeyVault) -> BaileysLink:
        """A new link that connects in the background. EngineDownError when no process is up."""
        if self._stopping:
            raise EngineDownError("The engine is stopping")
        older = self._by_instance.get(spec.instance)
        if older is not None:
            await older.close()
        slot = self._room()
        slot.reserved += 1
        try:
            creds = (await vault.read([CREDS])).get(CREDS)
            process = await self._up(slot)
            link = BaileysLink(self._next_link, spec, vault, process.send, process.clock)
            self._next_link += 1
            slot.links[link.number] = link
            self._by_instance[spec.instance] = link
            link.start(creds)
            return link
        finally:
            slot.reserved -= 1

    async def forget(self, instance: InstanceId) -> None:
        """Remove the spool of an instance. Its links must be closed."""
        await asyncio.to_thread(shutil.rmtree, self._settings.spool_dir / instance, ignore_errors=True)

    async def stop(self) -> None:
        """Close all links and end the processes. Stopping twice is fine."""
        self._stopping = True
        if self._janitor is not None:
            self._janitor.cancel()
        links = [link for slot in self._slots.values() for link in slot.links.values()]
        await asyncio.gather(*(link.close() for link in links))
        await asyncio.gather(*(self._end_slot(slot) for slot in list(self._slots.values())))

    @property
    def healthy(self) -> bool:
        """Whether a process is up and answers."""
        freshest = max((slot.process.answered_at for slot in self._slots.values() if slot.process), default=0.0)
        return bool(freshest) and time.monotonic() - freshest < self._settings.silence_timeout

    @property
    def pids(self) -> list[int]:
        """The processes that run now, for diagnostics."""
        return [slot.process.pid for slot in self._slots.values() if slot.process and slot.process.pid]

    @property
    def vitals(self) -> list[wire.Pong]:
        """What the processes last said of themselves, a few seconds old, for diagnostics and metrics."""
        return [slot.process.vitals for slot in self._slots.values() if slot.process and slot.process.vitals]

    # --- processes -------------------------------------------------------------------------------------------------

    def _room(self) -> _Slot:
        """The process with a free place and the lowest number, or a new one."""
        for number in sorted(self._slots):
            slot = self._slots[number]
            if slot.load < self._settings.instances_per_engine:
                return slot
        return self._add_slot()

    def _add_slot(self) -> _Slot:
        number = next(number for number in range(1, len(self._slots) + 2) if number not in self._slots)
        settings = self._settings
        slot = _Slot(number, Allowance(settings.most_memory_mb, settings.most_memory_per_link_mb))
        self._slots[number] = slot
        slot.task = asyncio.create_task(self._keep_up(slot), name=f"engine-{number}")
        return slot

    async def _keep_up(self, slot: _Slot) -> None:
        backoff = _BACKOFF_FIRST
        while True:
            process = EngineProcess(slot.number, self._settings, slot.take, slot.take_vitals)
            started = time.monotonic()
            try:
                await self._run_once(slot, process)
            except EngineDownError as error:
                slot.failed(error)
                log.error("%s", error)
            if time.monotonic() - started > _STEADY_SECONDS:
                backoff = _BACKOFF_FIRST
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, _BACKOFF_MOST)

    async def _run_once(self, slot: _Slot, process: EngineProcess) -> None:
        """From its start to its death; cancelled, it is ended in order."""
        try:
            await process.start()
            slot.process = process
            slot.empty_since = time.monotonic()
            slot.up.set()
            slot.came_up()
            await process.dead.wait()
            if slot.recycling:
                log.info("Engine process %d is replaced: its memory had grown", slot.number)
            else:
                log.error("Engine process %d (pid %s) died with %d links", slot.number, process.pid, len(slot.links))
            # A fault point strikes once; the process that replaces its victim must work.
            self._settings = replace(self._settings, fault=None)
        except asyncio.CancelledError:
            await process.stop()
            raise
        finally:
            slot.up.clear()
            slot.process = None
            slot.lose_links()

    async def _up(self, slot: _Slot) -> EngineProcess:
        if not slot.first_try.done():
            await asyncio.shield(slot.first_try)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(slot.up.wait(), _UP_SECONDS)
        if slot.process is None or not slot.process.alive:
            raise EngineDownError(f"Engine process {slot.number} is not running")
        return slot.process

    async def _end_slot(self, slot: _Slot) -> None:
        self._slots.pop(slot.number, None)
        if slot.task is not None:
            slot.task.cancel()
            await asyncio.wait([slot.task])

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(self._settings.look_after_every)
            self._forget_closed()
            for slot in list(self._slots.values()):
                since = slot.empty_since
                if slot.number != 1 and slot.load == 0 and since and time.monotonic() - since > _IDLE_SECONDS:
                    await self._end_slot(slot)
                elif self._has_swollen(slot) and not slot.sending:
                    await self._recycle(slot)

    def _has_swollen(self, slot: _Slot) -> bool:
        vitals = slot.process.vitals if slot.process is not None else None
        if vitals is None or slot.recycling:
            return False
        return not slot.allowance.allows(vitals.rss, slot.load, time.monotonic())

    async def _recycle(self, slot: _Slot) -> None:
        process = slot.process
        if process is not None:
            slot.recycling = True
            await process.stop()

    def _forget_closed(self) -> None:
        for instance in [instance for instance, link in self._by_instance.items() if link.closed]:
            del self._by_instance[instance]


def _attempt() -> asyncio.Future[None]:
    """How a start went; nobody has to ask."""
    attempt: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    attempt.add_done_callback(_ignore_result)
    return attempt


def _ignore_result(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()
