"""Every timer of contract B.4 and 0.12: silent just before its time, ringing at it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from wahub.domain.ids import InstanceId
from wahub.domain.instance import Observed, State
from wahub.domain.lifecycle import Lifecycle
from wahub.domain.retry import Backoff
from wahub.domain.watchdog import Alarm, LinkView, MuteEvidence, Restart, Timers, View, alarms, mute_evidence

T0 = 1_700_000_000.0
TIMERS = Timers()
RECORD = Lifecycle(InstanceId("shop"))
NEW = Observed(State.CONNECTING, T0)
PAIRED = Observed(State.CONNECTING, T0, authenticated_at=T0)
BACK = Observed(State.CONNECTING, T0, authenticated_at=T0 - 9_000, last_ready_at=T0 - 8_000)
READY = Observed(State.READY, T0, authenticated_at=T0 - 9_000, last_ready_at=T0, ready_at=T0)
SCAN = Observed(State.NEEDS_QR, T0)
SET_BACK = Observed(State.CONNECTING, T0, authenticated_at=T0 + 9_000)
"""Paired by a clock that was set back since."""
OPENING = LinkView(since=T0)
SCANNED = LinkView(since=T0 - 150, polled_at=T0 + 1e9)
"""It showed codes for a while."""
OPEN = LinkView(since=T0 - 1, opened_at=T0, heard_at=T0, active_at=T0)


def view(seen: Observed, **known: Any) -> View:
    return View(**{"now": T0, "observed": seen, "record": RECORD, **known})


def ringing(seen: View, after: float, timers: Timers = TIMERS) -> list[Alarm]:
    """What rings so many seconds after T0, most urgent first."""
    later = replace(seen, now=T0 + after)
    return [alarm for at, alarm in alarms(later, timers) if at <= later.now]


def alive(**known: Any) -> LinkView:
    """An open link of which nothing is due for a long time, but what is given."""
    return replace(OPEN, **{"heard_at": T0 + 1e9, "active_at": T0 + 1e9, "checked_at": T0 + 1e9, **known})


def watched(at: str, **more: Any) -> Lifecycle:
    return replace(RECORD, **{at: T0, **more})


B4: list[tuple[str, View, float, Alarm]] = [
    ("init", view(NEW, init_since=T0), 120.0, Alarm.INIT_TIMEOUT),
    ("ready-watchdog", view(PAIRED, record=watched("ready_watchdog_at")), 600.0, Alarm.READY_TIMEOUT),
    (
        "ready-watchdog-unscanned",
        view(SCAN, record=watched("ready_watchdog_at", last_qr_at=T0 + 600, needs_qr_since=T0 + 600)),
        600.0,
        Alarm.READY_TIMEOUT,
    ),
    ("ready-poll-first", view(PAIRED, link=OPENING), 5.0, Alarm.READY_POLL),
    ("ready-poll-login", view(BACK, link=OPENING), 15.0, Alarm.READY_POLL),
    ("ready-poll-again", view(PAIRED, link=replace(OPENING, polled_at=T0)), 15.0, Alarm.READY_POLL),
    ("connecting-watchdog", view(BACK, record=watched("connecting_watchdog_at")), 600.0, Alarm.CONNECTING_TIMEOUT),
    ("connect", view(BACK, link=replace(OPENING, polled_at=T0 + 1e9)), 60.0, Alarm.CONNECT_TIMEOUT),
    ("connect-after-a-late-scan", view(PAIRED, link=SCANNED), 60.0, Alarm.CONNECT_TIMEOUT),
    (
        "connect-after-a-clock-set-back",
        view(SET_BACK, link=replace(OPENING, polled_at=T0 + 1e9)),
        60.0,
        Alarm.CONNECT_TIMEOUT,
    ),
    ("ready-poll-after-a-late-scan", view(PAIRED, link=LinkView(since=T0 - 150)), 5.0, Alarm.READY_POLL),
    ("soft-restart", view(BACK, restart=Restart(False, T0, True)), 180.0, Alarm.RESTART_TIMEOUT),
    ("hard-restart", view(BACK, restart=Restart(True, T0, True)), 180.0, Alarm.RESTART_TIMEOUT),
    ("health", view(READY, link=alive(checked_at=None)), 1_200.0, Alarm.HEALTH_CHECK),
    ("health-again", view(READY, link=alive(opened_at=T0 - 5_000, checked_at=T0)), 1_200.0, Alarm.HEALTH_CHECK),
    ("stale", view(READY, link=alive(heard_at=T0)), 300.0, Alarm.STALE),
    ("recycle", view(READY, link=alive(active_at=T0)), 86_400.0, Alarm.RECYCLE),
    ("recycle-of-one-that-never-spoke", view(READY, link=alive(active_at=0.0)), 86_400.0, Alarm.RECYCLE),
    ("recycle-spread", view(READY, link=alive(active_at=T0), spread=0.5), 90_720.0, Alarm.RECYCLE),
    ("mute-pings", view(READY, link=alive(unanswered_since=T0)), 45.0, Alarm.MUTE),
    ("mute-message", view(READY, link=alive(unhandled_since=T0)), 30.0, Alarm.MUTE),
]


@pytest.mark.parametrize(("seen", "after", "alarm"), [row[1:] for row in B4], ids=[row[0] for row in B4])
def test_a_timer_rings_at_its_time_and_not_before(seen: View, after: float, alarm: Alarm) -> None:
    assert alarm not in ringing(seen, after - 0.01)
    assert ringing(seen, after)[0] is alarm


def test_every_alarm_has_a_row_or_a_test_of_its_own() -> None:
    assert {row[3] for row in B4} | {Alarm.QR_RELOAD, Alarm.QR_RECREATE, Alarm.QR_GIVE_UP, Alarm.LOOK} == set(Alarm)


@pytest.mark.parametrize("row", [row for row in B4 if row[3] is not Alarm.MUTE], ids=lambda row: row[0])
def test_what_is_not_due_yet_says_when_it_will_be(row: tuple[str, View, float, Alarm]) -> None:
    _, seen, after, alarm = row
    assert [at for at, found in alarms(replace(seen, now=T0 + after - 1), TIMERS) if found is alarm] == [T0 + after]


QUIET: list[tuple[str, View]] = [
    ("ready", view(READY)),
    ("ready-with-old-facts", view(READY, record=replace(RECORD, ready_watchdog_at=T0, connecting_watchdog_at=T0))),
    ("paused", view(replace(BACK, state=State.PAUSED), record=replace(RECORD, ready_watchdog_at=T0))),
    *[
        (
            str(state),
            view(replace(BACK, state=state), record=replace(RECORD, ready_watchdog_at=T0, connecting_watchdog_at=T0)),
        )
        for state in (State.ERROR, State.FAILED_QR_TIMEOUT, State.RESTRICTED)
    ],
    ("created-long-ago", view(NEW)),
    ("waits-for-its-next-attempt", view(replace(BACK, state=State.DISCONNECTED))),
    ("one-soft-restart-per-pairing", view(PAIRED, record=watched("ready_watchdog_at", ready_timed_out=True))),
    ("linked-needs-no-init", view(BACK, init_since=T0)),
    (
        "shows-a-code",
        view(
            replace(SCAN, qr="code"),
            init_since=T0,
            record=replace(RECORD, last_qr_at=T0 + 1e9, needs_qr_since=T0 + 1e9),
        ),
    ),
]


@pytest.mark.parametrize("seen", [row[1] for row in QUIET], ids=[row[0] for row in QUIET])
def test_nothing_rings_where_nothing_is_awaited(seen: View) -> None:
    assert ringing(seen, 1e7) == []


def test_a_link_that_waits_for_a_scan_has_no_time_limit_of_its_own() -> None:
    seen = view(replace(SCAN, state_at=T0), link=OPENING, record=replace(RECORD, needs_qr_since=T0, last_qr_at=T0 + 80))
    assert ringing(seen, 100) == []


def test_a_busy_link_is_not_recycled() -> None:
    assert Alarm.RECYCLE not in ringing(view(READY, link=alive(active_at=T0, busy=True)), 200_000)
    assert Alarm.RECYCLE not in ringing(view(READY, link=alive(active_at=T0)), 200_000, Timers(recycle_idle=0))


def test_a_clock_that_was_set_back_puts_off_no_poll() -> None:
    set_back = replace(PAIRED, authenticated_at=T0 + 3_600)
    assert ringing(view(set_back, link=OPENING), 15.0) == [Alarm.READY_POLL]


def test_the_soonest_comes_first_and_of_those_due_the_most_urgent() -> None:
    record = replace(RECORD, ready_watchdog_at=T0, connecting_watchdog_at=T0)
    seen = view(PAIRED, record=record, link=OPENING, restart=Restart(False, T0, True))
    due = [
        Alarm.READY_TIMEOUT,
        Alarm.RESTART_TIMEOUT,
        Alarm.CONNECTING_TIMEOUT,
        Alarm.CONNECT_TIMEOUT,
        Alarm.READY_POLL,
    ]
    assert ringing(seen, 10_000) == due
    times = [at for at, _ in alarms(seen, TIMERS)]
    assert times == sorted(times)
    assert ringing(view(READY, link=alive(heard_at=T0, unanswered_since=T0)), 400) == [Alarm.MUTE, Alarm.STALE]


def test_an_open_link_is_looked_at_every_ten_seconds() -> None:
    assert alarms(view(READY, link=alive()), TIMERS)[0] == (T0 + 10.0, Alarm.LOOK)


@pytest.mark.parametrize(
    ("timers", "waits"),
    [
        (TIMERS, [2, 4]),
        (Timers(restart_backoff=Backoff(300, 400)), [300, 400]),
        (Timers(restart_waits=(5.0, 15.0, 60.0)), [5, 15]),
        (Timers(restart_waits=(7.0,)), [7, 7]),
    ],
    ids=["default", "backoff", "sequence", "short-sequence"],
)
def test_the_waits_before_a_soft_and_a_hard_restart(timers: Timers, waits: list[float]) -> None:
    assert [timers.restart_wait(1), timers.restart_wait(2)] == waits


# --- mute -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "evidence"),
    [
        (alive(), None),
        (alive(unacked=1), None),
        (alive(unacked=2), MuteEvidence.UNACKED_SENDS),
        (alive(unhandled_since=T0 - 29.9), None),
        (alive(unhandled_since=T0 - 30), MuteEvidence.UNHANDLED_MESSAGE),
        (alive(unanswered_since=T0 - 44.9), None),
        (alive(unanswered_since=T0 - 45), MuteEvidence.UNANSWERED_PINGS),
        (replace(alive(unacked=9, unhandled_since=0.0, unanswered_since=0.0), opened_at=None), None),
    ],
    ids=["well", "one-unacked", "two-unacked", "handled-in-time", "unhandled", "pinged", "unanswered", "not-open-yet"],
)
def test_a_link_is_mute_by_evidence_only(link: LinkView, evidence: MuteEvidence | None) -> None:
    seen = view(READY, link=link)
    assert mute_evidence(seen, TIMERS) is evidence
    if link.opened_at is not None:
        assert (Alarm.MUTE in ringing(seen, 0)) is (evidence is not None)


def test_without_a_link_nothing_is_mute() -> None:
    assert mute_evidence(view(READY), TIMERS) is None


# --- the wait for a scan, through the alarms --------------------------------------------------------------------------


def test_the_alarms_of_a_code_that_nobody_scans() -> None:
    fresh = view(SCAN, record=replace(RECORD, needs_qr_since=T0, last_qr_at=T0))
    assert [(at - T0, alarm) for at, alarm in alarms(fresh, TIMERS)] == [(10.0, Alarm.LOOK)]
    assert ringing(fresh, 91) == [Alarm.QR_RELOAD]
    tried = replace(fresh, record=replace(fresh.record, qr_recovery_attempts=1, qr_recovery_at=T0 + 91))
    assert ringing(tried, 121) == [Alarm.QR_RECREATE]
    used_up = replace(fresh, record=replace(fresh.record, qr_recovery_attempts=3, qr_recovery_at=T0 + 181))
    assert ringing(used_up, 241) == [Alarm.QR_GIVE_UP]
