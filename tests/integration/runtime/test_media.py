"""Files of messages: fetched once for all who ask, or as messages come; kept for a time, and no longer."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.engine import FakeLink
from tests.integration.runtime.world import SHOP, World, eventually
from tests.support.folders import files_below

from wahub.adapters.disk_blobs import DiskBlobs
from wahub.domain.errors import (
    InstanceNotFoundError,
    MediaBrokenError,
    MediaGoneError,
    MediaTooLargeError,
    MediaUnavailableError,
    MessageAmbiguousError,
    MessageNotFoundError,
    NoMediaError,
    WahubError,
)
from wahub.domain.ids import InstanceId, MessageId
from wahub.domain.instance import Disconnect
from wahub.domain.media import MediaFile, MediaRef, MediaState
from wahub.ports.engine import Fetched, Inbound
from wahub.ports.wakeup import MEDIA
from wahub.runtime.media import Media, MediaDeps, MediaSettings
from wahub.services.media import Ready

DAY = 86_400.0
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(100)


class Files:
    """The keeper of files over a running world. `begin` may be called again after the world died."""

    def __init__(self, world: World, folder: Path, **settings: Any) -> None:
        self.world = world
        self.folder = folder / "media"
        self.settings = MediaSettings(**settings)
        self._loop: asyncio.Task[None] | None = None

    def begin(self) -> Files:
        world = self.world
        self.blobs = DiskBlobs(self.folder)
        deps = MediaDeps(
            world.database, world.clock, world.wakeup, self.blobs, lambda: world.supervisor.open_links, self.settings
        )
        self.media = Media(deps)
        self._loop = asyncio.create_task(self.media.run())
        return self

    async def end(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
            await self.media.stop()

    def get(self, message_id: str = "3EB01", instance: InstanceId = SHOP) -> asyncio.Task[Ready]:
        return asyncio.create_task(self.media.get(instance, MessageId(message_id)))

    async def row(self, message_id: str = "3EB01", instance: InstanceId = SHOP) -> MediaFile | None:
        return await self.world.database.read(lambda tx: tx.media.get(instance, MessageId(message_id)))

    async def here(self, *message_ids: str) -> None:
        """Wait until these are here."""

        async def check() -> bool:
            rows = [await self.row(message_id) for message_id in message_ids]
            return all(row is not None and row.state is MediaState.HERE for row in rows)

        await eventually(check, "files that are here")

    def left(self) -> set[str]:
        """What lies in the folder."""
        return {path.relative_to(self.folder).as_posix() for path in files_below(self.folder)}


@pytest.fixture
async def files(world: World, tmp_path: Path) -> AsyncIterator[Files]:
    made = Files(world, tmp_path).begin()
    yield made
    await made.end()


Fetches = Callable[[MediaRef, Path, int], Fetched]


def gives(data: bytes = PICTURE) -> Fetches:
    """WhatsApp has the file."""

    def fetch(_media: MediaRef, path: Path, _limit: int) -> Fetched:
        path.write_bytes(data)
        return Fetched(None, len(data), hashlib.sha256(data).hexdigest())

    return fetch


def fails(word: str) -> Fetches:
    return lambda _media, _path, _limit: Fetched(word)


def picture(message_id: str = "3EB01", seq: int = 1, **part: Any) -> Inbound:
    """A message with a file, as a link tells it."""
    sender = "201111111111@s.whatsapp.net"
    key = base64.b64encode(message_id.encode()).decode()
    image = {"directPath": f"/v/{message_id}", "mediaKey": key, "mimetype": "image/png", "fileLength": "108", **part}
    body = {"message_id": message_id, "chat": sender, "sender": sender, "type": "image", "timestamp": 1_700_000_000}
    return Inbound(seq, {**body, "raw": json.dumps({"imageMessage": image})})


async def received(world: World, link: FakeLink, *inbound: Inbound) -> None:
    """It came in, and is stored."""
    before = len(link.acked)
    link.report(*inbound)

    async def check() -> bool:
        return len(link.acked) == before + len(inbound)

    await eventually(check, "messages that are stored")


def has_it(world: World, fetches: Fetches) -> None:
    """Every link opens by itself from now on, and fetches so."""

    def begin(link: FakeLink) -> None:
        link.fetches = fetches
        link.open_up()

    world.engine_does(begin)


def slow(link: FakeLink) -> tuple[asyncio.Semaphore, list[str]]:
    """Fetches wait for the semaphore; which began is in the list."""
    gate, began, fetch = asyncio.Semaphore(0), list[str](), link.fetch

    async def wait(media: MediaRef, path: Path, limit: int) -> Fetched:
        began.append(media.direct_path)
        await gate.acquire()
        return await fetch(media, path, limit)

    link.fetch = wait  # type: ignore[method-assign]
    return gate, began


async def began(count: int, paths: list[str]) -> None:
    async def check() -> bool:
        return len(paths) >= count

    await eventually(check, f"{count} fetches")


# --- asked for --------------------------------------------------------------------------------------------------------


async def test_a_file_is_fetched_when_it_is_asked_for_and_kept(world: World, files: Files) -> None:
    link = await world.linked()
    link.fetches = gives()
    await received(world, link, picture())
    assert (link.fetched, files.left()) == ([], set())
    ready = await files.get()
    assert ready.path.read_bytes() == PICTURE
    assert (ready.name, ready.file.mime, ready.file.size) == ("image-3EB01.png", "image/png", len(PICTURE))
    assert ready.file.sha256 == hashlib.sha256(PICTURE).hexdigest()
    link.fetches = fails("gone")
    assert await files.get() == ready
    assert len(link.fetched) == 1
    assert link.fetched[0].direct_path == "/v/3EB01" and link.fetched[0].media_key == b"3EB01"
    link.break_off(Disconnect.TIMED_OUT)
    assert await files.get() == ready, "it is here, whether or not the account is connected"


async def test_all_who_ask_at_once_share_a_fetch_that_goes_on_when_they_leave(world: World, files: Files) -> None:
    link = await world.linked()
    link.fetches = gives()
    await received(world, link, picture())
    gate, paths = slow(link)
    first, second = files.get(), files.get()
    await began(1, paths)
    third = files.get()
    await world.rest()
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    gate.release()
    assert await second == await third
    assert len(paths) == 1


@pytest.mark.parametrize(
    ("word", "error", "kept"),
    [
        ("gone", MediaGoneError, "gone"),
        ("too_large", MediaTooLargeError, "too_large"),
        ("refused", MediaBrokenError, None),
        ("damaged", MediaBrokenError, None),
        ("unreachable", MediaBrokenError, None),
        ("not_open", MediaUnavailableError, None),
        ("failed", MediaUnavailableError, None),
        ("a word of tomorrow", MediaUnavailableError, None),
    ],
)
async def test_what_goes_wrong_is_told_and_asking_again_tries_again(
    world: World, files: Files, word: str, error: type[WahubError], kept: str | None
) -> None:
    link = await world.linked()
    await received(world, link, picture())
    link.fetches = fails(word)
    with pytest.raises(error):
        await files.get()
    row = await files.row()
    assert (row and row.error) == kept
    link.fetches = gives()
    assert (await files.get()).path.read_bytes() == PICTURE
    row = await files.row()
    assert row is not None and (row.state, row.error) == (MediaState.HERE, None)


async def test_a_file_that_is_said_to_be_too_large_is_not_even_asked_for(world: World, tmp_path: Path) -> None:
    files = Files(world, tmp_path, limit=107).begin()
    link = await world.linked()
    link.fetches = gives()
    await received(world, link, picture())
    with pytest.raises(MediaTooLargeError, match="107"):
        await files.get()
    assert link.fetched == []
    files.media._deps = replace(files.media._deps, settings=MediaSettings(limit=0))
    assert (await files.get()).file.size == len(PICTURE)
    await files.end()


async def test_what_has_no_file(world: World, files: Files) -> None:
    link = await world.linked()
    text = Inbound(2, {**picture("3EB02").body, "raw": json.dumps({"conversation": "hi"}), "type": "text"})
    await received(world, link, text)
    with pytest.raises(NoMediaError):
        await files.get("3EB02")
    with pytest.raises(MessageNotFoundError):
        await files.get("3EB03")
    with pytest.raises(InstanceNotFoundError):
        await files.get("3EB02", InstanceId("nobody"))


async def test_without_a_link_it_is_said_when_to_ask_again_or_that_it_is_gone(world: World, files: Files) -> None:
    link = await world.linked()
    await received(world, link, picture(), picture("3EB02", seq=2))
    link.fetches = fails("gone")
    with pytest.raises(MediaGoneError):
        await files.get()
    world.engine_does(lambda _link: None)
    link.break_off(Disconnect.TIMED_OUT)
    await eventually(_false_when(lambda: SHOP in world.supervisor.open_links), "no link")
    with pytest.raises(MediaGoneError):
        await files.get()
    with pytest.raises(MediaUnavailableError) as told:
        await files.get("3EB02")
    assert told.value.retry_after > 0 and "connected" in str(told.value)


def _false_when(condition: Callable[[], bool]) -> Callable[[], Any]:
    async def check() -> bool:
        return not condition()

    return check


async def test_under_an_id_that_two_people_used_nobody_gets_a_file(world: World, files: Files) -> None:
    link = await world.linked()
    link.fetches = gives()
    other = picture(seq=2, directPath="/v/of-a-stranger")
    stranger = "202222222222@s.whatsapp.net"
    await received(world, link, picture(), Inbound(2, {**other.body, "chat": stranger, "sender": stranger}))
    with pytest.raises(MessageAmbiguousError):
        await files.get()
    assert link.fetched == []


# --- unasked ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def eager(tmp_path: Path) -> AsyncIterator[Files]:
    world = await World(tmp_path).with_settings(eager_media=True).start()
    made = Files(world, tmp_path, eager=True).begin()
    yield made
    await made.end()
    await world.stop()


async def test_files_are_fetched_as_messages_come_and_hold_none_back(eager: Files) -> None:
    world = eager.world
    link = await world.linked()
    link.fetches = gives()
    gate, paths = slow(link)
    await received(world, link, *(picture(f"3EB0{number}", seq=number) for number in range(1, 8)))
    assert len(await world.news("message")) == 7
    await began(4, paths)
    await world.rest()
    assert len(paths) == 4, "four at a time"
    asked = eager.get("3EB01")
    for _ in range(7):
        gate.release()
    await eager.here(*(f"3EB0{number}" for number in range(1, 8)))
    assert (await asked).path.read_bytes() == PICTURE
    assert sorted(paths) == [f"/v/3EB0{number}" for number in range(1, 8)]


async def test_what_was_wanted_is_fetched_after_a_crash_once(eager: Files) -> None:
    world = eager.world
    link = await world.linked()
    slow(link)
    await received(world, link, picture(), Inbound(2, {**picture("3EB02").body, "raw": '{"conversation":"hi"}'}))
    await world.die()
    has_it(world, gives())
    await world.start()
    eager.begin()
    await world.pass_time(10)
    await eager.here("3EB01")
    assert len(world.engine.links[-1].fetched) == 1
    assert await eager.row("3EB02") is None, "a text has no file"


async def test_one_with_much_to_fetch_does_not_keep_others_waiting(eager: Files) -> None:
    world = eager.world
    link = await world.linked()
    slow(link)
    await received(world, link, *(picture(f"3EB{number:03}", seq=number) for number in range(100)))
    other = await world.linked("other")
    other.fetches = gives()
    await received(world, other, picture("3EC1"))

    async def check() -> bool:
        row = await eager.row("3EC1", InstanceId("other"))
        return row is not None and row.state is MediaState.HERE

    await eventually(check, "the other's file")


async def later(files: Files, seconds: float) -> None:
    """So much time passes at once, for files alone: the timers of the world see none of it."""
    files.world.clock.jump(seconds)
    files.world.wakeup.notify(MEDIA)
    await files.world.rest()


async def test_fetching_unasked_is_tried_again_later_and_given_up_after_a_day(eager: Files) -> None:
    world, tried, broken = eager.world, list[str](), {"/v/3EB01", "/v/3EB02"}

    def fetch(media: MediaRef, path: Path, limit: int) -> Fetched:
        tried.append(media.direct_path)
        return (fails("unreachable") if media.direct_path in broken else gives())(media, path, limit)

    link = await world.linked()
    link.fetches = fetch
    await received(world, link, picture(), picture("3EB02", seq=2))
    await began(2, tried)
    for _ in range(60):
        await later(eager, 60)
    assert 10 <= len(tried) <= 20
    broken.remove("/v/3EB02")
    for _ in range(18):
        await later(eager, 2 * 3_600)
    first, second = await eager.row("3EB01"), await eager.row("3EB02")
    assert first is not None and (first.state, first.error) == (MediaState.FAILED, "unreachable")
    assert second is not None and second.state is MediaState.HERE
    assert tried.count("/v/3EB01") == 14
    await later(eager, DAY)
    assert tried.count("/v/3EB01") == 14
    broken.clear()
    assert (await eager.get()).path.read_bytes() == PICTURE


async def test_while_the_account_is_away_its_files_wait_without_an_attempt(eager: Files) -> None:
    world = eager.world
    link = await world.linked()
    link.fetches = fails("not_open")
    await received(world, link, picture())
    await began(1, [media.direct_path for media in link.fetched] or ["x"])
    await world.pass_time(60)
    row = await eager.row()
    assert row is not None and (row.state, row.attempts) == (MediaState.WANTED, 0)
    # Not in a hurry, either: once per look.
    assert len(link.fetched) < 60
    link.fetches = gives()
    await world.pass_time(5)
    await eager.here("3EB01")


async def test_when_files_are_only_fetched_on_demand_old_wishes_end(tmp_path: Path) -> None:
    world = await World(tmp_path).start()
    link = await world.linked()
    link.fetches = gives()
    await received(world, link, picture())
    await world.database.write(lambda tx: tx.media.want(SHOP, MessageId("3EB01"), 0.0))
    files = Files(world, tmp_path).begin()
    await world.rest()
    assert (await files.row(), link.fetched) == (None, [])
    await files.end()
    await world.stop()


async def test_a_store_that_fails_for_a_while_ends_nothing(eager: Files) -> None:
    world = eager.world
    link = await world.linked()
    link.fetches = gives()
    gate, paths = slow(link)
    await received(world, link, picture())
    await began(1, paths)
    world.database.failing = True
    gate.release()
    await later(eager, 10)
    row = await eager.row()
    assert row is not None and row.state is MediaState.WANTED
    world.database.failing = False
    gate.release()
    await later(eager, 10)
    assert len(paths) == 1, "not all of it again at once"
    world.clock.advance(61)
    await later(eager, 1)
    await eager.here("3EB01")


# --- the end of files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [7 * DAY, None], ids=["for a week", "for ever"])
async def test_a_file_is_kept_for_its_time_and_fetched_again_afterwards(tmp_path: Path, kept: float | None) -> None:
    world = await World(tmp_path).calm().start()
    files = Files(world, tmp_path, kept=kept).begin()
    link = await world.linked()
    link.fetches = gives()
    await received(world, link, picture(), picture("3EB02", seq=2))
    await files.get()
    # Not a week of timers: somebody set the clock.
    world.clock.jump(7 * DAY - 10)
    await files.get()
    await files.get("3EB02")
    assert len(link.fetched) == 2
    world.clock.jump(20)
    await files.media._sweep.sweep()
    assert len(files.left()) == 2, "who is about to read it still finds it"
    world.clock.jump(3_600)
    await files.media._sweep.sweep()
    assert (len(files.left()), await files.row() is None) == ((2, False) if kept is None else (1, True))
    assert (await files.get()).path.read_bytes() == PICTURE
    assert len(link.fetched) == (2 if kept is None else 3)
    await files.end()
    await world.stop()


async def test_the_folder_is_swept_at_the_start(world: World, files: Files) -> None:
    await files.end()
    (files.folder / "shop").mkdir(parents=True)
    (files.folder / "shop" / "old").write_bytes(b"x")
    os.utime(files.folder / "shop" / "old", (1, 1))
    files.begin()

    async def check() -> bool:
        return not files.left()

    await eventually(check, "the leftover is gone")


async def test_the_file_goes_with_its_message(world: World, files: Files) -> None:
    link = await world.linked()
    link.fetches = gives()
    await received(world, link, picture())
    await files.get()
    before = world.clock.now() + 1.0
    await world.database.write(lambda tx: tx.retention.forget(SHOP, before, 100))
    await files.media._sweep.sweep()
    assert (files.left(), await files.row()) == (set(), None)


async def test_leftovers_of_crashes_go_and_nothing_else(world: World, files: Files) -> None:
    link = await world.linked()
    link.fetches = gives()
    await received(world, link, picture(), picture("3EB02", seq=2))
    await files.get()
    kept = files.left()

    def leave(name: str, age: float) -> None:
        path = files.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        at = world.clock.now() - age
        os.utime(path, (at, at))

    leave("shop/old", 3_600)
    leave("shop/old.part", 3_600)
    leave("shop/young.part", 60)
    leave("of-nobody/old", 3_600)
    for path in kept:
        os.utime(files.folder / path, (1, 1))
    gate, paths = slow(link)
    asked = files.get("3EB02")
    await began(1, paths)
    await files.media._sweep.sweep()
    assert files.left() == kept | {"shop/old", "shop/old.part", "shop/young.part"}, "one of them may be under way"
    gate.release()
    await asked
    kept = files.left() - {"shop/old", "shop/old.part", "shop/young.part"}
    for path in kept:
        os.utime(files.folder / path, (1, 1))
    await files.media._sweep.sweep()
    assert files.left() == kept | {"shop/young.part"}
    assert len(kept) == 2
    assert not (files.folder / "of-nobody").exists()


async def test_what_comes_after_its_instance_is_gone_is_not_kept(world: World, files: Files) -> None:
    link = await world.linked()
    link.fetches = gives()
    await received(world, link, picture())
    gate, paths = slow(link)
    asked = files.get()
    await began(1, paths)
    await world.database.write(lambda tx: tx.instances.delete(SHOP))
    gate.release()
    with pytest.raises(MediaUnavailableError):
        await asked
    assert files.left() == set()


async def test_the_end_of_the_gateway_waits_for_no_file(world: World, files: Files) -> None:
    link = await world.linked()
    await received(world, link, picture())
    _, paths = slow(link)
    asked = files.get()
    await began(1, paths)
    await files.end()
    with pytest.raises(asyncio.CancelledError):
        await asked
