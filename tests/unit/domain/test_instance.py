"""The state table of an instance (contract B, 0.12)."""

from __future__ import annotations

import pytest

from wahub.domain.errors import IllegalTransitionError
from wahub.domain.instance import TRANSITIONS, Disconnect, Event, State, accepts_sends, public_status, transition


def test_every_state_has_its_row_and_its_public_word() -> None:
    assert set(TRANSITIONS) == set(State)
    assert {state: public_status(state) for state in State} == {
        State.CONNECTING: "initializing",
        State.NEEDS_QR: "qr",
        State.READY: "ready",
        State.DISCONNECTED: "disconnected",
        State.PAUSED: "paused",
        State.RESTRICTED: "restricted",
        State.ERROR: "disconnected",
        State.FAILED_QR_TIMEOUT: "disconnected",
    }


def test_what_is_not_in_the_table_is_illegal() -> None:
    for state in State:
        for event in set(Event) - set(TRANSITIONS[state]):
            with pytest.raises(IllegalTransitionError, match=f"{event} in state {state}"):
                transition(state, event)


def test_ready_comes_only_from_an_opened_link() -> None:
    into_ready = {
        event
        for state, row in TRANSITIONS.items()
        for event, after in row.items()
        if after is State.READY and state is not State.READY
    }
    assert into_ready == {Event.OPENED}


def test_losing_the_network_never_asks_for_a_scan() -> None:
    for reason in Disconnect:
        after = transition(State.READY, reason.event) if reason.event in TRANSITIONS[State.READY] else State.READY
        dead = reason in (Disconnect.LOGGED_OUT, Disconnect.MULTIDEVICE_MISMATCH)
        assert (after is State.NEEDS_QR) is dead, reason


def test_a_qr_code_while_ready_changes_nothing() -> None:
    assert transition(State.READY, Event.QR) is State.READY


@pytest.mark.parametrize(
    ("reason", "event"),
    [
        (Disconnect.LOGGED_OUT, Event.LOGGED_OUT),
        (Disconnect.MULTIDEVICE_MISMATCH, Event.LOGGED_OUT),
        (Disconnect.BANNED, Event.BANNED),
        (Disconnect.REPLACED, Event.REPLACED),
        (Disconnect.RESTART_REQUIRED, Event.RESTART_REQUIRED),
        (Disconnect.QR_EXPIRED, Event.QR_ENDED),
        (Disconnect.TIMED_OUT, Event.LINK_LOST),
        (Disconnect.ENGINE_DIED, Event.LINK_LOST),
        (Disconnect.TERM_EXPIRED, Event.LINK_LOST),
        (Disconnect.UNKNOWN, Event.LINK_LOST),
    ],
)
def test_what_a_reason_stands_for(reason: Disconnect, event: Event) -> None:
    assert reason.event is event


def test_only_a_missing_scan_refuses_sends() -> None:
    refused = {state for state in State if not accepts_sends(state)}
    assert refused == {State.NEEDS_QR, State.FAILED_QR_TIMEOUT}
