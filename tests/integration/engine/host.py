"""A gateway reduced to its engine, to be killed by a test. Prints the engine process's pid and waits."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import uvloop
from tests.integration.engine.vault import MemoryVault

from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.domain.ids import InstanceId
from wahub.ports.engine import LinkSpec


async def main() -> None:
    server = await asyncio.start_server(lambda _reader, _writer: asyncio.sleep(3600), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    run_dir = Path(os.environ["ENGINE_RUN"])
    settings = BaileysSettings(
        node=Path(os.environ["ENGINE_NODE"]),
        directory=Path(os.environ["ENGINE_DIRECTORY"]),
        run_dir=run_dir,
        spool_dir=run_dir / "spool",
        wa_url=f"ws://127.0.0.1:{port}/ws/chat",
    )
    engine = BaileysEngine(settings)
    await engine.start()
    await engine.open(LinkSpec(InstanceId("shop"), 1, time.monotonic() + 60), MemoryVault())
    print(engine.pids[0], flush=True)
    await asyncio.sleep(3600)


if __name__ == "__main__":
    if sys.argv[1] == "uvloop":
        uvloop.run(main())
    else:
        asyncio.run(main())
