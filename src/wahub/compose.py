"""Names the adapters, and puts the gateway together from the settings (mapping.py) and runs it.

`serve` reads aloud: prepare, start, serve, stop. Its stdout carries JSON lines only (contract 0.11); everything else
goes to stderr. One routine stops it, whatever the reason (contract F.6), and stopping takes less than 30 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import socket
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI

from wahub import __version__, collector, faults, mapping, telemetry
from wahub.adapters.disk_blobs import DiskBlobs
from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.install import InstalledEngine, ensure_installed
from wahub.adapters.http_poster import HttpPoster
from wahub.adapters.local_wakeup import LocalWakeup
from wahub.adapters.sql.database import open_database
from wahub.adapters.sql.failure import StoreFailedError
from wahub.adapters.system_clock import SystemClock
from wahub.api.app import build_api
from wahub.api.deps import ApiDeps
from wahub.config import Settings
from wahub.domain.ids import InstanceId
from wahub.loop_lag import LoopLag
from wahub.machine import free_memory_mb, memory_limit
from wahub.ports.store import Database
from wahub.process import StopSignals, announce, listen, pid_file, prepare_data_directory, url_of, write_atomically
from wahub.runtime.deps import RuntimeDeps
from wahub.runtime.dispatcher import Dispatcher
from wahub.runtime.media import Media, MediaDeps
from wahub.runtime.supervisor import Supervisor

log = structlog.get_logger("wahub")
_events = structlog.get_logger("wahub.events")

_IDLE_SECONDS = 75
"""For so long a caller's connection is kept while nothing is asked over it. Longer than callers and reverse proxies
keep theirs (5 to 60 s by default): if both ended it at the same moment, a message could be handed in over a connection
that is just being closed, and its sender would not know whether it was taken."""

STOP_WITHIN = 28.0
"""Seconds a clean stop may take in all; the contract says 30 (F.6)."""


def serve(settings: Settings) -> int:
    """Run the gateway until a signal; returns the exit code.

    Raises StoreBusyError and EngineMissingError before anything is printed; the command line turns them into exit
    codes.
    """
    telemetry.configure(settings.log_level)
    for warning in settings.warnings:
        log.warning(warning)
    installed = ensure_installed(settings.cache_dir, log.info, node=settings.node)
    try:
        prepare_data_directory(settings.data_dir)
        listener = listen(settings.host, settings.port)
        clock = SystemClock(settings.clock_shift)
        database = open_database(settings.database_url, clock)
    except (OSError, ValueError, StoreFailedError) as error:
        log.error("the gateway cannot start", reason=str(error))
        return 1

    async def run() -> int:
        return await Gateway(settings, installed, listener, database, clock).run()

    with (
        pid_file(settings.data_dir / "run" / "gateway.pid"),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop,
    ):
        return loop.run(run())


class Gateway:
    """One gateway process. Made inside its event loop."""

    def __init__(
        self,
        settings: Settings,
        installed: InstalledEngine,
        listener: socket.socket,
        database: Database,
        clock: SystemClock,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._database = database
        self._clock = clock
        self._wakeup = LocalWakeup(clock)
        self._fault = faults.killer(settings.fault)
        self._engine = BaileysEngine(mapping.baileys_settings(settings, installed))
        webhooks = mapping.webhook_settings(settings)
        self._poster = HttpPoster(webhooks.timeout, block_private=webhooks.block_private)
        self._dispatcher = Dispatcher(database, self._poster, clock, self._wakeup, webhooks)
        self._blobs = DiskBlobs(settings.data_dir / "media")
        self._supervisor = Supervisor(self._runtime_deps(), self._restored)
        self._media = Media(self._media_deps())
        self._lag = LoopLag()
        self._server = _Server(self._api())
        self._stop = StopSignals()

    async def run(self) -> int:
        """Serve until a signal (0) or until a part of it ends that must not end (1)."""
        self._stop.install()
        found = await self._supervisor.boot()
        collector.when_loaded()
        _events.info(
            "process_start", pid=os.getpid(), memoryLimit=memory_limit(), instanceCount=found, execMode="single"
        )
        http = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="http")
        await self._server.listening.wait()
        line = announce("listening", url=url_of(self._listener), pid=os.getpid(), version=__version__)
        # For `wahub outbox`, which asks the gateway that runs on this data.
        write_atomically(self._address_file, line + "\n")
        if self._settings.ready_file is not None:
            write_atomically(self._settings.ready_file, line + "\n")
        loops = [http, *(asyncio.create_task(work, name=name) for name, work in self._loops())]
        heartbeat = asyncio.create_task(self._lag.run(), name="heartbeat")
        code = await self._until_stopped(loops)
        heartbeat.cancel()
        self._address_file.unlink(missing_ok=True)
        await self._shut_down(loops)
        announce("stopped")
        return code

    @property
    def _address_file(self) -> Path:
        return self._settings.data_dir / "run" / "gateway.json"

    def _loops(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        yield "dispatcher", self._dispatcher.run()
        yield "media", self._media.run()
        yield "supervisor", self._supervise()

    async def _supervise(self) -> None:
        await self._engine.start()
        await self._supervisor.run()

    async def _until_stopped(self, loops: list[asyncio.Task[None]]) -> int:
        asked = asyncio.create_task(self._stop.asked.wait())
        done, _ = await asyncio.wait([asked, *loops], return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        ended = [task for task in done if task is not asked]
        for task in ended:
            error = None if task.cancelled() else task.exception()
            log.error("a part of the gateway ended", part=task.get_name(), exc_info=error)
        return 1 if ended else 0

    async def _shut_down(self, loops: list[asyncio.Task[None]]) -> None:
        """Stop accepting, finish the items on the wire, close the links, flush, close the store."""
        log.info("stopping")
        self._server.should_exit = True
        http, dispatcher, media, supervisor = loops
        try:
            async with asyncio.timeout(STOP_WITHIN):
                await asyncio.gather(http, return_exceptions=True)
                media.cancel()
                supervisor.cancel()
                await asyncio.gather(media, supervisor, return_exceptions=True)
                await self._media.stop()
                await self._supervisor.stop()
                await self._engine.stop()
                await self._dispatcher.stop()
                await asyncio.gather(dispatcher, return_exceptions=True)
                await self._poster.close()
                await self._database.close()
        except TimeoutError:
            # Everything that matters is on disk already; the engine ends with our end of its pipe.
            log.warning("the stop took too long and was cut short")

    def _restored(self, connected: int, total: int) -> None:
        log.info("Boot sequence complete: %d/%d accounts connected", connected, total)
        announce("restored", connected=connected, total=total)

    def _runtime_deps(self) -> RuntimeDeps:
        return RuntimeDeps(
            database=self._database,
            engine=self._engine,
            clock=self._clock,
            wakeup=self._wakeup,
            settings=mapping.runtime_settings(self._settings),
            new_id=lambda: secrets.token_hex(16),
            random=random.random,
            farewell=self._dispatcher.farewell,
            forget_files=self._forget_files,
            free_memory_mb=free_memory_mb,
            fault=self._fault,
        )

    async def _forget_files(self, instance: InstanceId) -> None:
        await asyncio.to_thread(self._blobs.forget, instance)

    def _media_deps(self) -> MediaDeps:
        return MediaDeps(
            database=self._database,
            clock=self._clock,
            wakeup=self._wakeup,
            blobs=self._blobs,
            links=lambda: self._supervisor.open_links,
            settings=mapping.media_settings(self._settings),
        )

    def _api(self) -> FastAPI:
        return build_api(
            ApiDeps(
                database=self._database,
                clock=self._clock,
                wakeup=self._wakeup,
                settings=mapping.api_settings(self._settings),
                engine_healthy=lambda: self._engine.healthy,
                engine_processes=lambda: len(self._engine.pids),
                engine_heap_bytes=lambda: sum(seen.heap for seen in self._engine.vitals),
                engine_handles=lambda: sum(seen.handles for seen in self._engine.vitals),
                loop_lag_ms=lambda: self._lag.worst_ms,
                restore_queue=lambda: self._supervisor.restore_queue,
                post_test=self._dispatcher.test,
                get_media=self._media.get,
                stopping=lambda: self._server.should_exit,
                fault=self._fault,
            )
        )


class _Server(uvicorn.Server):
    """uvicorn inside our loop: it leaves signals to us and says when it listens."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=5,
                timeout_keep_alive=_IDLE_SECONDS,
            )
        )
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()
