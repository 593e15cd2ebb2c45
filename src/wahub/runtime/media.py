"""Files of messages: fetched when somebody asks for one, or as messages come in (MEDIA_DOWNLOAD=eager).

Promise: whoever asks for a file while it is fetched shares that fetch; a file is shown only when its row says that it
is here, and the row is written only when all of it is on disk and was checked. Fetching unasked never holds a message
back: the wish for it is a row, written together with the message, and survives a crash.

A crash leaves a file without a row, or a part of one: the next sweep removes it, and who wants it fetches it again. A
file whose time is over goes row first. Whatever is being fetched is left alone by the sweep.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import structlog

from wahub.domain.errors import (
    CallerError,
    InstanceNotFoundError,
    MediaBrokenError,
    MediaGoneError,
    MediaTooLargeError,
    MediaUnavailableError,
    WahubError,
)
from wahub.domain.ids import InstanceId, MessageId
from wahub.domain.media import Attached, MediaFile, MediaState, Trouble, file_name, shown_type
from wahub.ports.clock import Clock
from wahub.ports.engine import Link
from wahub.ports.media import Blobs
from wahub.ports.store import Database
from wahub.ports.wakeup import MEDIA, Wakeup
from wahub.runtime.media_sweep import Key, MediaSweep
from wahub.services import media
from wahub.services.media import Found, Ready

log = structlog.get_logger("wahub.media")

_PER_LINK, _IN_ALL = 4, 16
"""Files that are fetched unasked at the same time."""

_REST = 60.0
"""Seconds in which nothing is fetched unasked after the store failed."""


@dataclass(frozen=True, slots=True)
class MediaSettings:
    """`limit` is in bytes (0: none), times are seconds."""

    eager: bool = False
    limit: int = 100 * 1024 * 1024
    kept: float | None = 7 * 86_400.0
    """How long a file is kept after it was fetched; None: for ever."""
    look_every: float = 2.0
    """How often wanted files are looked for when no hint comes."""
    sweep_every: float = 3_600.0


@dataclass(frozen=True, slots=True)
class MediaDeps:
    """What it needs. `links`: the open links of this worker."""

    database: Database
    clock: Clock
    wakeup: Wakeup
    blobs: Blobs
    links: Callable[[], Mapping[InstanceId, Link]]
    settings: MediaSettings


class Media:
    """Fetches files. Made inside the event loop; `run` until cancelled, then `stop`."""

    def __init__(self, deps: MediaDeps) -> None:
        self._deps = deps
        self._rests_until = float("-inf")
        self._under_way: dict[Key, asyncio.Task[MediaFile | Trouble]] = {}
        self._ended_meanwhile: set[Key] = set()
        """What ended since the last look at the rows began: the rows that were read may not tell it yet."""
        self._sweep = MediaSweep(deps.database, deps.blobs, deps.clock, deps.settings.kept, lambda: self._under_way)

    # --- asked for ---------------------------------------------------------------------------------------------------

    async def get(self, instance: InstanceId, message_id: MessageId) -> Ready:
        """The file of a message, fetched if it is not here. CallerErrors and LinkErrors say why there is none.

        Who goes away before it is here does not stop the fetch.
        """
        found = await self._deps.database.read(lambda tx: media.find(tx, instance, message_id))
        file = found.kept
        if file is None or not await self._is_fresh(file):
            outcome = await self._fetch_for_caller(instance, message_id, found)
            if isinstance(outcome, Trouble):
                raise self._refusal(outcome)
            file = outcome
        path = await asyncio.to_thread(self._deps.blobs.find, file.path or "")
        if path is None:
            raise MediaUnavailableError("The file was removed at this moment: ask again", 1)
        return Ready(path, file, file_name(found.attached, message_id, file.mime or ""))

    async def _is_fresh(self, file: MediaFile) -> bool:
        kept = self._deps.settings.kept
        if file.state is not MediaState.HERE or file.path is None or file.fetched_at is None:
            return False
        if kept is not None and file.fetched_at + kept <= self._deps.clock.now():
            return False
        return await asyncio.to_thread(self._deps.blobs.find, file.path) is not None

    async def _fetch_for_caller(self, instance: InstanceId, message_id: MessageId, found: Found) -> MediaFile | Trouble:
        if self._too_large(found.attached):
            return Trouble.TOO_LARGE
        kept = found.kept
        if instance not in self._deps.links() and kept is not None and kept.error == Trouble.GONE:
            return Trouble.GONE
        return await asyncio.shield(self._start((instance, message_id), found.attached))

    def _refusal(self, trouble: Trouble) -> WahubError:
        match trouble:
            case Trouble.GONE:
                return MediaGoneError()
            case Trouble.TOO_LARGE:
                return MediaTooLargeError(self._deps.settings.limit)
            case Trouble.NOT_OPEN:
                text = "The file is not here, and the account is not connected: ask again when its status is ready"
                return MediaUnavailableError(text, 30)
            case Trouble.FAILED:
                return MediaUnavailableError("The file could not be stored: see the gateway's log", 60)
            case Trouble.UNREACHABLE:
                return MediaBrokenError("WhatsApp's media servers cannot be reached: ask again later")
            case Trouble.REFUSED:
                return MediaBrokenError("WhatsApp's media servers refuse this file: ask again later")
            case Trouble.DAMAGED:
                return MediaBrokenError("What WhatsApp's media servers gave is not the file that was sent")

    # --- fetching ----------------------------------------------------------------------------------------------------

    def _too_large(self, attached: Attached) -> bool:
        limit = self._deps.settings.limit
        return bool(limit) and (attached.size or 0) > limit

    def _start(self, key: Key, attached: Attached) -> asyncio.Task[MediaFile | Trouble]:
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(self._bring(key, attached), name=f"media:{key[0]}")
            task.add_done_callback(partial(self._ended, key))
        return task

    def _ended(self, key: Key, task: asyncio.Task[MediaFile | Trouble]) -> None:
        del self._under_way[key]
        if self._deps.settings.eager:
            self._ended_meanwhile.add(key)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            log.error("a file could not be fetched", instance=key[0], error=type(error).__name__)
            # Its row could not be written: without a rest, all of it would be fetched again at once, and again.
            self._rests_until = self._deps.clock.monotonic() + _REST
        elif task.result() is not Trouble.NOT_OPEN:
            # There is room for the next; what would fail again at once waits for the next look.
            self._deps.wakeup.notify(MEDIA)

    async def _bring(self, key: Key, attached: Attached) -> MediaFile | Trouble:
        """Fetch it, and write down what became of it."""
        deps = self._deps
        await self._sweep.pause()
        try:
            outcome = await self._download(key, attached)
        except (OSError, InstanceNotFoundError) as error:
            log.error("a file could not be stored", instance=key[0], error=type(error).__name__)
            outcome = Trouble.FAILED
        if isinstance(outcome, Trouble):
            (instance, message_id), trouble, now = key, outcome, deps.clock.now()
            await deps.database.write(lambda tx: media.note_trouble(tx, instance, message_id, trouble, now))
        return outcome

    async def _download(self, key: Key, attached: Attached) -> MediaFile | Trouble:
        deps, (instance, message_id) = self._deps, key
        link = deps.links().get(instance)
        if link is None:
            return Trouble.NOT_OPEN
        if self._too_large(attached):
            return Trouble.TOO_LARGE
        path, target = await asyncio.to_thread(deps.blobs.place, instance, message_id)
        fetched = await link.fetch(attached.ref, target, deps.settings.limit)
        if fetched.error is not None:
            return Trouble(fetched.error) if fetched.error in set(Trouble) else Trouble.FAILED
        types = await asyncio.to_thread(deps.blobs.types, path)
        file = MediaFile(
            instance,
            message_id,
            MediaState.HERE,
            path=path,
            mime=shown_type(attached.ref.kind, attached.mime, types),
            size=fetched.size,
            sha256=fetched.sha256,
            fetched_at=deps.clock.now(),
        )
        try:
            await deps.database.write(lambda tx: tx.media.save(file))
        except InstanceNotFoundError:
            await asyncio.to_thread(deps.blobs.remove, path)
            raise
        return file

    # --- unasked -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Fetch what is wanted, and sweep; a fault of the store or the disk is logged, the next round tries again."""
        deps = self._deps
        swept_at = float("-inf")
        begun = False
        while True:
            try:
                if not begun and not deps.settings.eager:
                    # Wishes of a time when files were fetched unasked: nobody would ever meet them.
                    await deps.database.write(lambda tx: tx.media.drop_wanted())
                begun = True
                if deps.clock.monotonic() - swept_at >= deps.settings.sweep_every:
                    swept_at = deps.clock.monotonic()
                    await self._sweep.sweep()
                if deps.settings.eager:
                    await self._fetch_wanted()
            except Exception as error:  # noqa: BLE001 - the store or the disk may come back
                log.error("files will be looked at again", error=type(error).__name__)
            wait = deps.settings.look_every if deps.settings.eager else deps.settings.sweep_every
            await deps.wakeup.wait(MEDIA, wait)

    async def stop(self) -> None:
        """End what is under way; parts are removed by the next sweep."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch_wanted(self) -> None:
        busy = Counter(instance for instance, _ in self._under_way)
        room = {instance: _PER_LINK - busy[instance] for instance in self._deps.links()}
        free = {instance for instance, places in room.items() if places > 0}
        left = _IN_ALL - len(self._under_way)
        if not free or left <= 0 or self._rests:
            return
        now = self._deps.clock.now()
        self._ended_meanwhile.clear()
        due = await self._deps.database.read(lambda tx: tx.media.due(now, _IN_ALL * _PER_LINK, free))
        for file in due:
            key = (file.instance, file.message_id)
            if left <= 0 or room[file.instance] <= 0 or key in self._under_way or key in self._ended_meanwhile:
                continue
            attached = await self._attached(file)
            if self._rests:
                return
            if attached is not None and key not in self._ended_meanwhile:
                self._start(key, attached)
                room[file.instance] -= 1
                left -= 1

    @property
    def _rests(self) -> bool:
        """Whether nothing is fetched unasked for a while."""
        return self._deps.clock.monotonic() < self._rests_until

    async def _attached(self, file: MediaFile) -> Attached | None:
        """What the message says of its file; None, and the row goes, when the message is gone or says nothing."""
        try:
            found = await self._deps.database.read(lambda tx: media.find(tx, file.instance, file.message_id))
        except CallerError:
            await self._deps.database.write(lambda tx: tx.media.drop([file]))
            return None
        return found.attached
