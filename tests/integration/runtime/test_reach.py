"""One probe stands for all when the way is cut, and all come back spread out (contract 0.12)."""

from __future__ import annotations

import itertools

import pytest

from wahub.domain.ids import InstanceId
from wahub.domain.retry import ReconnectLadder
from wahub.runtime.reach import Reach

NAMES = [InstanceId(f"shop-{number:02d}") for number in range(20)]
GAP = 0.25


class Ways:
    """A Reach, and the hints it gave."""

    def __init__(self) -> None:
        self.hinted: list[InstanceId] = []
        self.reach = Reach(ReconnectLadder(), GAP, lambda: 0.5, self.hinted.append)

    def joined(self, count: int, proxy: str | None = None, first: int = 0) -> list[InstanceId]:
        members = NAMES[first : first + count]
        for name in members:
            self.reach.join(name, proxy)
        return members

    def cut(self, count: int, now: float = 0.0, proxy: str | None = None, first: int = 0) -> list[InstanceId]:
        """So many instances none of which gets through."""
        members = self.joined(count, proxy, first)
        for name in members:
            self.reach.missed(name, now)
        assert self.reach.cut
        return members


@pytest.fixture
def ways() -> Ways:
    return Ways()


@pytest.mark.parametrize(
    ("members", "missing", "cut"),
    [
        (1, 1, False),
        (2, 1, False),
        (2, 2, True),
        (3, 2, True),
        (4, 2, False),
        (4, 3, True),
        (20, 10, False),
        (20, 11, True),
    ],
)
def test_a_way_is_cut_when_most_do_not_get_through(ways: Ways, members: int, missing: int, cut: bool) -> None:
    for name in ways.joined(members)[:missing]:
        for _ in range(3):  # however often: what counts is how many
            ways.reach.missed(name, 0.0)
    assert ways.reach.cut is cut


@pytest.mark.parametrize(
    ("members", "lost", "within", "cut"),
    [(4, 4, 0.0, False), (5, 5, 10.0, True), (5, 5, 10.1, False), (20, 10, 0.0, False), (20, 11, 0.0, True)],
)
def test_a_way_is_cut_when_most_break_at_once(ways: Ways, members: int, lost: int, within: float, cut: bool) -> None:
    names = ways.joined(members)[:lost]
    for number, name in enumerate(names):
        ways.reach.lost(name, within * number / (len(names) - 1))
    assert ways.reach.cut is cut


def test_one_that_fails_alone_is_never_held_back(ways: Ways) -> None:
    alone, *others = ways.joined(20)
    for now in range(1_000):
        assert ways.reach.hold(alone, float(now)) == 0
        ways.reach.missed(alone, float(now))
        ways.reach.lost(alone, float(now))
    assert not ways.reach.cut
    assert [ways.reach.hold(name, 1_000.0) for name in others] == [0.0] * 19


def test_one_that_gets_through_between_is_not_counted(ways: Ways) -> None:
    one, two, three, _ = ways.joined(4)
    ways.reach.missed(one, 0.0)
    ways.reach.missed(two, 0.0)
    ways.reach.reached(one, 1.0)
    ways.reach.missed(three, 2.0)
    assert not ways.reach.cut


def test_who_never_joined_is_not_held(ways: Ways) -> None:
    ways.cut(3)
    assert ways.reach.hold(NAMES[10], 0.0) == 0
    ways.reach.missed(NAMES[10], 0.0)
    ways.reach.lost(NAMES[10], 0.0)
    ways.reach.reached(NAMES[10], 0.0)
    ways.reach.leave(NAMES[10])
    assert ways.reach.cut, "what it learns says nothing about the way"


def test_one_probe_climbs_the_ladder_and_the_others_wait(ways: Ways) -> None:
    members, now, opened = ways.cut(20), 0.0, []
    for _ in range(12):
        waits = {name: ways.reach.hold(name, now) for name in members}
        if 0 not in waits.values():
            assert len(set(waits.values())) == 1, "all wait for the same moment"
            now += min(waits.values())
            waits = {name: ways.reach.hold(name, now) for name in members}
        [probe] = [name for name, wait in waits.items() if wait == 0]
        assert ways.reach.hold(probe, now) == 0, "asking twice costs it nothing"
        opened.append(now)
        ways.hinted.clear()
        ways.reach.missed(probe, now)
        assert ways.hinted == sorted(set(members) - {probe}), "they hear of the next time at once"
    assert [later - earlier for earlier, later in zip([0.0, *opened], opened, strict=False)] == [
        1, 2, 4, 8, 16, 30, 60, 120, 240, 300, 300, 300,
    ]  # fmt: skip


