"""One side process: its start, its pipes, its death.

Frames go in through its standard input and come out through an inherited pipe of its own, because libraries print
to standard output. Nothing here blocks: writes are queued (`_MAX_QUEUED_BYTES`, then the process counts as stuck),
reads are cut into frames as they come.

Promised: `dead` is set once, after every frame the process wrote has been handed on, and when it is
set the process is gone (killed if need be) and its lock free. A crash of the gateway ends the process too: its
input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import cast

from wahub.adapters.engines.baileys import framing, run_files, wire
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.domain.errors import EngineDownError

log = logging.getLogger(__name__)

_MAX_QUEUED_BYTES = 16 * 1024 * 1024
_PING_SECONDS = 5.0
_END_SECONDS = 2.0
_LAST_LINES = 5
_LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "debug": logging.DEBUG}
_SECRETIVE = re.compile(r"[A-Za-z0-9+/=_-]{24,}|\d{5,}")


class EngineProcess:
    """A running side process. `start` brings it up, `dead` tells when it is gone."""

    def __init__(
        self,
        number: int,
        settings: BaileysSettings,
        on_frame: Callable[[wire.AboutLink], None],
        on_vitals: Callable[[wire.VitalsRow, Callable[[float], float]], None] = lambda _row, _clock: None,
    ) -> None:
        self.number = number
        self.pid: int | None = None
        self.alive = False
        """Between the end of the handshake and the notice of death."""
        self.answered_at = 0.0
        self.vitals: wire.Pong | None = None
        """What it last said of itself."""
        self._settings = settings
        self._on_frame = on_frame
        self._on_vitals = on_vitals
        self._transport: asyncio.SubprocessTransport | None = None
        self._input: asyncio.WriteTransport | None = None
        self._outgoing: list[bytes] = []
        self._greeting: asyncio.Future[wire.Ready | wire.HelloOk] | None = None
        self._pong: asyncio.Future[int] | None = None
        self._clock_offset = 0.0
        self._most_offset = 0.0
        """At least the true offset, as `_clock_offset` is at most."""
        self._asked_at = 0.0
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._reading = False
        self._frames_ended = asyncio.Event()
        self._exited = asyncio.Event()
        self.dead = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # --- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Spawn it and exchange greetings. EngineDownError with the reason when it does not come up."""
        try:
            async with asyncio.timeout(self._settings.start_timeout):
                await self._spawn()
                await self._greet()
        except TimeoutError:
            raise await self._stillborn("did not answer in time") from None
        except (OSError, EngineDownError) as error:
            raise await self._stillborn(str(error)) from error
        except BaseException:
            await self.kill()
            self._forget_pid()
            raise
        self.alive = True
        self.answered_at = time.monotonic()
        self._tasks = [asyncio.create_task(self._watch_silence()), asyncio.create_task(self._watch_end())]

    async def stop(self) -> None:
        """End its input and wait; kill it if it stays."""
        if self._transport is not None and not self._exited.is_set():
            if self._input is not None:
                self._flush()
                self._input.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._exited.wait(), _END_SECONDS)
        await self.kill()

    async def kill(self) -> None:
        """End it at once and wait until it is gone."""
        self._signal_kill()
        if self._transport is not None:
            await self._exited.wait()
            if self._reading:
                await self._frames_ended.wait()
        if self._tasks:
            await self.dead.wait()

    def send(self, frame: wire.ToEngine) -> None:
        """Queue a frame; those of one turn of the event loop leave in one write. Ignored once the process is gone."""
        if self._input is None or self._exited.is_set():
            return
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(framing.encode(frame))

    def clock(self, monotonic: float) -> float:
        """Our monotonic seconds as the side process's milliseconds; never later than the truth."""
        return monotonic * 1000 + self._clock_offset

    def monotonic(self, clock: float) -> float:
        """The side process's milliseconds as our monotonic seconds; never later than the truth."""
        return (clock - self._most_offset) / 1000

    # --- start -----------------------------------------------------------------------------------------------------

    async def _spawn(self) -> None:
        settings = self._settings
        try:
            lock = await run_files.take_lock(run_files.lock_path(settings.run_dir, self.number), settings.lock_timeout)
        except TimeoutError:
            raise EngineDownError(_held(run_files.lock_path(settings.run_dir, self.number))) from None
        frames_in, frames_out = os.pipe()
        try:
            loop = asyncio.get_running_loop()
            self._greeting = loop.create_future()
            transport, _ = await loop.subprocess_exec(
                lambda: _ChildProtocol(self),
                str(settings.node),
                str(settings.directory / "main.mjs"),
                str(frames_out),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(frames_out, lock),
                env=_environment(settings.ca_file),
                cwd=str(settings.directory),
                start_new_session=True,
            )
        except BaseException:
            os.close(frames_in)
            raise
        finally:
            os.close(frames_out)
            os.close(lock)
        self._transport = transport
        self.pid = transport.get_pid()
        self._input = cast("asyncio.WriteTransport", transport.get_pipe_transport(0))
        self._reading = True
        await loop.connect_read_pipe(lambda: _FrameProtocol(self), os.fdopen(frames_in, "rb", 0))
        run_files.write_pid(run_files.pid_path(settings.run_dir, self.number), self.pid)

    async def _greet(self) -> None:
        ready = await self._next_greeting()
        if isinstance(ready, wire.Ready) and ready.v == wire.PROTOCOL_VERSION:
            asked_at = time.monotonic()
            self.send(self._hello())
            answer = await self._next_greeting()
            if isinstance(answer, wire.HelloOk) and answer.v == wire.PROTOCOL_VERSION:
                # Its answer was written before now, so this is at most the true offset: terms may end early, not late.
                self._clock_offset = answer.clock - time.monotonic() * 1000
                self._most_offset = answer.clock - asked_at * 1000
                return
            ready = wire.Ready(v=getattr(answer, "v", 0), pid=0, node="")
        raise EngineDownError(
            f"The engine's files speak protocol version {ready.v}, this wahub speaks {wire.PROTOCOL_VERSION}: "
            "run `wahub engines install baileys`"
        )

    async def _next_greeting(self) -> wire.Ready | wire.HelloOk:
        assert self._greeting is not None
        greeting = await self._greeting
        self._greeting = asyncio.get_running_loop().create_future()
        return greeting

    def _hello(self) -> wire.Hello:
        settings = self._settings
        return wire.Hello(
            v=wire.PROTOCOL_VERSION,
            wa_url=settings.wa_url,
            trust_root=settings.trust_root,
            spool_dir=str(settings.spool_dir),
            spool_key=settings.spool_key(),
            spool_flush=settings.spool_flush,
            ack_timeout_ms=round(settings.ack_timeout * 1000),
            qr_first_ms=settings.qr_first_ms,
            qr_next_ms=settings.qr_next_ms,
            keep_alive_ms=round(settings.keep_alive * 1000),
            handshake_ms=round(settings.handshake_timeout * 1000),
            statuses=settings.statuses,
            fault=settings.fault,
        )

    async def _stillborn(self, reason: str) -> EngineDownError:
        await self.kill()
        self._forget_pid()
        said = f" It said: {' | '.join(self._last_lines)}" if self._last_lines else ""
        return EngineDownError(f"The engine process did not start: {reason}.{said}")

    # --- while it runs ---------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        if self._input is None or self._input.is_closing() or self._exited.is_set() or not data:
            return
        try:
            self._input.write(data)
        except (OSError, RuntimeError):
            # uvloop closes the pipe of a process that was just killed before it tells us; its death is noticed anyway.
            return
        if self._input.get_write_buffer_size() > _MAX_QUEUED_BYTES:
            log.error("Engine process %d takes nothing any more: killed", self.number)
            self._signal_kill()

    async def _watch_silence(self) -> None:
        turn = 0
        while True:
            turn += 1
            self._pong = asyncio.get_running_loop().create_future()
            asked = self._asked_at = time.monotonic()
            self.send(wire.Ping(n=turn))
            while not await self._answered(self._pong):
                # If we were stopped ourselves meanwhile, the wait says nothing about the other side.
                if time.monotonic() - asked < self._settings.silence_timeout * 1.5:
                    log.error("Engine process %d does not answer: killed", self.number)
                    self._signal_kill()
                    return
                asked = time.monotonic()
            await asyncio.sleep(_PING_SECONDS)

    async def _answered(self, pong: asyncio.Future[int]) -> bool:
        done, _ = await asyncio.wait([pong], timeout=self._settings.silence_timeout)
        return bool(done)

    async def _watch_end(self) -> None:
        await self._frames_ended.wait()
        self._signal_kill()
        await self._exited.wait()
        self.alive = False
        self._tasks[0].cancel()
        self._forget_pid()
        self.dead.set()

    def take(self, frame: wire.FromEngine) -> None:
        """A frame came."""
        if isinstance(frame, wire.LinkFrame):
            # Nearly all are, and one look is cheaper than one for each of the others.
            self._on_frame(frame)
            return
        match frame:
            case wire.Pong():
                self._on_pong(frame)
            case wire.Log(level=level, text=text):
                log.log(_LEVELS.get(level, logging.WARNING), "Engine %d: %s", self.number, text)
            case wire.Ready() | wire.HelloOk():
                if self._greeting is not None and not self._greeting.done():
                    self._greeting.set_result(frame)

    def _on_pong(self, pong: wire.Pong) -> None:
        self.vitals = pong
        self.answered_at = time.monotonic()
        # One ping at a time is under way; this answer was written after it, so each answer can only sharpen the bound.
        self._most_offset = min(self._most_offset, pong.clock - self._asked_at * 1000)
        if self._pong is not None and not self._pong.done():
            self._pong.set_result(pong.n)
        for row in pong.vitals:
            self._on_vitals(row, self.monotonic)

    def frames_ended(self) -> None:
        """Its frame pipe is closed: it is dead or dying."""
        self._frames_ended.set()
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_exception(EngineDownError("it ended at once"))
            self._greeting.exception()

    def exited(self) -> None:
        """The operating system says that it is gone."""
        self._exited.set()

    def said(self, text: str) -> None:
        """Keep the last lines of its standard error, masked, for the case that it does not start."""
        self._last_lines.extend(_SECRETIVE.sub("***", line)[:200] for line in text.splitlines() if line.strip())

    def _signal_kill(self) -> None:
        if self.pid is not None and not self._exited.is_set():
            with contextlib.suppress(ProcessLookupError):
                # Not the transport's send_signal: it may reap the process itself, and the event loop misses the end.
                os.kill(self.pid, signal.SIGKILL)

    def _forget_pid(self) -> None:
        run_files.remove_pid(run_files.pid_path(self._settings.run_dir, self.number))


