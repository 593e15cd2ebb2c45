"""Linking an account: the QR code as a picture, and the webhooks on the way."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
import zxingcpp
from PIL import Image
from tests.support.gateway import WEBHOOK_SECRET, Gateway
from tests.support.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("shared-gateway")]


def test_a_phone_links_an_instance_by_the_picture(gateway: Gateway, name: str) -> None:
    account = gateway.create(name)
    png = account.wait_qr()
    assert account.status()["instanceStatus"] == "qr"

    device = account.phone.scan(png)["device"]
    assert device
    status = account.wait_state("ready")
    assert status["instanceStatus"] == "ready"
    assert [linked["connected"] for linked in account.phone.devices()] == [True]

    me = gateway.ok("GET", f"/instances/{account.id}/client/me")["me"]["data"]
    assert me["contactId"] == account.phone.number
    gone = gateway.http("GET", f"/instances/{account.id}/client/qr")
    assert gone.status_code == 404, "the QR code must be dropped once the instance is ready"


def test_pairing_posts_qr_authenticated_and_ready_signed_and_in_order(gateway: Gateway, name: str) -> None:
    account = gateway.create(name)
    hook = gateway.hooks.wait("qr", account.id)
    account.phone.scan(account.wait_qr())
    gateway.hooks.wait("ready", account.id)

    seen = gateway.hooks.all(instance=account.id)
    order = list(dict.fromkeys(webhook.event for webhook in seen))
    assert order == ["qr", "authenticated", "ready"]
    assert all(webhook.genuine for webhook in seen)
    assert seen[-1].data == {"status": "ready"}
    assert hook.body.startswith(b'{"event":"qr","instanceId":"' + account.id.encode() + b'","data":{"qr":"')
    assert hook.headers["content-type"].startswith("application/json")
    assert hook.headers["x-wa-hub-attempt"] == "1"
    assert len({webhook.event_id for webhook in seen}) == len(seen)


def test_webhooks_carry_the_standard_webhooks_signature_too(gateway: Gateway, name: str) -> None:
    account = gateway.create(name)
    hook = gateway.hooks.wait("qr", account.id)
    signed = f"{hook.headers['webhook-id']}.{hook.headers['webhook-timestamp']}.".encode() + hook.body
    expected = base64.b64encode(hmac.new(WEBHOOK_SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert hook.headers["webhook-signature"] == f"v1,{expected}"


def test_a_qr_code_works_once(gateway: Gateway, name: str) -> None:
    account = gateway.create(name)
    png = account.wait_qr()
    account.phone.scan(png)
    account.wait_state("ready")
    other = gateway.box.new_phone()
    with pytest.raises(AssertionError, match="409"):
        other.scan(png)


def test_no_log_shows_the_qr_code(gateway: Gateway, name: str) -> None:
    account = gateway.create(name)
    png = account.wait_qr()
    path = gateway.directory / f"{account.id}.png"
    path.write_bytes(png)
    with Image.open(path) as picture:
        found = zxingcpp.read_barcode(picture)
    assert found is not None
    # Its parts too: the reference of the server and the keys of the device.
    gateway.secrets |= {found.text, *(part for part in found.text.split(",") if len(part) > 20)}
    account.pair()
    until(lambda: account.status()["state"] == "ready", 5, "not ready")
    gateway.check_logs()
