"""The side process's life: start, death, locks, terms. No WhatsApp is needed for it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.engine.conftest import StartEngine
from tests.integration.engine.vault import MemoryVault
from tests.integration.engine.waiting import PATIENCE, Watcher, is_running, until
from tests.support.processes import wait_gone

from wahub.adapters.engines.baileys import process, run_files
from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.adapters.engines.baileys.wire import PROTOCOL_VERSION
from wahub.domain.errors import EngineDownError
from wahub.domain.ids import ChatId, InstanceId, MessageId
from wahub.domain.instance import Disconnect, Stage
from wahub.domain.message import Text
from wahub.ports.engine import Closed, LinkSpec, SendNotStarted, SendUncertain

BLACK_HOLE = "ws://127.0.0.1:{port}/ws/chat"


def spec(name: str = "shop", seconds: float = 60.0) -> LinkSpec:
    return LinkSpec(InstanceId(name), 1, time.monotonic() + seconds)


@pytest_asyncio.fixture(loop_scope="session")
async def silent_server() -> AsyncIterator[str]:
    """A WhatsApp that accepts connections and never says anything."""
    server = await asyncio.start_server(lambda _reader, _writer: asyncio.sleep(3600), "127.0.0.1", 0)
    yield BLACK_HOLE.format(port=server.sockets[0].getsockname()[1])
    server.close()


async def test_starts_answers_and_ends(start_engine: StartEngine, engine_settings: BaileysSettings) -> None:
    engine = await start_engine()
    [pid] = engine.pids
    pid_file = run_files.pid_path(engine_settings.run_dir, 1)
    assert pid_file.read_text() == f"{pid}\n"
    assert engine.healthy
    await engine.stop()
    assert not is_running(pid)
    assert not pid_file.exists()
    assert not engine.healthy
    await engine.stop()


async def test_nothing_listens_closes_as_timed_out(start_engine: StartEngine) -> None:
    engine = await start_engine()
    link = await engine.open(spec(), MemoryVault())
    closed = await Watcher(link).first(Closed)
    assert (closed.reason, closed.code, closed.stage) == (Disconnect.TIMED_OUT, 408, Stage.UNREACHED)
    assert closed.detail == "ECONNREFUSED"
    result = await link.send(MessageId("3EB0" + "0" * 18), ChatId.parse("15550001111"), Text("hi"))
    assert result == SendNotStarted("link_lost", link_lost=True)


async def test_a_killed_process_is_noticed_and_started_again(start_engine: StartEngine, silent_server: str) -> None:
    # By its end, not by its silence.
    engine = await start_engine(wa_url=silent_server, silence_timeout=600)
    link = await engine.open(spec(), MemoryVault())
    watcher = Watcher(link)
    [pid] = engine.pids
    os.kill(pid, signal.SIGKILL)
    closed = await watcher.first(Closed)
    assert (closed.reason, closed.stage) == (Disconnect.ENGINE_DIED, Stage.UNREACHED)
    await until(lambda: engine.pids)
    again = await engine.open(spec(), MemoryVault())
    assert engine.pids not in ([], [pid])
    await again.close()


async def test_a_swollen_process_is_replaced_when_nothing_is_under_way(
    start_engine: StartEngine, silent_server: str
) -> None:
    engine = await start_engine(
        wa_url=silent_server, most_memory_mb=1, most_memory_per_link_mb=0, look_after_every=0.05
    )
    [pid] = engine.pids
    link = await engine.open(spec(), MemoryVault())
    watcher = Watcher(link)
    # Its memory is known with its first answer to a ping; 1 MB is less than any Node needs.
    closed = await watcher.first(Closed)
    assert (closed.reason, closed.stage) == (Disconnect.RECYCLED, Stage.UNREACHED)
    await until(lambda: engine.pids not in ([], [pid]))
    assert not is_running(pid)


async def test_closing_is_reported_once_and_twice_is_fine(start_engine: StartEngine, silent_server: str) -> None:
    engine = await start_engine(wa_url=silent_server)
    link = await engine.open(spec(), MemoryVault())
    watcher = Watcher(link)
    await link.close()
    await link.close()
    assert (await watcher.first(Closed)).reason is Disconnect.CLOSED_BY_US
    await asyncio.sleep(0)
    assert len(watcher.all(Closed)) == 1


async def test_a_link_whose_term_is_not_extended_is_closed(start_engine: StartEngine, silent_server: str) -> None:
    """The first of two is extended, and lives when the second's term, which began later, is over."""
    # It must be extended in time also on a busy machine.
    seconds = 4.0
    engine = await start_engine(wa_url=silent_server, handshake_timeout=600)
    extended = await engine.open(spec("other", seconds), MemoryVault())
    extended.extend(time.monotonic() + 600)
    link = await engine.open(spec(seconds=seconds), MemoryVault())
    assert (await Watcher(link).first(Closed)).reason is Disconnect.TERM_EXPIRED
    assert not extended.closed


@pytest.mark.parametrize("uv", [False, True], ids=["asyncio", "uvloop"])
def test_the_process_ends_when_the_gateway_is_killed(engine_settings: BaileysSettings, uv: bool) -> None:
    """The gateway is a process of its own here, killed while the engine waits for a network that never answers."""
    run_dir = engine_settings.run_dir
    gateway = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.engine.host", "uvloop" if uv else "asyncio"],
        env={**os.environ, "ENGINE_NODE": str(engine_settings.node), "ENGINE_DIRECTORY": str(engine_settings.directory),
             "ENGINE_RUN": str(run_dir), "PYTHONPATH": os.pathsep.join(["src", "."])},
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert gateway.stdout is not None
        pid = int(gateway.stdout.readline())
        assert is_running(pid)
    finally:
        gateway.kill()
        gateway.wait()
    # Promised within a second; a busy machine may need more, and what is waited for meanwhile lasts for ever.
    wait_gone(pid, PATIENCE, "the side process lives without its gateway")


