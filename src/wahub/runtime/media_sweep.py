"""Removing files of messages: those whose time is over, those whose message is stored no more, leftovers of crashes.

A row goes before its file, so a crash in between leaves a file without a row: a leftover. Leftovers are removed when
they are some minutes old, for another process may be about to write the row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from functools import partial

from wahub.domain.ids import InstanceId, MessageId
from wahub.domain.media import MediaFile
from wahub.ports.clock import Clock
from wahub.ports.media import Blobs
from wahub.ports.store import Database

Key = tuple[InstanceId, MessageId]

_BATCH = 200
_GRACE = 600.0
"""Seconds that a file stays beyond its time, for those who are about to read it, and a leftover before it is one."""


class MediaSweep:
    """Sweeps the media folder and its rows."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        clock: Clock,
        kept: float | None,
        under_way: Callable[[], Collection[Key]],
    ) -> None:
        """`kept` is in seconds, None for ever; `under_way`: files that are being fetched."""
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._kept = kept
        self._under_way = under_way
        self._removing = asyncio.Lock()

    async def pause(self) -> None:
        """Wait until what is being removed is removed. What is under way from now on is left alone."""
        async with self._removing:
            pass

    async def sweep(self) -> None:
        """One round, some files at a time."""
        await self._remove_stale()
        await self._remove_lonely()
        for instance in await asyncio.to_thread(self._blobs.instances):
            await self._remove_leftovers(instance)

    async def _remove_stale(self) -> None:
        if self._kept is None:
            return
        before = self._clock.now() - self._kept - _GRACE
        while True:
            stale = await self._database.read(lambda tx: tx.media.stale(before, _BATCH))
            if not await self._remove(stale) or len(stale) < _BATCH:
                return

    async def _remove_lonely(self) -> None:
        after = ("", "")
        while True:
            page = await self._database.read(partial(lambda tx, after: tx.media.page(after, _BATCH), after=after))
            await self._remove([file for file, has_message in page if not has_message])
            if len(page) < _BATCH:
                return
            after = page[-1][0].instance, page[-1][0].message_id

    async def _remove(self, files: Iterable[MediaFile]) -> int:
        async with self._removing:
            idle = [file for file in files if (file.instance, file.message_id) not in self._under_way()]
            dropped = await self._database.write(lambda tx: tx.media.drop(idle)) if idle else []
            for file in dropped:
                if file.path is not None:
                    await asyncio.to_thread(self._blobs.remove, file.path)
        return len(dropped)

    async def _remove_leftovers(self, instance: InstanceId) -> None:
        async with self._removing:
            if any(of == instance for of, _ in self._under_way()):
                return  # one of them may be it; the next sweep finds it again
            found = await asyncio.to_thread(self._blobs.files, instance)
            kept = await self._database.read(lambda tx: tx.media.paths(instance))
            before = self._clock.now() - _GRACE
            for blob in found:
                if blob.path not in kept and blob.changed_at < before:
                    await asyncio.to_thread(self._blobs.remove, blob.path)
