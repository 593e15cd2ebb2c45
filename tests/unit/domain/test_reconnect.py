"""What follows when a link ends: every row of contract B.6, changed by 0.12."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wahub.domain.ids import InstanceId
from wahub.domain.instance import Disconnect, Event, Observed, Stage, State, transition
from wahub.domain.lifecycle import IncidentKind, Lifecycle, entered
from wahub.domain.reconnect import Ended, Next, ReconnectPolicy, after_close
from wahub.domain.retry import ReconnectLadder

NOW = 1_700_000_000.0
POLICY = ReconnectPolicy()
RECORD = Lifecycle(InstanceId("shop"))
READY = Observed(State.READY, NOW - 3_600, authenticated_at=NOW - 7_200, ready_at=NOW - 3_600)
BACK = Observed(State.CONNECTING, NOW - 5, authenticated_at=NOW - 7_200)
"""A linked account on its way back."""
NEW = Observed(State.NEEDS_QR, NOW - 5)
UNREACHED, REACHED, OPEN = Stage.UNREACHED, Stage.REACHED, Stage.OPEN


def end(
    seen: Observed,
    reason: Disconnect,
    stage: Stage = REACHED,
    record: Lifecycle = RECORD,
    policy: ReconnectPolicy = POLICY,
    at: float = NOW,
    unit: float = 0.5,
    cooldown: float | None = None,
) -> Next:
    refused = stage is REACHED and reason is Disconnect.BAD_SESSION
    return after_close(seen, record, Ended(reason, stage, at, unit, cooldown, refused), policy)


NETWORK = (
    Disconnect.TIMED_OUT,
    Disconnect.CONNECTION_CLOSED,
    Disconnect.UNAVAILABLE,
    Disconnect.UNKNOWN,
    Disconnect.CLOSED_BY_US,
    Disconnect.ENGINE_DIED,
)


# --- each reason ------------------------------------------------------------------------------------------------------

Row = tuple[Disconnect, Observed, Stage, Event, float | None, IncidentKind | None, bool, dict[str, Any]]
DEAD = {"qr_rounds_left": 1, "credentials_dead": False}
B6: list[Row] = [
    # reason, from, stage -> event, wait, incident, purge, changes of the record
    (Disconnect.LOGGED_OUT, READY, OPEN, Event.LOGGED_OUT, 0.0, IncidentKind.LOGGED_OUT, True, DEAD),
    (
        Disconnect.LOGGED_OUT,
        BACK,
        REACHED,
        Event.AUTH_FAILED,
        0.0,
        IncidentKind.LOGGED_OUT,
        True,
        {**DEAD, "last_auth_failure_at": NOW},
    ),
    (
        Disconnect.BANNED,
        READY,
        OPEN,
        Event.RESTRICTED,
        None,
        IncidentKind.BANNED,
        False,
        {"restricted_until": NOW + 72 * 3_600},
    ),
    (
        Disconnect.BANNED,
        BACK,
        REACHED,
        Event.RESTRICTED,
        None,
        IncidentKind.BANNED,
        False,
        {"restricted_until": NOW + 72 * 3_600},
    ),
    (
        Disconnect.MULTIDEVICE_MISMATCH,
        READY,
        OPEN,
        Event.LOGGED_OUT,
        None,
        IncidentKind.MULTIDEVICE_MISMATCH,
        False,
        {"credentials_dead": True, "qr_rounds_left": 0},
    ),
    (
        Disconnect.MULTIDEVICE_MISMATCH,
        BACK,
        REACHED,
        Event.AUTH_FAILED,
        None,
        IncidentKind.MULTIDEVICE_MISMATCH,
        False,
        {"credentials_dead": True, "qr_rounds_left": 0, "last_auth_failure_at": NOW},
    ),
    *[(reason, READY, OPEN, Event.LINK_LOST, 1.0, None, False, {"restarts": (NOW,)}) for reason in NETWORK[:-1]],
    *[(reason, BACK, UNREACHED, Event.LINK_LOST, 1.0, None, False, {"restarts": ()}) for reason in NETWORK],
    *[(reason, BACK, REACHED, Event.LINK_LOST, 1.0, None, False, {"restarts": ()}) for reason in NETWORK],
    (Disconnect.ENGINE_DIED, READY, OPEN, Event.LINK_LOST, 1.0, None, False, {"restarts": ()}),
    (
        Disconnect.REPLACED,
        READY,
        OPEN,
        Event.REPLACED,
        60.0,
        None,
        False,
        {"replaced_at": NOW, "paused_until": NOW + 60, "pause_reason": "replaced"},
    ),
    (Disconnect.BAD_SESSION, READY, OPEN, Event.LINK_LOST, 1.0, None, False, {"bad_sessions": 1, "restarts": (NOW,)}),
    (Disconnect.BAD_SESSION, BACK, REACHED, Event.LINK_LOST, 1.0, None, False, {"bad_sessions": 1}),
    (Disconnect.BAD_SESSION, BACK, UNREACHED, Event.LINK_LOST, 1.0, None, False, {"bad_sessions": 0}),
    (Disconnect.RESTART_REQUIRED, READY, OPEN, Event.RESTART_REQUIRED, 0.0, None, False, {"quick_restarts": 1}),
    (Disconnect.RESTART_REQUIRED, BACK, REACHED, Event.RESTART_REQUIRED, 0.0, None, False, {"quick_restarts": 1}),
    (Disconnect.TERM_EXPIRED, READY, OPEN, Event.LINK_LOST, 0.0, None, False, {"restarts": ()}),
    (Disconnect.RECYCLED, READY, OPEN, Event.RESTART_REQUIRED, 0.0, None, False, {"restarts": ()}),
    (Disconnect.RECYCLED, NEW, REACHED, Event.QR_ENDED, 0.0, None, False, {}),
    (
        Disconnect.CREDENTIALS_UNREADABLE,
        BACK,
        UNREACHED,
        Event.FAILED,
        None,
        IncidentKind.CREDENTIALS_UNREADABLE,
        False,
        {},
    ),
    (Disconnect.QR_EXPIRED, NEW, REACHED, Event.QR_ENDED, 0.0, None, False, {"qr_rounds_left": None}),
    (Disconnect.LOGGED_OUT, NEW, REACHED, Event.AUTH_FAILED, 0.0, IncidentKind.LOGGED_OUT, True, DEAD),
    (Disconnect.BAD_SESSION, NEW, REACHED, Event.PAIRING_LOST, 2.0, None, False, {"bad_sessions": 0}),
    *[(reason, NEW, stage, Event.PAIRING_LOST, 2.0, None, False, {}) for reason in NETWORK[:-1] for stage in Stage],
    (Disconnect.ENGINE_DIED, NEW, REACHED, Event.PAIRING_LOST, 1.0, None, False, {}),
]


@pytest.mark.parametrize("row", B6, ids=[f"{row[0]}-{row[1].state}-{row[2]}" for row in B6])
def test_a_row_of_the_reasons(row: Row) -> None:
    reason, seen, stage, event, wait, incident, purge, changes = row
    found = end(seen, reason, stage)
    assert (found.event, found.wait, found.incident, found.purge) == (event, wait, incident, purge)
    assert {name: getattr(found.record, name) for name in changes} == changes


def test_every_reason_has_a_row() -> None:
    assert {row[0] for row in B6} == set(Disconnect)


@pytest.mark.parametrize("reason", Disconnect)
@pytest.mark.parametrize("seen", [READY, BACK, NEW], ids=["ready", "back", "new"])
def test_whatever_follows_is_a_move_of_the_table(reason: Disconnect, seen: Observed) -> None:
    for stage in Stage:
        transition(seen.state, end(seen, reason, stage).event, authenticated=seen.awaits_ready)


@pytest.mark.parametrize("state", [State.ERROR, State.FAILED_QR_TIMEOUT, State.RESTRICTED])
@pytest.mark.parametrize("reason", Disconnect)
def test_a_link_that_ends_after_it_was_given_up_brings_nothing_back(reason: Disconnect, state: State) -> None:
    for linked in (NOW - 7_200, None):
        seen = Observed(state, NOW - 1, authenticated_at=linked)
        found = end(seen, reason)
        after = transition(state, found.event)
        if reason in (Disconnect.LOGGED_OUT, Disconnect.MULTIDEVICE_MISMATCH):
            assert after is State.NEEDS_QR
        else:
            assert (after, found.wait, found.incident, found.record) == (state, None, None, RECORD)


# --- the ladder -------------------------------------------------------------------------------------------------------


def climb(reason: Disconnect, count: int, policy: ReconnectPolicy = POLICY, unit: float = 0.5) -> list[Next]:
    """A ready link is lost, and every attempt to get it back ends in the same way."""
    seen, record, found = READY, RECORD, list[Next]()
    for number in range(count):
        follows = end(seen, reason, UNREACHED if number else OPEN, record, policy, unit=unit)
        found.append(follows)
        seen, record = replace(BACK, restart_attempts=follows.attempts), follows.record
    return found


@pytest.mark.parametrize("reason", NETWORK)
def test_attempts_go_on_for_ever_with_one_incident(reason: Disconnect) -> None:
    found = climb(reason, 40)
    assert [follows.wait for follows in found[:10]] == [1, 2, 4, 8, 16, 30, 60, 120, 240, 300]
    assert {follows.wait for follows in found[10:]} == {300}
    assert {follows.event for follows in found} == {Event.LINK_LOST}
    incidents = [(number, follows.incident) for number, follows in enumerate(found, 1) if follows.incident]
    assert incidents == [(6, IncidentKind.MAX_RECONNECT_ATTEMPTS)]
    assert not any(follows.purge for follows in found)


def test_the_old_rule_asks_for_a_scan_after_the_fast_attempts_and_keeps_the_session() -> None:
    found = climb(Disconnect.TIMED_OUT, 6, replace(POLICY, exhausted_needs_qr=True))
    assert [follows.event for follows in found] == [Event.LINK_LOST] * 5 + [Event.EXHAUSTED]
    assert (found[-1].wait, found[-1].incident) == (5.0, IncidentKind.MAX_RECONNECT_ATTEMPTS)
    assert not found[-1].purge


def test_nothing_comes_back_by_itself_when_the_operator_does_not_want_it() -> None:
    quiet = replace(POLICY, auto=False)
    found = end(READY, Disconnect.TIMED_OUT, OPEN, policy=quiet)
    assert (found.event, found.wait, found.purge) == (Event.LINK_LOST, None, False)
    assert end(BACK, Disconnect.TIMED_OUT, UNREACHED, policy=quiet).wait is None
    assert end(NEW, Disconnect.CONNECTION_CLOSED, policy=quiet).wait == 2.0, "a pairing goes on: a person is there"


@pytest.mark.parametrize(("policy_says", "asked", "wait"), [(300.0, None, 300.0), (None, 5.0, 5.0), (300.0, 7.0, 7.0)])
def test_a_cooldown_comes_before_the_ladder(policy_says: float | None, asked: float | None, wait: float) -> None:
    slow = replace(POLICY, cooldown=policy_says)
    found = end(READY, Disconnect.TIMED_OUT, OPEN, policy=slow, cooldown=asked)
    assert (found.event, found.wait, found.record.paused_until) == (Event.COOLDOWN, wait, NOW + wait)
    assert end(BACK, Disconnect.TIMED_OUT, UNREACHED, policy=slow).event is Event.LINK_LOST, "once for each lost link"


# --- the restart window -----------------------------------------------------------------------------------------------


def lose(record: Lifecycle, at: float, reason: Disconnect = Disconnect.TIMED_OUT, unit: float = 0.5) -> Next:
    return end(replace(READY, ready_at=at - 30), reason, OPEN, record, at=at, unit=unit)


def test_the_fifth_lost_link_within_ten_minutes_is_followed_by_a_long_pause() -> None:
    record = RECORD
    for number in range(4):
        found = lose(record, NOW + 100 * number)
        assert (found.event, found.wait) == (Event.LINK_LOST, 1.0)
        record = found.record
    for unit in (0.0, 0.5, 0.999):
        limited = lose(record, NOW + 400, unit=unit)
        assert (limited.event, limited.incident) == (Event.LIMIT_REACHED, IncidentKind.RESTART_LIMIT)
        assert limited.wait == 600 + 3_600 + 30 * unit
        assert limited.record.paused_until == NOW + 400 + limited.wait
    assert lose(record, NOW + 600).event is Event.LINK_LOST, "the first one has left the window"
    assert end(READY, Disconnect.TIMED_OUT, OPEN, record, replace(POLICY, restarts=0)).event is Event.LINK_LOST


def test_one_loss_counts_once_however_many_attempts_its_return_takes() -> None:
    assert {follows.record.restarts for follows in climb(Disconnect.CONNECTION_CLOSED, 30)} == {(NOW,)}


def test_deaths_of_our_own_engine_fill_no_window() -> None:
    record = RECORD
    for number in range(30):
        found = lose(record, NOW + number, Disconnect.ENGINE_DIED)
        assert found.event is Event.LINK_LOST
        record = found.record
    assert record.restarts == ()


def test_a_clock_that_was_set_back_fills_no_window() -> None:
    record = replace(RECORD, restarts=(NOW + 3_500, NOW + 3_550, NOW + 3_600, NOW + 3_601))
    found = lose(record, NOW)
    assert (found.event, found.record.restarts) == (Event.LINK_LOST, (NOW,))


# --- replaced, bad session, restart required --------------------------------------------------------------------------


@pytest.mark.parametrize(("later", "again"), [(599.0, True), (600.0, False), (-3_600.0, False)])
def test_the_second_replacement_within_ten_minutes_waits_for_somebody(later: float, again: bool) -> None:
    record = end(READY, Disconnect.REPLACED, OPEN).record
    found = end(READY, Disconnect.REPLACED, OPEN, record, at=NOW + later)
    assert found.event is Event.REPLACED
    assert found.wait == (None if again else 60.0)
    assert found.record.paused_until == (None if again else NOW + later + 60)
    assert found.incident is (IncidentKind.REPLACED if again else None)


def test_a_bad_session_is_dead_after_the_ladder_at_the_login() -> None:
    seen, record, found = READY, RECORD, list[Next]()
    for number in range(6):
        follows = end(seen, Disconnect.BAD_SESSION, REACHED if number else OPEN, record)
        found.append(follows)
        seen, record = replace(BACK, restart_attempts=follows.attempts), follows.record
    assert [follows.purge for follows in found] == [False] * 5 + [True]
    assert [follows.wait for follows in found] == [1, 2, 4, 8, 16, 0]
    assert (found[-1].event, found[-1].incident) == (Event.AUTH_FAILED, IncidentKind.BAD_SESSION)
    assert (found[-1].record.qr_rounds_left, found[-1].record.bad_sessions) == (1, 0)


def test_a_stream_that_breaks_before_the_login_is_answered_is_no_refusal() -> None:
    record = replace(RECORD, bad_sessions=50)
    ended, last = Ended(Disconnect.BAD_SESSION, REACHED, NOW, 0.5), replace(BACK, restart_attempts=5)
    assert not after_close(last, record, ended, POLICY).purge
    assert not after_close(replace(last, restart_attempts=4), record, replace(ended, refused=True), POLICY).purge
    assert after_close(last, record, replace(ended, refused=True), POLICY).purge


def test_a_bad_session_that_lets_us_log_in_between_is_never_dead() -> None:
    record = RECORD
    for number in range(20):
        found = end(READY, Disconnect.BAD_SESSION, OPEN, record, replace(POLICY, restarts=0), at=NOW + number)
        assert not found.purge
        record = entered(found.record, State.CONNECTING, State.READY, Event.OPENED, NOW + number)


def test_a_bad_session_of_a_server_that_cannot_be_reached_is_not_counted() -> None:
    record = replace(RECORD, bad_sessions=5)
    found = end(BACK, Disconnect.BAD_SESSION, UNREACHED, record)
    assert (found.purge, found.record.bad_sessions) == (False, 5)


def test_required_restarts_are_quick_and_believed_five_times() -> None:
    record, waits = RECORD, []
    for _ in range(5):
        found = end(BACK, Disconnect.RESTART_REQUIRED, REACHED, record)
        assert (found.event, found.counts) == (Event.RESTART_REQUIRED, False)
        waits.append(found.wait)
        record = found.record
    assert waits == [0, 1, 2, 2, 2]
    disbelieved = end(BACK, Disconnect.RESTART_REQUIRED, REACHED, record)
    assert (disbelieved.event, disbelieved.wait, disbelieved.counts) == (Event.LINK_LOST, 1.0, True)


@pytest.mark.parametrize(("up", "count"), [(59.0, 6), (60.0, 1)])
def test_a_steady_link_ends_the_loop_of_required_restarts(up: float, count: int) -> None:
    record = replace(RECORD, quick_restarts=5)
    found = end(replace(READY, ready_at=NOW - up), Disconnect.RESTART_REQUIRED, OPEN, record)
    assert (found.event is Event.RESTART_REQUIRED) is (count == 1)
    assert found.record.quick_restarts == (1 if count == 1 else 5)


# --- pairing ----------------------------------------------------------------------------------------------------------


def test_a_pairing_that_breaks_keeps_its_code_and_goes_on_ten_times() -> None:
    seen, waits = NEW, []
    for _ in range(11):
        found = end(seen, Disconnect.CONNECTION_CLOSED)
        assert found.keep_qr
        waits.append(found.wait)
        seen = replace(NEW, restart_attempts=found.attempts)
    assert waits == [2, 4, 8, 16, 30, 30, 30, 30, 30, 30, None]


def test_before_the_first_code_only_the_time_for_setting_up_ends_the_attempts() -> None:
    found = end(Observed(restart_attempts=40), Disconnect.TIMED_OUT, UNREACHED)
    assert (found.event, found.wait) == (Event.PAIRING_LOST, 30.0)


@pytest.mark.parametrize(
    ("left", "event", "then"), [(None, "qr_ended", None), (2, "qr_ended", 1), (1, "qr_given_up", 0)]
)
def test_rounds_of_codes_follow_each_other_as_long_as_they_may(left: int | None, event: str, then: int | None) -> None:
    found = end(NEW, Disconnect.QR_EXPIRED, record=replace(RECORD, qr_rounds_left=left))
    assert (found.event, found.record.qr_rounds_left) == (event, then)
    assert found.wait == (None if event == "qr_given_up" else 0.0)


# --- promises for every sequence --------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*NETWORK, Disconnect.TERM_EXPIRED, Disconnect.RECYCLED, Disconnect.RESTART_REQUIRED]),
            st.sampled_from(Stage),
            st.floats(-3_600, 90_000),
            st.floats(0, 1, exclude_max=True),
            st.booleans(),
        ),
        max_size=60,
    ),
    st.sampled_from([None, 300.0]),
)
def test_no_loss_of_the_network_asks_for_a_scan(
    endings: list[tuple[Disconnect, Stage, float, float, bool]], cooldown: float | None
) -> None:
    policy = replace(POLICY, cooldown=cooldown)
    longest = max(policy.ladder.cap * 1.25, cooldown or 0.0)
    limit = policy.window + policy.limit_extra + 30
    seen, record, now = READY, RECORD, NOW
    for reason, stage, passed, unit, opens in endings:
        now += passed
        found = after_close(seen, record, Ended(reason, stage, now, unit), policy)
        assert not found.purge
        state = transition(seen.state, found.event)
        assert state in (State.CONNECTING, State.DISCONNECTED, State.PAUSED)
        assert found.wait is not None, "it comes back by itself"
        assert 0 <= found.wait <= (limit if found.event is Event.LIMIT_REACHED else longest)
        record = entered(found.record, seen.state, state, found.event, now)
        assert len(record.restarts) <= policy.restarts + 1
        seen = replace(BACK, state=state, restart_attempts=found.attempts)
        if opens:
            record = entered(record, state, State.READY, Event.OPENED, now)
            seen = replace(READY, ready_at=now)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0.001, 5), st.floats(1, 3_600))
def test_the_ladder_stays_within_its_bounds(attempt: int, unit: float, base: float, cap: float) -> None:
    ladder = ReconnectLadder(base, cap)
    assert 0 < ladder.delay(attempt, unit) <= cap * (1 if attempt <= ladder.fast else 1.25)
