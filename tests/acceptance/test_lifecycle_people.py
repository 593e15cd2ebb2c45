"""What people do to instances: pairing by code, restarts, a phone that is off, unlinking and linking again, proxies."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.proxies import HttpProxy, Proxy, Socks5Proxy
from tests.support.proxy_thread import proxy_up
from tests.support.scene import PAIRED, QR, READY, Counts, Scene, Stage, later, lost, pairing_code
from tests.support.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("lifecycle")]

PASSWORD = "p@ss:w/rd #1"
IN_TIME = 4.0
"""Seconds within which a link is lost that something waits behind, on a busy machine too."""


# --- pairing by code --------------------------------------------------------------------------------------------------


def test_a_typed_code_links_an_instance_and_a_wrong_one_does_not(stage: Stage, name: str) -> None:
    with stage.scene(name, linked=False) as scene:
        asked = stage.box.stats()["codesAsked"]
        code = pairing_code(scene)
        assert pairing_code(scene) == code, "a second question does not make the first answer worthless"
        # Linked before it could be posted, the webhook of the QR code would be dropped.
        stage.gateway.hooks.wait("qr", scene.account.id)
        with pytest.raises(AssertionError, match="409"):
            scene.account.phone.type_code("ABCDEFGH")
        scene.account.phone.type_code(code)
        scene.wait_posted(QR, PAIRED, READY)
        assert scene.path == ["connecting", "needs_qr", "connecting", "ready"]
        assert (scene.counts.qr, scene.counts.logins) == (1, 1)
        assert stage.box.stats()["codesAsked"] == asked + 1
        assert "linked already" in scene.refused("client/pairing-code", phone=scene.account.phone.number)
        scene.say("linked by code")


# --- restarts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_a_ready_instance_is_restarted_on_request(kind: str, scene: Scene) -> None:
    scene.say("before")
    answer = scene.ask("restart", type=kind)
    assert answer["currentState"] == "ready"
    scene.say("meanwhile")
    scene.wait_posted(READY)
    scene.wait_path("ready", "connecting", "ready")
    assert scene.counts == Counts(attempts=1, logins=1, tried=1, qr=0)
    assert scene.diagnostics()["restartCount"] == 1
    assert "retry works in error" in scene.refused("retry")


# --- the phone --------------------------------------------------------------------------------------------------------


def test_a_phone_that_is_off_changes_nothing(scene: Scene) -> None:
    phone = scene.account.phone
    phone.switch(on=False)
    scene.say("my phone is off")
    scene.customer.wait_texts(scene.texts)
    scene.stage.gateway.secrets.add("and I write back")
    scene.customer.send(phone, "and I write back")
    scene.stage.gateway.hooks.wait("message", scene.account.id)
    scene.ask("restart")
    scene.wait_posted(READY)
    scene.say("a new link needs no phone, either")
    scene.customer.wait_texts(scene.texts)
    assert scene.account.status()["state"] == "ready"
    assert scene.counts == Counts(attempts=1, logins=1, tried=1, qr=0)
    phone.switch(on=True)


def test_linked_again_with_the_same_number_the_queue_goes_on(scene: Scene) -> None:
    scene.say("kept", sendAt=later(IN_TIME))
    scene.account.phone.unlink()
    scene.wait_posted(lost("logged_out"), QR)
    assert "QR" in scene.refused("restart")
    assert scene.diagnostics()["queueDepth"] == 1
    scene.account.scan()
    scene.wait_posted(lost("logged_out"), QR, PAIRED, READY)
    assert scene.path == ["ready", "needs_qr", "connecting", "ready"]
    assert scene.counts.qr == 1
    scene.say("linked again")


def test_linked_again_with_another_number_the_queue_is_held(scene: Scene) -> None:
    reply = scene.say("for the old number", sendAt=later(IN_TIME))
    scene.account.phone.unlink()
    scene.wait_posted(lost("logged_out"), QR)
    first = scene.account.phone
    scene.account.phone = scene.stage.box.new_phone()
    scene.stage.gateway.secrets.add(scene.account.phone.number)
    scene.account.scan()
    held = ("queue_held", {"queueIds": [reply["queueId"]], "reason": "account_changed"})
    scene.wait_posted(lost("logged_out"), QR, PAIRED, held, READY)
    scene.say("from the new number")
    scene.customer.wait_texts(scene.texts[1:])
    item = scene.account.item(reply["queueId"])
    assert (item["state"], item["reason"]) == ("held", "account_changed")
    assert first.devices() == []
    assert scene.ask("queue/release")["released"] == 1
    scene.account.wait_item(reply["queueId"], "sent")
    (released,) = [seen for seen in scene.customer.shown() if seen["text"] == scene.texts[0]]
    assert released["from"] == scene.account.phone.number


# --- proxies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scheme", "kind"), [("http", HttpProxy), ("socks5", Socks5Proxy)], ids=["http", "socks5"])
def test_an_instance_goes_through_its_proxy_or_not_at_all(scheme: str, kind: type[Proxy], scene: Scene) -> None:
    gateway, path = scene.stage.gateway, f"/instances/{scene.account.id}"
    proxy = kind("shop", PASSWORD)
    with proxy_up(proxy):
        address = proxy.url(scheme)
        written = address.split("@")[0].rpartition(":")[2]
        gateway.secrets |= {PASSWORD, written}
        changed = gateway.http("PUT", path, {"proxy": address}).text
        # Another way out is another link, made at once.
        scene.wait_posted(READY)
        scene.say("through the proxy")
        scene.customer.wait_texts(scene.texts)
        assert len(proxy.targets) == 1
        shown, *said = (
            gateway.http("GET", page).text for page in (f"/api/v1{path}", f"{path}/diagnostics", "/instances")
        )
        said += [changed, shown]
        said += [process_text(pid) for pid in (gateway.command.pid, *gateway.engine_pids())]
        assert all(PASSWORD not in text and written not in text for text in said)
        assert f"{scheme}://***@127.0.0.1:{proxy.port}" in shown

    until(lambda: scene.account.status()["state"] != "ready", 20, "the link outlives its proxy")
    before = scene.counts
    scene.say("while the proxy is down")
    scene.wait_logged(lambda seen: sum(line["event"] in ("disconnected", "link_ended") for line in seen) >= 5)
    scene.settle()
    assert scene.counts == before, "nothing goes around a proxy that is down"

    with proxy_up(proxy):
        scene.account.wait_state("ready")
        scene.customer.wait_texts(scene.texts)
        gateway.ok("PUT", path, {"proxy": None})
        until(lambda: proxy.open == 0, 20, "the old way out is still used")
        # Not its state: that is `ready` until the end of the old link is stored.
        until(lambda: scene.counts.logins == 3, 20, "no link without the proxy")
        scene.account.wait_state("ready")
    assert proxy.refused == 0
    assert (scene.counts.qr, scene.counts.logins) == (0, 3)


def process_text(pid: int) -> str:
    """What everybody on this machine may read of a process."""
    kept = (Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
    return b"".join(kept).decode("utf-8", "replace")