def test_what_others_miss_meanwhile_moves_no_probe(ways: Ways) -> None:
    members = ways.cut(5)
    assert ways.reach.hold(members[0], 1.0) == 0
    for name in members[1:]:
        ways.reach.missed(name, 1.5)
    assert ways.reach.hold(members[1], 2.0) == pytest.approx(89.0), "the probe is still under way"


def test_a_probe_that_says_nothing_makes_room(ways: Ways) -> None:
    members = ways.cut(5)
    assert ways.reach.hold(members[0], 1.0) == 0
    assert ways.reach.hold(members[1], 91.0) > 0
    assert ways.reach.hold(members[1], 91.1) == 0


def test_a_probe_that_leaves_makes_room_at_once(ways: Ways) -> None:
    members = ways.cut(5)
    assert ways.reach.hold(members[0], 1.0) == 0
    ways.reach.leave(members[0])
    assert ways.reach.hold(members[1], 1.1) == 0


def test_they_return_one_after_the_other(ways: Ways) -> None:
    members = ways.cut(20)
    probe = members[7]
    assert ways.reach.hold(probe, 1.0) == 0
    others = [name for name in members if name != probe]
    assert all(ways.reach.hold(name, 1.0) > 0 for name in others)
    ways.reach.reached(probe, 2.0)
    assert not ways.reach.cut
    assert ways.hinted == sorted(others)
    turns = [ways.reach.hold(name, 2.0) for name in others]
    assert turns == [GAP * place for place in range(1, 20)]
    assert [ways.reach.hold(name, 2.0) for name in others] == turns, "asking again moves nobody's turn"
    assert [ways.reach.hold(name, 2.0 + turn) for name, turn in zip(others, turns, strict=True)] == [0.0] * 19


def test_whoever_comes_during_the_return_gets_a_turn_of_its_own(ways: Ways) -> None:
    members = ways.cut(10)
    assert ways.reach.hold(members[0], 1.0) == 0
    ways.reach.reached(members[0], 2.0)
    late = ways.joined(5, first=10)
    turns = sorted(2.0 + ways.reach.hold(name, 2.0) for name in [*members[1:], *late])
    assert all(later - earlier >= GAP for earlier, later in itertools.pairwise(turns))
    assert ways.reach.hold(NAMES[16], 100.0) == 0


def test_a_way_that_is_cut_again_begins_its_ladder_anew(ways: Ways) -> None:
    members = ways.cut(5)
    for now in (1.0, 3.0, 7.0):
        assert ways.reach.hold(members[0], now) == 0
        ways.reach.missed(members[0], now)
    assert ways.reach.hold(members[0], 15.0) == 0
    ways.reach.reached(members[0], 15.0)
    for name in members:
        ways.reach.lost(name, 100.0)
    assert ways.reach.cut
    assert ways.reach.hold(members[1], 100.0) == 1.0


def test_each_proxy_is_a_way_of_its_own(ways: Ways) -> None:
    dead = ways.cut(5, proxy="http://127.0.0.1:1", first=5)
    direct = ways.joined(5)
    ways.reach.hold(dead[0], 1.0)
    assert [ways.reach.hold(name, 1.0) for name in direct] == [0.0] * 5
    assert ways.reach.hold(dead[1], 1.0) > 0
    ways.reach.reached(direct[0], 1.0)
    assert ways.reach.cut, "what gets through directly says nothing about the proxy"


def test_another_proxy_is_another_way(ways: Ways) -> None:
    dead = ways.cut(5, proxy="http://127.0.0.1:1")
    ways.reach.join(dead[0], "http://127.0.0.1:2")
    assert ways.reach.hold(dead[0], 0.0) == 0
    ways.reach.join(dead[1], "http://127.0.0.1:1")
    assert ways.reach.hold(dead[1], 0.0) > 0, "the same proxy again changes nothing"


def test_a_way_that_all_left_is_forgotten(ways: Ways) -> None:
    for name in ways.cut(5):
        ways.reach.leave(name)
    assert not ways.reach.cut
    one = ways.joined(5)[0]
    assert ways.reach.hold(one, 0.0) == 0
