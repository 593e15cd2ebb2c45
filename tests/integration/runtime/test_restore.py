"""The row in which instances come back (contract B.8), and the same with a real store behind it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from tests.fakes.clock import FakeClock
from tests.fakes.engine import FakeLink
from tests.integration.runtime.world import World

from wahub.domain.ids import InstanceId
from wahub.domain.instance import State
from wahub.domain.lifecycle import Ask, IncidentKind
from wahub.domain.restore import RestoreItem, RestorePolicy
from wahub.runtime.deps import RuntimeDeps
from wahub.runtime.restore import RETRY, Restore


def names(count: int) -> list[InstanceId]:
    return [InstanceId(f"shop-{number:02d}") for number in range(count)]


class Row:
    """A row whose starts are scripted: how long each takes, and whether it fails."""

    def __init__(self, policy: RestorePolicy, unit: Callable[[], float] = lambda: 0.5) -> None:
        self.clock = FakeClock()
        self.free: float | None = None
        self.takes = 0.0
        self.fails: Callable[[RestoreItem], str | None] = lambda _item: None
        self.started: list[tuple[float, str]] = []
        self.ended: list[tuple[float, str]] = []
        self.given_up: list[tuple[InstanceId, str]] = []
        self.at_once = self.most_at_once = 0
        settings = SimpleNamespace(restore=policy)
        deps = SimpleNamespace(clock=self.clock, settings=settings, random=unit, free_memory_mb=lambda: self.free)
        self.restore = Restore(cast(RuntimeDeps, deps), self._start, self._give_up)

    @property
    def now(self) -> float:
        return self.clock.monotonic() - 1_000.0

    async def _start(self, item: RestoreItem) -> str | None:
        self.started.append((self.now, item.instance))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if self.takes:
            await self.clock.sleep(self.takes)
        self.at_once -= 1
        self.ended.append((self.now, item.instance))
        return self.fails(item)

    async def _give_up(self, wanted: InstanceId, text: str) -> None:
        self.given_up.append((wanted, text))

    @asynccontextmanager
    async def running(self, first: list[InstanceId]) -> AsyncIterator[Row]:
        task = asyncio.create_task(self.restore.run(first))
        try:
            await self.rest()
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def rest(self) -> None:
        for _ in range(60):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        await self.rest()
        while (left := end - self.now) > 1e-9:
            wake = self.clock.next_wake
            self.clock.advance(left if wake is None else min(left, max(wake, 1e-6)))
            await self.rest()

    @property
    def times(self) -> list[float]:
        return [round(at, 3) for at, _ in self.started]


@pytest.mark.parametrize(("places", "most"), [(1, 1), (4, 4), (0, 1), (50, 12)])
async def test_never_more_at_a_time_than_there_are_places(places: int, most: int) -> None:
    row = Row(RestorePolicy(concurrency=places, jitter=(0, 0)))
    row.takes = 3.0
    async with row.running(names(12)):
        await row.pass_time(3.0 * 12 + 1)
    assert row.most_at_once == most
    assert sorted(name for _, name in row.started) == sorted(names(12))


async def test_starts_come_five_at_a_time_however_many_places_are_free() -> None:
    row = Row(RestorePolicy(concurrency=1_000, jitter=(0, 0)))
    row.takes = 60.0
    async with row.running(names(12)):
        await row.pass_time(1.0)
    assert row.times == [0.0] * 5 + [0.1] * 5 + [0.2] * 2


async def test_the_jitter_counts_from_the_beginning_of_a_start() -> None:
    row = Row(RestorePolicy(concurrency=1, jitter=(2.0, 5.0)))
    row.takes = 1.5
    async with row.running(names(4)):
        await row.pass_time(60)
    assert row.times == [0, 3.5, 7, 10.5]


async def test_a_start_that_took_longer_than_the_jitter_is_followed_at_once() -> None:
    row = Row(RestorePolicy(concurrency=1, jitter=(2.0, 5.0)))
    row.takes = 10.0
    async with row.running(names(3)):
        await row.pass_time(60)
    assert row.times == [0, 10, 20]


async def test_a_fixed_cooldown_counts_from_the_end() -> None:
    row = Row(RestorePolicy(concurrency=1, cooldown=30.0))
    row.takes = 10.0
    async with row.running(names(3)):
        await row.pass_time(120)
    assert row.times == [0, 40, 80]


@pytest.mark.parametrize(("count", "limit"), [(30, 120.0), (300, 300.0)])
async def test_the_defaults_bring_all_back_in_time(count: int, limit: float) -> None:
    row = Row(RestorePolicy(), unit=random.Random(7).random)
    row.takes = 2.0
    async with row.running([InstanceId(f"shop-{number:03d}") for number in range(count)]):
        await row.pass_time(limit + 100)
    assert len(row.ended) == count
    assert row.ended[-1][0] <= limit


async def test_nothing_starts_while_memory_is_short_for_at_most_five_minutes() -> None:
    row = Row(RestorePolicy(concurrency=1, jitter=(0, 0)))
    row.free = 99.0
    async with row.running(names(3)):
        await row.pass_time(299)
        assert row.started == []
        assert (row.restore.snapshot.processing, row.restore.snapshot.free_mb) == (1, 99.0)
        await row.pass_time(2)
        assert row.times == [300, 300, 300], "they waited together"
        row.free = 100.0
        row.restore.put(RETRY, names(4)[3])
        await row.pass_time(1)
        row.free = 99.0
        row.restore.put(RETRY, names(5)[4])
        await row.pass_time(298)
        assert len(row.started) == 4, "the patience begins anew when memory was there"
        await row.pass_time(3)
        assert len(row.started) == 5


@pytest.mark.parametrize("free", [None, 100.0])
async def test_enough_memory_or_a_system_that_does_not_say(free: float | None) -> None:
    row = Row(RestorePolicy(concurrency=1))
    row.free = free
    async with row.running(names(1)):
        assert row.times == [0]


async def test_memory_that_comes_back_lets_the_row_go_on() -> None:
    row = Row(RestorePolicy(concurrency=1, jitter=(0, 0)))
    row.free = 10.0
    async with row.running(names(2)):
        await row.pass_time(20)
        row.free = 500.0
        await row.pass_time(1.5)
    assert row.times == [21, 21]


async def test_what_fails_comes_again_later_each_time_and_is_given_up_in_the_end() -> None:
    row = Row(RestorePolicy(concurrency=1, jitter=(0, 0)))
    bad, good = names(2)
    row.fails = lambda item: "OperationalError" if item.instance == bad else None
    async with row.running([bad, good]):
        await row.rest()
        assert [(item.kind, item.instance, item.attempts) for item in row.restore.snapshot.waiting] == [
            ("restore", bad, 1)
        ]
        assert row.restore.first_round_over.is_set(), "one that fails does not keep the others' news back"
        await row.pass_time(1_000)
    assert [(round(at), name) for at, name in row.started] == [
        (0, bad), (0, good), (15, bad), (45, bad), (105, bad), (225, bad),
    ]  # fmt: skip
    assert row.given_up == [(bad, "RESTORE_MAX_ATTEMPTS: OperationalError")]
    assert row.restore.snapshot.waiting == ()


async def test_the_first_round_is_over_when_each_was_attempted_once() -> None:
    row = Row(RestorePolicy(concurrency=2, jitter=(0, 0)))
    row.takes = 5.0
    async with row.running(names(4)):
        await row.pass_time(9.9)
        assert not row.restore.first_round_over.is_set()
        await row.pass_time(0.2)
        assert row.restore.first_round_over.is_set()


async def test_an_empty_row_has_no_first_round() -> None:
    async with Row(RestorePolicy()).running([]) as row:
        assert row.restore.first_round_over.is_set()


async def test_one_that_is_dropped_is_not_waited_for() -> None:
    row = Row(RestorePolicy(concurrency=1, jitter=(10, 10)))
    first, second = names(2)
    async with row.running([first, second]):
        assert not row.restore.first_round_over.is_set()
        row.restore.drop(second)
        assert row.restore.first_round_over.is_set()
        await row.pass_time(100)
    assert [name for _, name in row.started] == [first]


async def test_retries_wait_in_the_same_row_and_are_not_repeated() -> None:
    row = Row(RestorePolicy(concurrency=1, jitter=(4, 4)))
    row.fails = lambda item: "boom" if item.kind == RETRY else None
    first, second, third = names(3)
    async with row.running([first, second]):
        row.restore.put(RETRY, third)
        row.restore.put(RETRY, third)
        assert [item.kind for item in row.restore.snapshot.waiting] == ["restore", "retry"]
        await row.pass_time(500)
    assert [(round(at), name) for at, name in row.started] == [(0, first), (4, second), (8, third)]
    assert row.given_up == []


async def test_the_row_shows_when_it_last_did_something() -> None:
    row = Row(RestorePolicy(concurrency=1, min_free_mb=55.0))
    async with row.running([]):
        assert row.restore.snapshot.last_processed_at is None
        row.restore.put(RETRY, names(1)[0])
        await row.rest()
        shown = row.restore.snapshot
        assert (shown.last_processed_at, shown.processing, shown.min_free_mb) == (row.clock.now(), 0, 55.0)


# --- with a real store ------------------------------------------------------------------------------------------------


async def killed_with(world: World, count: int) -> list[InstanceId]:
    """So many instances were ready when their gateway was killed."""
    wanted = names(count)
    world.engine_does(lambda link: link.open_up())
    for name in wanted:
        await world.create(name)
    for name in wanted:
        await world.state_becomes(State.READY, name)
    await world.die()
    return wanted


async def test_all_come_back_a_few_at_a_time_and_it_is_told_once(tmp_path: Path) -> None:
    world = await World(tmp_path).start()
    wanted = await killed_with(world, 9)
    world.settings = replace(world.settings, restore=RestorePolicy(concurrency=2, jitter=(2.0, 5.0)))
    await world.start()
    await world.rest()
    assert len(world.engine.links) == 2
    assert [await world.state_of(name) for name in wanted[2:]] == [State.DISCONNECTED] * 7, "listed while they wait"
    await world.pass_time(3.5)
    assert len(world.engine.links) == 4
    await world.pass_time(3.5 * 4)
    assert [await world.state_of(name) for name in wanted] == [State.READY] * 9
    await world.pass_time(600)
    assert world.restored == [(0, 0), (9, 9)]
    assert len(world.engine.links) == 9
    await world.stop()


async def test_the_row_shows_who_waits_before_the_engine_is_up(tmp_path: Path) -> None:
    """Whoever looks for an empty row must not find one before anything came back."""
    world = await World(tmp_path).start()
    wanted = await killed_with(world, 3)
    await world.prepare()
    assert await world.supervisor.boot() == 3
    row = world.supervisor.restore_queue
    assert ([item.instance for item in row.waiting], row.processing, row.last_processed_at) == (wanted, 0, None)
    world.run()
    await world.pass_time(60)
    assert world.supervisor.restore_queue.waiting == ()
    assert [len(world.engine.of(name)) for name in wanted] == [1, 1, 1]
    assert world.restored == [(0, 0), (3, 3)]
    await world.stop()


async def test_a_server_that_cannot_be_reached_is_no_failure_of_the_instance(tmp_path: Path) -> None:
    world = await World(tmp_path).start()
    wanted = await killed_with(world, 3)
    world.engine_does(lambda link: link.lose_network())
    await world.start()
    await world.pass_time(3_600)
    assert [await world.state_of(name) for name in wanted] == [State.DISCONNECTED] * 3
    assert world.restored[1:] == [(0, 3)]
    world.engine_does(lambda link: link.open_up())
    await world.pass_time(400)
    assert [await world.state_of(name) for name in wanted] == [State.READY] * 3
    await world.stop()


async def test_what_cannot_be_started_ends_as_an_error_that_says_why_and_a_retry_works(tmp_path: Path) -> None:
    world = await World(tmp_path).start()
    [bad, good] = await killed_with(world, 2)

    broken = [bad]

    def opens(link: FakeLink) -> None:
        if link.spec.instance in broken:
            raise ValueError("a test says so")
        link.open_up()

    world.engine_does(opens)
    await world.start()
    await world.pass_time(400)
    assert await world.state_of(good) is State.READY
    stub = await world.instance(bad)
    assert stub is not None and stub.observed.state is State.ERROR
    assert stub.observed.last_error == "RESTORE_MAX_ATTEMPTS: ValueError"
    assert (await world.incidents(bad))[-1:] == [IncidentKind.RESTORE_FAILED]
    assert len(world.engine.of(bad)) <= 5
    assert (await world.record(bad)).instance == bad
    broken.clear()
    await world.ask(Ask.RETRY, bad)
    await world.pass_time(1)
    assert await world.state_of(bad) is State.READY
    assert world.restored[1:] == [(1, 2)], "told once, and true at that moment"
    await world.stop()