class _ChildProtocol(asyncio.SubprocessProtocol):
    def __init__(self, process: EngineProcess) -> None:
        self._process = process

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002 - only standard error has a pipe
        self._process.said(data.decode("utf-8", "replace"))

    def process_exited(self) -> None:
        self._process.exited()


class _FrameProtocol(asyncio.Protocol):
    def __init__(self, process: EngineProcess) -> None:
        self._process = process
        self._reader = framing.FrameReader()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._process.take(frame)
        except framing.FrameError as error:
            log.error("Engine process %d: %s; killed", self._process.number, error)
            assert self._transport is not None
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - every end is the same to us
        self._process.frames_ended()


def _environment(ca_file: Path | None) -> dict[str, str]:
    # LD_LIBRARY_PATH: some machines' Node does not start without it. Everything else of ours stays ours.
    environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    # Of the C library: its threads share heaps, and what is free goes back to the system, so that what a storm of
    # reconnects needed for a moment is not kept.
    environment |= {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "131072"}
    if ca_file is not None:
        environment["NODE_EXTRA_CA_CERTS"] = str(ca_file)
    return environment


def _held(path: Path) -> str:
    return (
        f"{path} is still held by a process of an earlier start; its pid is in {path.with_suffix('.pid').name}: end it"
    )
