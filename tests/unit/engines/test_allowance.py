"""When a side process has become too large."""

from __future__ import annotations

import pytest

from wahub.adapters.engines.baileys.allowance import REMEMBERED_SECONDS, Allowance

MB = 1_000_000
START = 5_000.0


@pytest.mark.parametrize(("links", "most"), [(0, 400), (1, 406), (50, 700)])
def test_each_link_allows_more(links: int, most: int) -> None:
    assert Allowance(400, 6).allows(most * MB, links, START)
    assert not Allowance(400, 6).allows(most * MB + 1, links, START)


def test_all_links_lost_at_once_are_no_reason() -> None:
    allowance = Allowance(400, 6)
    assert allowance.allows(410 * MB, 50, START)
    for links, later in ((0, 10.0), (3, 20.0), (0, REMEMBERED_SECONDS)):
        assert allowance.allows(410 * MB, links, START + later)
    assert not allowance.allows(701 * MB, 0, START + REMEMBERED_SECONDS)


def test_links_that_stay_away_are_forgotten() -> None:
    allowance = Allowance(400, 6)
    assert allowance.allows(410 * MB, 50, START)
    assert not allowance.allows(410 * MB, 1, START + REMEMBERED_SECONDS + 1)


def test_links_that_come_back_count_anew() -> None:
    allowance = Allowance(400, 6)
    for later in (0.0, REMEMBERED_SECONDS - 1):
        assert allowance.allows(410 * MB, 50, START + later)
    assert allowance.allows(410 * MB, 0, START + REMEMBERED_SECONDS + 1)
