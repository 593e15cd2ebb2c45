"""A hundred instances whose worker is cut off: one probe stands for all, nobody is asked to scan, and the links return
spread out (contract 0.12).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.fakes.engine import FakeLink
from tests.integration.runtime.world import World

from wahub.domain.ids import InstanceId
from wahub.domain.instance import Config, Disconnect, State
from wahub.domain.lifecycle import IncidentKind
from wahub.domain.session import CREDS, KeyChanges
from wahub.ports.wakeup import INSTANCES
from wahub.services import instance as instances

COUNT = 100
NAMES = [InstanceId(f"shop-{number:03d}") for number in range(COUNT)]
HOUR = 3_600.0

PROBES_IN_AN_HOUR = 22
"""1, 2, 4, 8, 16, 30, 60, 120, 240 s and then every 300 s (less a quarter, if chance has it so)."""
A_SECOND = 5
"""Links that may be opened within any second of the return: one every quarter of a second."""


class Town(World):
    """A world of linked instances whose network can be cut, and that notes when links were tried."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.calm()
        self.tried: list[float] = []
        self.network = True

    async def start(self) -> Town:
        await super().start()
        self.engine_does(self._opens)
        opening = self.engine.open

        async def noted(*args: object) -> FakeLink:
            self.tried.append(self.clock.monotonic())
            return await opening(*args)  # type: ignore[arg-type]

        self.engine.open = noted  # type: ignore[method-assign, assignment]
        return self

    def _opens(self, link: FakeLink) -> None:
        if self.network:
            link.open_up()
        else:
            link.lose_network()

    async def populate(self) -> None:
        def work(tx: object) -> None:
            for name in NAMES:
                instances.create(tx, Config(name, "http://127.0.0.1:9/hook", ("*",)), self.clock.now())  # type: ignore[arg-type]

        await self.database.write(work)
        self.wakeup.notify(INSTANCES)
        await self.all_become(State.READY)
        for name in NAMES:
            await self.engine.of(name)[0].vault.write(KeyChanges({CREDS: b"{}"}))

    async def states(self) -> dict[State, int]:
        found = await self.database.read(lambda tx: tx.instances.list())
        counted = dict[State, int]()
        for one in found:
            counted[one.observed.state] = counted.get(one.observed.state, 0) + 1
        return counted

    async def all_become(self, state: State, within: float = 60.0) -> float:
        """Seconds until all are in that state; looks every tenth of a second, if anything was written since."""
        passed, writes = 0.0, -1
        while True:
            if self.database.writes != writes:
                writes = self.database.writes
                if await self.states() == {state: COUNT}:
                    return passed
            assert passed < within, await self.states()
            await self.pass_time(0.1)
            passed += 0.1

    def forget_the_past(self) -> None:
        self.tried.clear()

    def most_in_a_second(self) -> int:
        return max(bisect_left(self.tried, at + 1.0) - place for place, at in enumerate(self.tried))

    async def nobody_was_asked_to_scan(self) -> None:
        for name in NAMES:
            assert await self.keeps_session(name)
            assert [event for event, _ in await self.posted(name)] == ["ready", "disconnected", "ready"]
        assert not [link for link in self.engine.links if not link.closed and not link.opened]
        assert [sum(not link.closed for link in self.engine.of(name)) for name in NAMES] == [1] * COUNT


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    running = await Town(tmp_path).start()
    await running.populate()
    running.forget_the_past()
    yield running
    await running.stop()


async def test_an_hour_without_network(town: Town) -> None:
    town.network = False
    for link in list(town.engine.links):
        link.lose_network()
    await town.pass_time(HOUR)
    assert await town.states() == {State.DISCONNECTED: COUNT}
    assert len(town.tried) <= PROBES_IN_AN_HOUR
    town.forget_the_past()
    town.network = True
    took = await town.all_become(State.READY, within=300 * 1.25 + COUNT * 0.25 + 5)
    assert took > 20
    assert town.most_in_a_second() <= A_SECOND
    assert len(town.tried) == COUNT, "each got through at its first attempt"
    await town.nobody_was_asked_to_scan()
    assert {kind for name in NAMES for kind in await town.incidents(name)} <= {IncidentKind.MAX_RECONNECT_ATTEMPTS}


async def test_links_that_notice_one_after_the_other(town: Town) -> None:
    """Each finds out at its own keep-alive, within half a minute."""
    town.network = False
    for link in list(town.engine.links):
        link.lose_network()
        await town.pass_time(0.3)
    # Those who noticed before most of them had tried by themselves: at most five fast attempts each.
    assert len(town.tried) <= 5 * COUNT / 2
    town.forget_the_past()
    await town.pass_time(HOUR)
    assert len(town.tried) <= PROBES_IN_AN_HOUR
    town.forget_the_past()
    town.network = True
    await town.all_become(State.READY, within=300 * 1.25 + COUNT * 0.25 + 5)
    assert (town.most_in_a_second() <= A_SECOND, len(town.tried)) == (True, COUNT)
    await town.nobody_was_asked_to_scan()


@pytest.mark.parametrize("down_for", [0.0, 10.0, 600.0])
async def test_the_death_of_the_engine_process(town: Town, down_for: float) -> None:
    town.engine.down = down_for > 0
    for link in list(town.engine.links):
        link.break_off(Disconnect.ENGINE_DIED)
    await town.pass_time(down_for)
    assert len(town.tried) <= PROBES_IN_AN_HOUR
    town.forget_the_past()
    town.engine.down = False
    await town.all_become(State.READY, within=300 * 1.25 + COUNT * 0.25 + 5)
    assert (town.most_in_a_second() <= A_SECOND, len(town.tried)) == (True, COUNT)
    await town.nobody_was_asked_to_scan()
    for name in NAMES:
        assert (await town.record(name)).restarts == (), "it fills no restart window"
        assert IncidentKind.RESTART_LIMIT not in await town.incidents(name)


async def test_a_network_that_comes_and_goes_fills_no_window_and_asks_nobody(town: Town) -> None:
    for _ in range(3):
        town.network = False
        for link in [link for link in town.engine.links if not link.closed]:
            link.lose_network()
        await town.pass_time(20)
        town.network = True
        await town.all_become(State.READY, within=60)
    assert await town.states() == {State.READY: COUNT}


async def test_a_gateway_that_starts_without_network(town: Town) -> None:
    await town.die()
    town.network = False
    await town.start()
    await town.pass_time(HOUR)
    assert await town.states() == {State.DISCONNECTED: COUNT}
    # Each is tried once in the row, so that one that fails alone is found; then one probe stands for all.
    assert len(town.tried) <= COUNT + PROBES_IN_AN_HOUR
    town.forget_the_past()
    town.network = True
    await town.all_become(State.READY, within=300 * 1.25 + COUNT * 0.25 + 5)
    assert (town.most_in_a_second() <= A_SECOND, len(town.tried)) == (True, COUNT)


async def test_one_that_fails_alone_holds_back_nobody(town: Town) -> None:
    sick = NAMES[0]

    def opens(link: FakeLink) -> None:
        if link.spec.instance == sick:
            link.lose_network()
        else:
            link.open_up()

    town.engine_does(opens)
    town.engine.of(sick)[0].lose_network()
    await town.pass_time(100)
    town.engine.of(NAMES[1])[0].break_off(Disconnect.CONNECTION_CLOSED, 428)
    await town.pass_time(1.1)
    assert await town.states() == {State.READY: COUNT - 1, State.DISCONNECTED: 1}
