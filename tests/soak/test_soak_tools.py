"""The tools of the soak: a storm that a seed decides, and a comparison that finds growth."""

from __future__ import annotations

import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tests.soak.figures import Figures, descriptors, growth, spool_files
from tests.soak.part import Task
from tests.soak.weather import DEATH, LINK_FAULTS, MESSAGE_FAULTS, OTHERS, make_storm
from tests.support.waiting import until

AT_FIRST = Figures(
    gateway_rss=100.0, engine_rss=200.0, engine_heap=80.0, gateway_fds=60, engine_fds=90, engine_handles=120, tasks=400
)


def test_a_seed_gives_one_storm() -> None:
    assert make_storm(7, 200, 50, deaths=3) == make_storm(7, 200, 50, deaths=3)
    assert make_storm(7, 200, 50, deaths=3) != make_storm(8, 200, 50, deaths=3)


def test_a_storm_has_everything_in_it_and_nothing_that_would_heal_too_late() -> None:
    storm = make_storm(1, 2_000, 50, deaths=3)
    assert {trouble.kind for trouble in storm} == {*LINK_FAULTS, *MESSAGE_FAULTS, *OTHERS, DEATH}
    assert sum(trouble.kind == DEATH for trouble in storm) == 3
    assert [trouble.at for trouble in storm] == sorted(trouble.at for trouble in storm)
    assert max(trouble.at for trouble in storm if trouble.kind == "deaf") < 1_930
    assert max(trouble.at for trouble in storm) < 1_985
    assert {trouble.shop for trouble in storm} == set(range(50))


def test_what_stays_within_bounds_is_no_growth() -> None:
    assert growth(AT_FIRST, AT_FIRST) == []
    assert growth(AT_FIRST, replace(AT_FIRST, gateway_rss=104.9, engine_fds=93, tasks=10)) == []


def test_memory_of_young_processes_is_not_compared_but_all_else_is() -> None:
    after = replace(AT_FIRST, gateway_rss=150.0, engine_rss=300.0, engine_heap=100.0, tasks=404)
    assert growth(AT_FIRST, after, memory_too=False) == ["tasks grew from 400.0 to 404.0"]


@pytest.mark.parametrize("name", sorted(asdict(AT_FIRST)))
def test_each_figure_that_grew_is_found(name: str) -> None:
    after = replace(AT_FIRST, **{name: asdict(AT_FIRST)[name] * 1.06})
    assert [found.split()[0] for found in growth(AT_FIRST, after)] == [name]


def test_memory_within_a_part_is_compared_when_its_processes_are_ten_minutes_old() -> None:
    part = Task(Path("nowhere"), number=1, seed=1, seconds=440.0, shops=50, rate=6.0)
    long = replace(part, seconds=1_900.0, long=True)
    assert [task.grows_old for task in (part, long)] == [False, True]
    assert sum(part.stretches) == pytest.approx(440.0)
    assert sum(long.stretches) == pytest.approx(1_900.0)


def test_files_of_the_spool_are_counted_apart(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    with (tmp_path / "spool" / "1.log").open("w") as spool, (tmp_path / "other").open("w") as other:
        # Not of this process, in which threads of other tests open and close what they need.
        idle = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(spool.fileno(), other.fileno()))
        with idle:
            # Its three streams and the other file. A moment ago it was reading its libraries.
            until(lambda: (spool_files(idle.pid), descriptors(idle.pid)) == (1, 4), 20, "other files are counted")
