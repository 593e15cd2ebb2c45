"""Links that end, each as WhatsApp or the network can end them (contract B.6 and 0.12), with the real engine.

For every fault: the states gone through, the webhooks in order, how many logins it took, no new QR code unless the
contract says so, a neighbour that notices nothing, and texts sent before, meanwhile and afterwards that are shown once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from unittest.mock import ANY

import pytest
from tests.support.scene import QR, READY, Counts, Posted, Scene, later, link_again, lost
from tests.support.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("lifecycle")]

RESTRICTED: Posted = ("restricted", {"reason": "banned", "restrictedUntil": ANY, "message": ANY})
REFUSED: Posted = ("auth_failure", {"message": ANY})
BACK = ("ready", "disconnected", "connecting", "ready")
TAKEN_OVER = ("ready", "paused", "disconnected", "connecting", "ready")


@dataclass(frozen=True, slots=True)
class Fate:
    """What follows from an ending."""

    path: tuple[str, ...]
    posted: tuple[Posted, ...]
    logins: int
    """Logins tried."""
    qr: int = 0
    incidents: tuple[str, ...] = ()
    sends: bool = True
    """Whether a send is accepted afterwards."""


def returns(reason: str, path: tuple[str, ...] = BACK) -> Fate:
    """It comes back by itself, at once."""
    return Fate(path, (lost(reason), READY), logins=1)


NO_MORE = Fate(("ready", "needs_qr"), (lost("multidevice_mismatch"),), 0, 0, ("multidevice_mismatch",), sends=False)

LIVE: dict[str, tuple[dict[str, Any], Fate]] = {
    "dropped": ({"drop": {}}, returns("connection_closed")),
    "401-device-removed": (
        {"streamError": {"code": 401}},
        Fate(("ready", "needs_qr"), (lost("logged_out"), QR), 0, 1, ("logged_out",), sends=False),
    ),
    "403": (
        {"streamError": {"code": 403}},
        Fate(("ready", "restricted"), (RESTRICTED, lost("banned")), 0, 0, ("banned",)),
    ),
    "408": ({"streamError": {"code": 408}}, returns("timed_out")),
    "411": ({"streamError": {"code": 411}}, NO_MORE),
    "428": ({"streamError": {"code": 428}}, returns("connection_closed")),
    "440": ({"streamError": {"code": 440}}, returns("replaced", TAKEN_OVER)),
    "replaced": ({"replaced": {}}, returns("replaced", TAKEN_OVER)),
    "500": ({"streamError": {"code": 500}}, returns("bad_session")),
    "503": ({"streamError": {"code": 503}}, returns("unavailable")),
    "515": ({"streamError": {"code": 515}}, Fate(("ready", "connecting", "ready"), (READY,), logins=1)),
}


@pytest.mark.parametrize("fault", LIVE)
def test_a_live_link_ends(fault: str, scene: Scene) -> None:
    do, fate = LIVE[fault]
    scene.say("before")
    if not fate.sends:
        # It waits for its time while the account is lost.
        scene.say("kept", sendAt=later(1.0))
    scene.customer.wait_texts(scene.texts[:1])
    scene.inject(do)
    if fate.path[-1] == "ready":
        scene.say("meanwhile")
    met(scene, fate)
    if fate.path[-1] == "ready":
        scene.say("afterwards")
    elif not fate.sends:
        assert "QR" in scene.account.try_send(scene.customer, "nobody can send this").json()["error"]
        link_again(scene)


LOGINS: dict[str, tuple[int, int, Fate]] = {
    "401": (
        401,
        1,
        Fate(
            ("ready", "disconnected", "connecting", "needs_qr"),
            (lost("connection_closed"), REFUSED, lost("logged_out"), QR),
            1,
            1,
            ("logged_out",),
            sends=False,
        ),
    ),
    "403": (
        403,
        1,
        Fate(
            ("ready", "disconnected", "connecting", "restricted"),
            (lost("connection_closed"), RESTRICTED, lost("banned")),
            1,
            0,
            ("banned",),
        ),
    ),
    "411": (
        411,
        1,
        Fate(
            ("ready", "disconnected", "connecting", "needs_qr"),
            (lost("connection_closed"), REFUSED, lost("multidevice_mismatch")),
            1,
            0,
            ("multidevice_mismatch",),
            sends=False,
        ),
    ),
    "500-twice": (500, 2, Fate(("ready", *BACK[1:3] * 3, "ready"), (lost("connection_closed"), READY), 3)),
    "503-thrice": (503, 3, Fate(("ready", *BACK[1:3] * 4, "ready"), (lost("connection_closed"), READY), 4)),
}


@pytest.mark.parametrize("refusal", LOGINS)
def test_a_login_is_refused(refusal: str, scene: Scene) -> None:
    reason, times, fate = LOGINS[refusal]
    scene.say("before")
    scene.customer.wait_texts(scene.texts)
    scene.arm({"failure": {"reason": reason}}, times)
    restricted = fate.sends and fate.path[-1] != "ready"
    # A restricted account must have lost its link before that time.
    at = later(4.0 if restricted else 1.0)
    item = scene.say("kept", sendAt=at)
    scene.inject({"drop": {}})
    met(scene, fate)
    if fate.path[-1] == "ready":
        scene.say("afterwards")
    elif restricted:
        # Nothing leaves a restricted account, whatever is due.
        until(lambda: later(-0.3) > at, 10, "its time does not come")
        assert scene.account.item(item["queueId"])["state"] == "queued"
        scene.texts.pop()
    else:
        link_again(scene)


def test_logins_refused_with_500_for_ever_end_in_a_new_pairing(scene: Scene) -> None:
    scene.say("before")
    scene.customer.wait_texts(scene.texts)
    fault = scene.arm({"failure": {"reason": 500}}, 0)
    scene.inject({"drop": {}})
    scene.say("meanwhile")
    scene.wait_posted(lost("connection_closed"), REFUSED, lost("bad_session"), QR)
    assert scene.account.status()["state"] == "needs_qr"
    assert scene.incidents() == ["bad_session"]
    counts = scene.counts
    assert (counts.tried, counts.logins, counts.qr) == (5, 0, 1), "the fast attempts"
    scene.stage.box.disarm(fault)
    link_again(scene)


def test_a_ban_is_left_alone_until_its_end_and_then_someone_asks(scene: Scene) -> None:
    scene.inject({"streamError": {"code": 403}})
    scene.wait_posted(RESTRICTED, lost("banned"))
    assert "restricted by WhatsApp until" in scene.refused("restart")
    assert "retry works in error" in scene.refused("retry")
    assert scene.account.status()["instanceStatus"] == "restricted"
    item = scene.say("while restricted")
    assert scene.account.item(item["queueId"])["state"] == "queued"
    assert scene.diagnostics()["lastError"] == "banned"
    scene.settle()
    assert scene.counts.attempts == 0
    until(lambda: restart_accepted(scene), 10, "the restriction does not end")
    scene.wait_posted(RESTRICTED, lost("banned"), READY)
    assert scene.path == ["ready", "restricted", "connecting", "ready"]
    assert (scene.counts.tried, scene.counts.qr) == (1, 0)


def met(scene: Scene, fate: Fate) -> None:
    """The fate came true, and nothing but it."""
    scene.wait_posted(*fate.posted)
    scene.wait_path(*fate.path)
    scene.settle()
    assert scene.posted == list(fate.posted)
    assert tuple(scene.path) == fate.path
    ready = fate.path[-1] == "ready"
    expected = Counts(attempts=fate.logins + fate.qr, logins=int(ready), tried=fate.logins, qr=fate.qr)
    assert scene.counts == expected
    assert tuple(scene.incidents()) == fate.incidents


def restart_accepted(scene: Scene) -> bool:
    """Ask for a restart."""
    path = f"/instances/{scene.account.id}/restart"
    return scene.stage.gateway.http("POST", path, {}).status_code == 200
