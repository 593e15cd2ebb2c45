"""The whole schedule of an instance that waits for a scan (contract B.7)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wahub.domain.ids import InstanceId
from wahub.domain.instance import Observed, State
from wahub.domain.lifecycle import Lifecycle, QrPolicy, QrStep, qr_step

T0 = 1_700_000_000.0
POLICY = QrPolicy()
SCAN = Observed(State.NEEDS_QR, T0)
RECORD = Lifecycle(InstanceId("shop"), needs_qr_since=T0)


def schedule(
    record: Lifecycle, codes: list[float], policy: QrPolicy = POLICY, until: float = 2_000.0
) -> list[tuple[float, QrStep]]:
    """What is done when, in seconds since T0, looking every second; `codes`: when codes are shown."""
    done, waiting = list[tuple[float, QrStep]](), sorted(codes)
    for second in range(int(until)):
        now = T0 + second
        while waiting and waiting[0] <= second:
            record = replace(record, last_qr_at=T0 + waiting.pop(0))
        step = qr_step(SCAN, record, policy, now)
        if step is QrStep.NOTHING:
            continue
        done.append((second, step))
        if step is QrStep.GIVE_UP:
            return done
        record = replace(record, qr_recovery_attempts=record.qr_recovery_attempts + 1, qr_recovery_at=now)
    return done


RELOAD, RECREATE, GIVE_UP = QrStep.RELOAD, QrStep.RECREATE, QrStep.GIVE_UP


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], [(10, RELOAD), (40, RECREATE), (100, RECREATE), (160, GIVE_UP)]),
        ([0], [(91, RELOAD), (121, RECREATE), (181, RECREATE), (241, GIVE_UP)]),
        # Codes keep coming: only their age ends it.
        (list(range(0, 2_000, 20)), [(301, RELOAD), (331, RECREATE), (391, RECREATE), (451, GIVE_UP)]),
        # A recovery that brought a code buys another 90 s.
        ([0, 95], [(91, RELOAD), (186, RECREATE), (246, RECREATE), (306, GIVE_UP)]),
    ],
    ids=["no-code-ever", "one-code", "codes-all-the-time", "a-recovery-that-helps"],
)
def test_the_schedule_of_the_recoveries(codes: list[float], expected: list[tuple[float, QrStep]]) -> None:
    assert schedule(RECORD, codes) == expected


def test_other_figures_are_kept() -> None:
    policy = QrPolicy(stale=5, ttl=1_000, attempts=1, backoff=(2.0,))
    assert schedule(RECORD, [0], policy) == [(6, RELOAD), (8, GIVE_UP)]
    assert schedule(RECORD, [0], replace(policy, attempts=0)) == [(6, GIVE_UP)]
    assert schedule(RECORD, [0], replace(policy, backoff=())) == [(6, RELOAD), (7, GIVE_UP)]


def test_after_a_logout_its_one_round_is_not_repeated() -> None:
    one = replace(RECORD, qr_rounds_left=1)
    assert schedule(one, [0, 20, 40]) == [(301, GIVE_UP)], "no recovery: it would begin another round"
    assert schedule(one, []) == [(10, RELOAD), (40, RECREATE), (100, RECREATE), (160, GIVE_UP)], "no code came yet"


def test_where_no_round_may_begin_only_age_ends_the_wait() -> None:
    none = replace(RECORD, qr_rounds_left=0)
    assert schedule(none, []) == [(301, GIVE_UP)]


@pytest.mark.parametrize("state", [state for state in State if state is not State.NEEDS_QR])
def test_whoever_waits_for_no_scan_is_left_alone(state: State) -> None:
    assert qr_step(Observed(state, T0), RECORD, POLICY, T0 + 1e6) is QrStep.NOTHING


def test_without_its_own_time_the_wait_counts_from_the_change_of_state() -> None:
    unknown = replace(RECORD, needs_qr_since=None)
    assert qr_step(SCAN, unknown, POLICY, T0 + 9) is QrStep.NOTHING
    assert qr_step(SCAN, unknown, POLICY, T0 + 10) is QrStep.RELOAD


@given(st.lists(st.floats(0, 1_000), max_size=30))
def test_whatever_is_shown_it_ends_after_three_recoveries(codes: list[float]) -> None:
    steps = [step for _, step in schedule(RECORD, codes)]
    assert steps == [RELOAD, RECREATE, RECREATE, GIVE_UP]


@pytest.mark.parametrize(("after", "step"), [(91, QrStep.NOTHING), (159, QrStep.NOTHING), (160, QrStep.RELOAD)])
def test_a_code_that_is_still_good_is_not_stale(after: float, step: QrStep) -> None:
    shown = replace(SCAN, qr="code", qr_expires_at=T0 + 160)
    assert qr_step(shown, replace(RECORD, last_qr_at=T0), POLICY, T0 + after) is step


def test_a_code_that_is_good_for_ever_ends_by_the_age_of_the_wait() -> None:
    shown = replace(SCAN, qr="code", qr_expires_at=T0 + 1e6)
    assert qr_step(shown, replace(RECORD, last_qr_at=T0), POLICY, T0 + 301) is QrStep.RELOAD
