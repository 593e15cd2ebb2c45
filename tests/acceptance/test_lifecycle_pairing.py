"""Pairings that get stuck: nobody scans, nothing is shown, the account never becomes ready; and what a retry does."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import ANY

import pytest
from tests.support.scene import PAIRED, QR, READY, Scene, Stage, open_stage
from tests.support.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("lifecycle-pairing")]

WATCHDOG_MS = 5000
TIMED_OUT = ("ready_timeout", {"elapsedMs": ANY, "authenticatedAt": ANY, "state": ANY})


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Codes that are over after a moment, and little patience with accounts that do not become ready.

    As much patience as a scan and a login take on a busy machine.
    """
    settings = {
        "QR_FIRST_MS": "400",
        "QR_NEXT_MS": "150",
        "QR_STALE_MS": "600",
        "QR_TTL_MS": "5000",
        "QR_RECOVERY_WATCHDOG_INTERVAL_MS": "100",
        "QR_RECOVERY_BACKOFF_MS": "200,200,200",
        "INIT_TIMEOUT_MS": "2500",
        "READY_WATCHDOG_MS": str(WATCHDOG_MS),
        "READY_TIMEOUT_PAUSE_MIN": "0.05",
        "RESTART_BACKOFF_MS": "100",
    }
    with open_stage(tmp_path_factory.mktemp("pairing"), **settings) as stage:
        yield stage


@pytest.fixture
def fresh(stage: Stage, name: str) -> Iterator[Scene]:
    """An instance that was just created; nobody scanned yet."""
    with stage.scene(name, linked=False) as scene:
        yield scene


def test_codes_that_nobody_scans_end_and_a_retry_shows_new_ones(fresh: Scene) -> None:
    fresh.account.wait_state("failed_qr_timeout", timeout=30)
    # A link that was being opened when it was given up may still be shown a code, which nobody gets.
    fresh.settle()
    until(lambda: fresh.stage.box.stats()["connections"] == 1, 20, "more links than the neighbour's")
    rounds = fresh.counts.qr
    assert 1 <= rounds <= 10, "the rounds of codes have an end"
    assert fresh.account.status()["instanceStatus"] == "disconnected"
    assert "retry" in fresh.refused("restart")
    assert fresh.account.try_send(fresh.customer, "nobody can send this").status_code == 400
    gone = fresh.stage.gateway.http("GET", f"/instances/{fresh.account.id}/client/qr")
    assert gone.status_code == 404
    fresh.settle()
    assert fresh.counts.qr == rounds, "no code before someone asks"
    assert fresh.incidents()[-1] == "qr_timeout"
    assert {event for event, _ in fresh.posted} <= {"qr", "ready_timeout"}

    fresh.ask("retry")
    fresh.account.scan()
    fresh.account.wait_state("ready")
    until(lambda: fresh.posted[-1] == READY, 20, "no webhook ready")
    assert [event for event, _ in fresh.posted][-3:] == ["qr", "authenticated", "ready"]
    assert fresh.path == [
        "connecting",
        "needs_qr",
        "failed_qr_timeout",
        "connecting",
        "needs_qr",
        "connecting",
        "ready",
    ]
    fresh.say("after a retry")


def test_a_new_code_replaces_one_that_is_over_and_can_be_scanned(fresh: Scene) -> None:
    first = fresh.account.wait_qr()
    until(lambda: fresh.account.wait_qr() != first, 20, "the code does not change")
    assert fresh.path == ["connecting", "needs_qr"]
    fresh.account.scan()
    fresh.account.wait_state("ready")
    fresh.say("linked by a later code")


def test_an_account_that_never_gets_ready_is_restarted_once_and_says_so(fresh: Scene) -> None:
    fresh.arm({"neverReady": {}})
    fresh.account.scan()
    shown = fresh.counts.qr
    until(lambda: ("ready_timeout", ANY) in fresh.posted, 20, lambda: str(fresh.posted))
    (data,) = (data for event, data in fresh.posted if event == "ready_timeout")
    assert data["elapsedMs"] >= WATCHDOG_MS
    assert data["authenticatedAt"] is not None
    assert data["state"] in ("connecting", "disconnected")
    assert fresh.diagnostics()["readySource"] is None
    fresh.wait_posted(*([QR] * sum(posted == QR for posted in fresh.posted)), PAIRED, TIMED_OUT, READY)
    assert "paused" in fresh.path
    assert fresh.path[-3:] == ["paused", "connecting", "ready"]
    assert fresh.counts.qr == shown, "no new code"
    assert fresh.incidents() == ["ready_timeout"]
    fresh.say("ready after all")


def test_an_instance_that_gets_no_code_ends_in_error_and_a_retry_begins_anew(stage: Stage, name: str) -> None:
    # Before the login nobody knows who connects: the neighbour has its link already.
    fault = stage.box.arm({"handshakeSilent": {}}, 0)
    with stage.scene(name, linked=False) as scene:
        scene.account.wait_state("error", timeout=20)
        assert scene.account.status()["instanceStatus"] == "disconnected"
        assert scene.diagnostics()["lastError"] == "Failed to initialize after 2 attempts"
        assert (scene.incidents(), scene.counts.qr, scene.posted) == (["init_failed"], 0, [])
        stage.box.disarm(fault)
        scene.settle()
        assert scene.account.status()["state"] == "error"
        scene.ask("retry")
        scene.account.scan()
        scene.account.wait_state("ready")
        scene.say("after a retry")
