"""Hints inside one process, and the clock that tests move."""

from __future__ import annotations

import asyncio

import pytest
from tests.fakes.clock import FakeClock

from wahub.adapters.local_wakeup import LocalWakeup
from wahub.adapters.system_clock import SystemClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def started(*coroutines: object) -> list[asyncio.Task[bool]]:
    tasks = [asyncio.ensure_future(one) for one in coroutines]  # type: ignore[call-overload]
    await asyncio.sleep(0)
    return tasks


async def test_a_hint_wakes_its_topic_only(clock: FakeClock) -> None:
    wakeup = LocalWakeup(clock)
    mine, other = await started(wakeup.wait("a", 10), wakeup.wait("b", 10))
    wakeup.notify("a")
    assert await mine is True
    assert not other.done()
    clock.advance(10)
    assert await other is False


async def test_a_hint_given_before_is_not_lost_and_serves_once(clock: FakeClock) -> None:
    wakeup = LocalWakeup(clock)
    wakeup.notify("a")
    wakeup.notify("a")
    assert await wakeup.wait("a", 10) is True
    [second] = await started(wakeup.wait("a", 10))
    clock.advance(10)
    assert await second is False


async def test_all_who_wait_are_woken(clock: FakeClock) -> None:
    wakeup = LocalWakeup(clock)
    tasks = await started(*(wakeup.wait("a", 10) for _ in range(3)))
    wakeup.notify("a")
    assert await asyncio.gather(*tasks) == [True, True, True]


async def test_no_time_to_wait(clock: FakeClock) -> None:
    wakeup = LocalWakeup(clock)
    assert await wakeup.wait("a", 0) is False
    wakeup.notify("a")
    assert await wakeup.wait("a", 0) is True


async def test_a_hint_to_a_waiter_that_is_cancelled_is_kept(clock: FakeClock) -> None:
    wakeup = LocalWakeup(clock)
    [gone] = await started(wakeup.wait("a", 10))
    wakeup.notify("a")
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert await wakeup.wait("a", 0) is True


async def test_waiters_leave_nothing_behind(clock: FakeClock) -> None:
    wakeup = LocalWakeup(clock)
    late, cancelled = await started(wakeup.wait("a", 1), wakeup.wait("b", 10))
    clock.advance(1)
    cancelled.cancel()
    await asyncio.gather(late, cancelled, return_exceptions=True)
    assert wakeup._waiting == {}
    for topic in range(20_000):
        wakeup.notify(str(topic))
    assert len(wakeup._kept) <= 10_000
    assert await wakeup.wait("19999", 0) is True


async def test_the_fake_clock_wakes_sleepers_in_time(clock: FakeClock) -> None:
    short, long = await started(clock.sleep(1), clock.sleep(2))
    assert await clock.someone_sleeps() == 1
    before, monotonic = clock.now(), clock.monotonic()
    clock.advance(1)
    await short
    assert not long.done()
    assert (clock.now(), clock.monotonic()) == (before + 1, monotonic + 1)
    clock.jump(-3600)
    assert (clock.now(), clock.monotonic()) == (before - 3599, monotonic + 1)
    clock.advance(1)
    await long
    assert clock.next_wake is None


async def test_the_system_clock_runs() -> None:
    clock = SystemClock()
    wall, monotonic = clock.now(), clock.monotonic()
    await clock.sleep(0.01)
    await clock.sleep(-1)
    assert clock.monotonic() >= monotonic + 0.009
    assert abs(clock.now() - wall) < 60