async def test_a_new_gateway_waits_for_the_old_process(
    start_engine: StartEngine, engine_settings: BaileysSettings
) -> None:
    old = await start_engine()
    [pid] = old.pids
    new = BaileysEngine(engine_settings)
    starting = asyncio.create_task(new.start())
    done, _ = await asyncio.wait([starting], timeout=0.5)
    assert not done
    os.kill(pid, signal.SIGSTOP)
    done, _ = await asyncio.wait([starting], timeout=0.3)
    assert not done
    os.kill(pid, signal.SIGCONT)
    await old.stop()
    await starting
    assert not is_running(pid)
    assert new.pids
    await new.stop()


async def test_a_process_that_does_not_end_is_named(
    engine_settings: BaileysSettings, start_engine: StartEngine
) -> None:
    await start_engine()
    with pytest.raises(EngineDownError, match=r"engine-1\.pid"):
        await start_engine(lock_timeout=0.2)


async def test_other_protocol_versions_are_refused(
    start_engine: StartEngine, engine_settings: BaileysSettings, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(engine_settings.directory, other)
    (other / "node_modules").symlink_to(engine_settings.directory.parent / "node_modules")
    wire = other / "wire.mjs"
    ours = f"PROTOCOL_VERSION = {PROTOCOL_VERSION}"
    assert ours in wire.read_text()
    wire.write_text(wire.read_text().replace(ours, "PROTOCOL_VERSION = 99"))
    with pytest.raises(EngineDownError, match=r"version 99.*engines install"):
        await start_engine(directory=other)


async def test_what_does_not_start_says_why(start_engine: StartEngine, tmp_path: Path) -> None:
    with pytest.raises(EngineDownError, match=r"Cannot find module|ERR_MODULE_NOT_FOUND|ended at once"):
        await start_engine(directory=tmp_path)


async def test_one_that_was_killed_at_its_start_gets_another_however_long_that_takes(
    start_engine: StartEngine, engine_settings: BaileysSettings, tmp_path: Path
) -> None:
    """And no gateway ends for it."""
    node = tmp_path / "node"
    node.write_text(
        f"#!/bin/sh\nif [ ! -e {tmp_path}/killed ]; then touch {tmp_path}/killed; kill -KILL $$; fi\n"
        f'sleep 4\nexec {engine_settings.node} "$@"\n'
    )
    node.chmod(0o700)
    engine = await start_engine(node=node)
    assert engine.pids


async def test_a_process_that_answers_nothing_is_killed(start_engine: StartEngine) -> None:
    engine = await start_engine(silence_timeout=0.5)
    [pid] = engine.pids
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: not is_running(pid))
    await until(lambda: engine.pids not in ([], [pid]) and engine.healthy)


async def test_instances_are_shared_by_processes(start_engine: StartEngine, silent_server: str) -> None:
    engine = await start_engine(wa_url=silent_server, instances_per_engine=2)
    links = await asyncio.gather(*(engine.open(spec(f"shop-{n}"), MemoryVault()) for n in range(5)))
    assert len(engine.pids) == 3
    os.kill(engine.pids[1], signal.SIGKILL)
    await until(lambda: sum(link.closed for link in links) == 2)


async def test_frames_of_another_epoch_are_ignored(start_engine: StartEngine, silent_server: str) -> None:
    engine = await start_engine(wa_url=silent_server)
    link = await engine.open(spec(), MemoryVault())
    stale = type(link)(
        link.number, LinkSpec(link.spec.instance, 0, 0.0), MemoryVault(), link._send_frame, lambda _: 0.0
    )
    closing = asyncio.create_task(stale.close())
    done, _ = await asyncio.wait([closing], timeout=0.3)
    assert not done
    assert not link.closed
    closing.cancel()
    await link.close()


async def test_a_process_that_reads_nothing_does_not_hold_up_the_gateway(
    start_engine: StartEngine, silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_MAX_QUEUED_BYTES", 1_000_000)
    engine = await start_engine(wa_url=silent_server)
    link = await engine.open(spec(), MemoryVault())
    [pid] = engine.pids
    os.kill(pid, signal.SIGSTOP)
    chat = ChatId.parse("15550001111")
    sends = [asyncio.create_task(link.send(MessageId(f"3EB0{n:018X}"), chat, Text("x" * 4000))) for n in range(500)]
    assert set(await asyncio.gather(*sends)) == {SendUncertain("engine_died")}
    assert not is_running(pid)


async def test_a_start_that_is_cancelled_leaves_no_pid_file(engine_settings: BaileysSettings) -> None:
    engine_settings.run_dir.mkdir(parents=True)
    starter = process.EngineProcess(1, engine_settings, lambda frame: None)
    starting = asyncio.create_task(starter.start())
    pid_file = run_files.pid_path(engine_settings.run_dir, 1)
    await until(pid_file.exists)
    starting.cancel()
    await asyncio.wait([starting])
    assert starting.cancelled() and not pid_file.exists()
