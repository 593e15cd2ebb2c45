"""Links that hesitate, say nothing, or are taken over: seen by evidence and healed, with the real engine."""

from __future__ import annotations

import pytest
from tests.support.scene import READY, Counts, Scene, lost

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("lifecycle")]

BACK = ["ready", "disconnected", "connecting", "ready"]
CUT = lost("connection_closed")
MUTE = ("change_state", {"status": "CONNECTED_MUTE"})


# --- opening a link ---------------------------------------------------------------------------------------------------


def test_a_slow_handshake_is_waited_for(scene: Scene) -> None:
    scene.stage.box.arm({"slow": {"ms": 900}}, stanza="handshake")
    scene.inject({"drop": {}})
    scene.say("meanwhile")
    scene.wait_posted(CUT, READY)
    assert scene.path == BACK
    assert scene.counts == Counts(attempts=1, logins=1, tried=1, qr=0)


@pytest.mark.parametrize("fault", ["handshakeSilent", "upgradeSilent"])
def test_an_attempt_that_is_never_answered_is_given_up_and_the_next_succeeds(fault: str, scene: Scene) -> None:
    scene.stage.box.arm({fault: {}})
    scene.inject({"drop": {}})
    scene.say("meanwhile")
    scene.wait_posted(CUT, READY)
    assert scene.path == ["ready", *BACK[1:3] * 2, "ready"]
    assert scene.counts == Counts(attempts=2, logins=1, tried=1, qr=0)
    reasons = [line["reason"] for line in scene.logged if line["event"] == "disconnected"]
    assert reasons == ["connection_closed", "timed_out"]


def test_a_login_that_is_never_confirmed_is_given_up(scene: Scene) -> None:
    scene.arm({"neverReady": {}})
    scene.inject({"drop": {}})
    scene.say("meanwhile")
    scene.wait_posted(CUT, READY)
    assert scene.path == ["ready", *BACK[1:3] * 2, "ready"]
    assert scene.counts == Counts(attempts=2, logins=1, tried=2, qr=0)


def test_a_link_that_never_says_it_is_open_is_ready_by_poll(scene: Scene) -> None:
    scene.say("before")
    scene.customer.wait_texts(scene.texts)
    scene.arm({"neverOpen": {}})
    scene.inject({"drop": {}})
    scene.wait_posted(CUT, READY)
    assert scene.path == BACK
    seen = scene.diagnostics()
    assert (seen["readySource"], seen["readyPollAttempts"] >= 1) == ("poll", True)
    # This link takes no message, either. Two without an answer prove it.
    scene.say("first into the void")
    scene.say("second into the void")
    scene.wait_posted(CUT, READY, MUTE, lost("timed_out"), READY)
    assert scene.diagnostics()["readySource"] == "event"
    assert scene.counts == Counts(attempts=2, logins=2, tried=2, qr=0)


# --- a link that is up ------------------------------------------------------------------------------------------------


def test_a_mute_link_is_seen_by_two_sends_without_an_answer(scene: Scene) -> None:
    scene.say("before")
    scene.customer.wait_texts(scene.texts)
    scene.inject({"mute": {}})
    scene.say("first into the void")
    scene.say("second into the void")
    scene.customer.send(scene.account.phone, "is anybody there?")
    scene.stage.gateway.secrets.add("is anybody there?")
    scene.wait_posted(MUTE, lost("timed_out"), READY)
    assert scene.path == BACK
    seen = scene.diagnostics()
    assert (seen["mutes"], seen["connectedMute"]) == (1, None)
    assert scene.incidents() == ["connected_mute"]
    assert scene.counts == Counts(attempts=1, logins=1, tried=1, qr=0)
    got = scene.stage.gateway.hooks.wait("message", scene.account.id)
    assert got.data["message"]["text"] == "is anybody there?"


def test_one_send_without_an_answer_proves_nothing(scene: Scene) -> None:
    scene.arm({"noAck": {}}, stanza="message")
    reply = scene.say("acknowledged at the second try")
    scene.account.wait_item(reply["queueId"], "sent")
    scene.settle()
    assert (scene.posted, scene.path, scene.counts.attempts) == ([], [], 0)


def test_a_half_open_link_is_noticed_by_its_silence(scene: Scene) -> None:
    scene.inject({"silent": {"deaf": True}})
    scene.say("into a dead line")
    scene.customer.send(scene.account.phone, "from a dead line")
    scene.stage.gateway.secrets.add("from a dead line")
    scene.wait_posted(lost("timed_out"), READY)
    assert scene.path == BACK
    assert scene.counts == Counts(attempts=1, logins=1, tried=1, qr=0)
    assert scene.stage.gateway.hooks.wait("message", scene.account.id).data["message"]["text"] == "from a dead line"


# --- another client ---------------------------------------------------------------------------------------------------


def test_a_session_that_is_stolen_once_is_taken_back_after_a_wait(scene: Scene) -> None:
    scene.inject({"steal": {"afterMs": 50}})
    scene.wait_first_posted(lost("replaced"))
    scene.say("meanwhile")
    scene.wait_posted(lost("replaced"), READY)
    assert scene.path == ["ready", "paused", "disconnected", "connecting", "ready"]
    assert scene.counts == Counts(attempts=1, logins=1, tried=1, qr=0)


def test_a_session_that_is_stolen_twice_is_left_to_the_thief_until_someone_asks(scene: Scene) -> None:
    scene.inject({"steal": {"afterMs": 50}})
    scene.wait_posted(lost("replaced"), READY)
    scene.inject({"steal": {"afterMs": 50}})
    scene.wait_posted(lost("replaced"), READY, lost("replaced"))
    scene.say("while another client has the session")
    scene.settle()
    status = scene.account.status()
    assert (status["state"], status["instanceStatus"]) == ("paused", "paused")
    assert scene.diagnostics()["pausedUntil"] is None
    assert scene.counts == Counts(attempts=1, logins=1, tried=1, qr=0), "no ping-pong"
    assert scene.incidents() == ["connection_replaced"]
    scene.ask("restart")
    scene.wait_posted(lost("replaced"), READY, lost("replaced"), READY)
    assert scene.counts == Counts(attempts=2, logins=2, tried=2, qr=0)
