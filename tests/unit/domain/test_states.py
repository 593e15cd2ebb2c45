"""The state table of an instance: every row of contract B.3, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wahub.domain.errors import IllegalTransitionError
from wahub.domain.ids import InstanceId
from wahub.domain.instance import TRANSITIONS, Event, State, accepts_sends, public_status, transition
from wahub.domain.lifecycle import Lifecycle, entered

ROOT = Path(__file__).parents[3]
NOW = 1_700_000_000.0

CONNECTING, NEEDS_QR, READY = State.CONNECTING, State.NEEDS_QR, State.READY
DISCONNECTED, PAUSED, RESTRICTED = State.DISCONNECTED, State.PAUSED, State.RESTRICTED
ERROR, QR_TIMEOUT = State.ERROR, State.FAILED_QR_TIMEOUT
RECONNECTING = (CONNECTING, DISCONNECTED, PAUSED, READY)
"""States in which links come and go."""

B3: list[tuple[str, tuple[State, ...], Event, State | None]] = [
    # Each row of B.3 that a socket engine has; None: the state stays.
    ("qr-of-a-new-one", (CONNECTING, DISCONNECTED, PAUSED, ERROR), Event.QR, NEEDS_QR),
    ("qr-while-ready", (READY,), Event.QR, None),
    ("qr-again", (NEEDS_QR,), Event.QR, None),
    ("qr-on-its-way-when-given-up", (QR_TIMEOUT,), Event.QR, None),
    ("scanned", (NEEDS_QR,), Event.PAIRED, CONNECTING),
    ("scanned-elsewhere", (CONNECTING, DISCONNECTED, PAUSED, READY, ERROR, QR_TIMEOUT), Event.PAIRED, None),
    ("opened", (CONNECTING, DISCONNECTED, PAUSED, NEEDS_QR, ERROR), Event.OPENED, READY),
    ("opened-again", (READY,), Event.OPENED, None),
    ("auth-failure", tuple(State), Event.AUTH_FAILED, NEEDS_QR),
    ("restriction", (*RECONNECTING, NEEDS_QR), Event.RESTRICTED, RESTRICTED),
    ("restriction-again", (RESTRICTED,), Event.RESTRICTED, None),
    ("logged-out", tuple(State), Event.LOGGED_OUT, NEEDS_QR),
    ("lost", RECONNECTING, Event.LINK_LOST, DISCONNECTED),
    ("lost-at-rest", (NEEDS_QR, RESTRICTED, ERROR, QR_TIMEOUT), Event.LINK_LOST, None),
    ("cooldown", RECONNECTING, Event.COOLDOWN, PAUSED),
    ("cooldown-over", (PAUSED,), Event.COOLDOWN_OVER, DISCONNECTED),
    ("attempt", RECONNECTING, Event.LINK_STARTED, CONNECTING),
    ("slow-attempt", RECONNECTING, Event.LINK_RETRIED, DISCONNECTED),
    ("attempt-without-account", (NEEDS_QR,), Event.LINK_STARTED, None),
    ("slow-attempt-without-account", (NEEDS_QR,), Event.LINK_RETRIED, None),
    ("attempt-under-way-when-given-up", (ERROR, QR_TIMEOUT), Event.LINK_STARTED, None),
    ("exhausted-by-the-old-rule", (*RECONNECTING, NEEDS_QR), Event.EXHAUSTED, NEEDS_QR),
    ("failed", (*RECONNECTING, NEEDS_QR, ERROR), Event.FAILED, ERROR),
    ("restart-limit", RECONNECTING, Event.LIMIT_REACHED, PAUSED),
    ("qr-round-over", (NEEDS_QR,), Event.QR_ENDED, None),
    ("qr-given-up", (NEEDS_QR,), Event.QR_GIVEN_UP, QR_TIMEOUT),
    ("retry", (ERROR, QR_TIMEOUT), Event.RETRY, CONNECTING),
    ("replaced", (*RECONNECTING, NEEDS_QR), Event.REPLACED, PAUSED),
    ("restart-required", (*RECONNECTING, NEEDS_QR), Event.RESTART_REQUIRED, CONNECTING),
    ("restart", (*RECONNECTING, RESTRICTED), Event.RESTART, CONNECTING),
    ("ready-timeout", RECONNECTING, Event.READY_TIMED_OUT, PAUSED),
    ("pairing-lost", (CONNECTING, NEEDS_QR), Event.PAIRING_LOST, None),
]
LEGAL = {(state, event) for _, states, event, _ in B3 for state in states}


@pytest.mark.parametrize(("states", "event", "after"), [row[1:] for row in B3], ids=[row[0] for row in B3])
def test_a_row_of_the_table(states: tuple[State, ...], event: Event, after: State | None) -> None:
    assert {state: transition(state, event) for state in states} == {state: after or state for state in states}


@pytest.mark.parametrize("state", State)
def test_whatever_is_in_no_row_is_refused(state: State) -> None:
    refused = [event for event in Event if (state, event) not in LEGAL]
    for event in refused:
        with pytest.raises(IllegalTransitionError, match=f"{event} in state {state}"):
            transition(state, event)
    assert len(refused) + len(TRANSITIONS[state]) == len(Event)


def test_a_code_on_a_link_that_was_paired_a_moment_ago_is_spurious() -> None:
    assert transition(CONNECTING, Event.QR, authenticated=True) is CONNECTING
    assert transition(DISCONNECTED, Event.QR, authenticated=True) is NEEDS_QR


def test_ready_comes_only_from_an_opened_link() -> None:
    rows = ((before, event, after) for before, row in TRANSITIONS.items() for event, after in row.items())
    assert {event for before, event, after in rows if after is READY and before is not READY} == {Event.OPENED}


@pytest.mark.parametrize("state", State)
def test_every_state_can_be_left_for_ready(state: State) -> None:
    reached, new = {state}, {state}
    while new:
        new = {after for before in new for after in TRANSITIONS[before].values()} - reached
        reached |= new
    assert READY in reached


def test_the_words_that_callers_see() -> None:
    assert {state: public_status(state) for state in State} == {
        CONNECTING: "initializing",
        NEEDS_QR: "qr",
        READY: "ready",
        DISCONNECTED: "disconnected",
        PAUSED: "paused",
        RESTRICTED: "restricted",
        ERROR: "disconnected",
        QR_TIMEOUT: "disconnected",
    }


def test_only_a_missing_scan_refuses_sends() -> None:
    assert {state for state in State if not accepts_sends(state)} == {NEEDS_QR, QR_TIMEOUT}


def test_the_document_is_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "gen_states", "--check"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


# --- what a move does to the record (contract B.2) --------------------------------------------------------------------

USED = Lifecycle(
    InstanceId("shop"),
    needs_qr_since=NOW - 50,
    last_qr_at=NOW - 40,
    qr_recovery_attempts=2,
    qr_recovery_at=NOW - 30,
    qr_rounds_left=1,
    pairing_phone="201111111111",
    pairing_code="ABCD1234",
    pairing_code_expires_at=NOW + 10,
    pairing_error="refused",
    ready_watchdog_at=NOW - 20,
    ready_timed_out=True,
    connecting_watchdog_at=NOW - 20,
    connecting_watchdog_restarts=1,
    paused_until=NOW + 5,
    pause_reason="cooldown",
    restricted_until=NOW + 5,
    restarts=(NOW - 10,),
    bad_sessions=3,
    mute_since=NOW - 9,
    mute_evidence="unacked_sends",
    credentials_dead=True,
)


def test_waiting_for_a_scan_begins_anew_when_it_is_entered() -> None:
    record = entered(USED, READY, NEEDS_QR, Event.LOGGED_OUT, NOW)
    assert (record.needs_qr_since, record.last_qr_at) == (NOW, None)
    assert (record.qr_recovery_attempts, record.qr_recovery_at) == (0, None)
    assert record.qr_rounds_left == 1, "how many rounds may begin is decided by whoever moved it"


def test_waiting_on_for_a_scan_changes_none_of_its_clocks() -> None:
    assert entered(USED, NEEDS_QR, NEEDS_QR, Event.QR, NOW) == USED


def test_what_was_for_pairing_goes_with_it() -> None:
    record = entered(USED, NEEDS_QR, CONNECTING, Event.PAIRED, NOW)
    assert (record.needs_qr_since, record.qr_rounds_left) == (None, None)
    assert (record.pairing_phone, record.pairing_code, record.pairing_code_expires_at) == (None, None, None)
    assert record.pairing_error is None


def test_ready_ends_watchdogs_and_pauses_and_keeps_the_restart_window() -> None:
    record = entered(USED, CONNECTING, READY, Event.OPENED, NOW)
    assert (record.ready_watchdog_at, record.ready_timed_out) == (None, False)
    assert (record.connecting_watchdog_at, record.connecting_watchdog_restarts) == (None, 0)
    assert (record.paused_until, record.pause_reason, record.restricted_until) == (None, None, None)
    assert (record.bad_sessions, record.mute_since, record.mute_evidence, record.credentials_dead) == (
        0,
        None,
        None,
        False,
    )
    assert record.restarts == USED.restarts


def test_a_qr_code_in_ready_heals_nothing() -> None:
    assert entered(USED, READY, READY, Event.QR, NOW) == USED


@pytest.mark.parametrize("after", [ERROR, QR_TIMEOUT, RESTRICTED])
def test_no_watchdog_goes_on_where_nothing_is_tried(after: State) -> None:
    """Else it would ring at the moment somebody asks for a retry, hours later."""
    record = entered(USED, CONNECTING, after, Event.FAILED, NOW)
    assert (record.ready_watchdog_at, record.connecting_watchdog_at) == (None, None)


def test_a_pause_counts_for_no_watchdog() -> None:
    paused = entered(USED, CONNECTING, PAUSED, Event.REPLACED, NOW)
    assert paused.connecting_watchdog_at is None
    over = entered(paused, PAUSED, DISCONNECTED, Event.COOLDOWN_OVER, NOW + 3_600)
    assert (over.ready_watchdog_at, over.paused_until, over.pause_reason) == (NOW + 3_600, None, None)
