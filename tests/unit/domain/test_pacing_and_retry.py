"""Pacing and backoff: arithmetic that must hold for every figure an operator may set."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wahub.domain.pacing import HOUR, MINUTE, Pace, next_slot
from wahub.domain.retry import Backoff, ReconnectLadder

NOW = 1_700_000_000.0
EDGE = 1e-5  # what a float of that size may be off


def test_nothing_waits_without_limits() -> None:
    pace = Pace(0, 0, 0.0)
    assert pace.unlimited
    assert not Pace(0, 0, 0.5).unlimited
    assert next_slot([NOW] * 500, NOW, pace) == NOW


def test_the_seventh_send_of_a_minute_waits_for_the_first_to_leave_the_window() -> None:
    claims = [NOW - 59, NOW - 40, NOW - 30, NOW - 20, NOW - 10, NOW - 5]
    assert next_slot(claims, NOW, Pace(6, 0, 0.0)) == NOW + 1
    assert next_slot(claims[1:], NOW, Pace(6, 0, 0.0)) == NOW


def test_the_hour_counts_too_and_the_later_of_both_wins() -> None:
    claims = [NOW - 3_000 + step * 10 for step in range(60)]
    assert next_slot(claims, NOW, Pace(6, 60, 0.5)) == claims[0] + HOUR


def test_spacing_is_kept_even_without_windows() -> None:
    assert next_slot([NOW - 0.2], NOW, Pace(0, 0, 0.5)) == NOW + 0.3
    assert next_slot([], NOW, Pace(6, 60, 0.5)) == NOW


@given(
    st.integers(1, 8),
    st.integers(1, 20),
    st.floats(0, 30),
    st.lists(st.floats(0, 200), min_size=1, max_size=40),
)
def test_no_window_is_ever_overfull(per_minute: int, per_hour: int, spacing: float, pauses: list[float]) -> None:
    pace = Pace(per_minute, per_hour, spacing)
    now, claims = NOW, list[float]()
    for pause in pauses:
        now += pause
        slot = next_slot([at for at in claims if at > now - HOUR], now, pace)
        assert slot >= now
        now = slot
        claims.append(now)
    for at in claims:
        assert sum(at - MINUTE + EDGE < other <= at for other in claims) <= per_minute
        assert sum(at - HOUR + EDGE < other <= at for other in claims) <= per_hour
    assert all(later - earlier >= spacing - EDGE for earlier, later in itertools.pairwise(claims))


def test_backoff_doubles_up_to_its_cap() -> None:
    retry = Backoff(5, 120)
    assert [retry.delay(attempt) for attempt in range(8)] == [5, 5, 10, 20, 40, 80, 120, 120]
    assert retry.delay(10**9) == 120


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_jitter_moves_a_delay_by_a_quarter_at_most(attempt: int, unit: float) -> None:
    retry = Backoff(1, 300)
    assert retry.delay(attempt) * 0.75 <= retry.jittered(attempt, unit) <= retry.delay(attempt) * 1.25


@pytest.mark.parametrize(("unit", "factor"), [(0.0, 0.75), (0.5, 1.0)])
def test_the_ladder_of_a_lost_link(unit: float, factor: float) -> None:
    ladder = ReconnectLadder()
    assert [ladder.delay(attempt, unit) for attempt in range(1, 6)] == [1, 2, 4, 8, 16]
    slow = [30, 60, 120, 240, 300, 300]
    assert [ladder.delay(attempt, unit) for attempt in range(6, 12)] == [wait * factor for wait in slow]
    assert ReconnectLadder(base=0.001, cap=0.01).delay(500, 0.5) == 0.01
