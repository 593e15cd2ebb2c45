"""A caller that waits, a poll, and the commands beside a running gateway, with every part real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from tests.support.gateway import API_KEY, Gateway

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("shared-gateway")]


def test_a_caller_waits_for_a_text_and_a_poll(gateway: Gateway, name: str) -> None:
    account, customer = gateway.link(name), gateway.box.new_phone()
    path = f"/instances/{account.id}/client/action"
    gateway.secrets |= {customer.number, "now, please", "Order 7?"}
    patience = {"headers": {"Prefer": "wait=20"}}
    text = gateway.http(
        "POST", f"{path}/send-message", {"chatId": customer.number, "message": "now, please"}, **patience
    )
    question = {"chatId": customer.number, "caption": "Order 7?", "options": ["Confirm", "Cancel"]}
    poll = gateway.http("POST", f"{path}/create-poll", question, **patience)
    assert (text.status_code, poll.status_code) == (200, 200), (text.text, poll.text)
    shown = customer.wait_shown(lambda seen: len(seen) >= 2)
    assert [seen["messageId"] for seen in shown] == [text.json()["messageId"], poll.json()["messageId"]]


def test_a_scheduled_message_waits_and_is_cancelled_by_command(gateway: Gateway, name: str) -> None:
    account, customer = gateway.link(name), gateway.box.new_phone()
    at = round((time.time() + 600) * 1000)
    reply = gateway.ok(
        "POST",
        f"/instances/{account.id}/client/action/send-message",
        {"chatId": customer.number, "message": "later", "sendAt": at},
    )
    (item,) = gateway.ok("GET", f"/instances/{account.id}/queue")["items"]
    assert (item["reason"], abs(item["nextAttemptAt"] - at) <= 3_000) == ("scheduled", True)
    said = subprocess.run(
        [sys.executable, "-m", "wahub", "outbox", "cancel", reply["queueId"], "--json", "--url", gateway.url],
        env={"PATH": os.environ["PATH"], "API_KEY": API_KEY},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["state"] == "cancelled"
    assert customer.shown() == []


def test_a_number_without_whatsapp_fails_at_once(gateway: Gateway, name: str) -> None:
    account, number = gateway.link(name), "19995550123"
    gateway.secrets.add(number)
    refused = gateway.http(
        "POST",
        f"/instances/{account.id}/client/action/send-message",
        {"chatId": number, "message": "anybody there?"},
        headers={"Prefer": "wait=20"},
    )
    assert (refused.status_code, refused.json()["state"]) == (400, "failed"), refused.text
    assert "not_on_whatsapp" in refused.json()["error"]


def test_logging_out_may_keep_the_queue(gateway: Gateway, name: str) -> None:
    account, customer = gateway.link(name), gateway.box.new_phone()
    at = round((time.time() + 600) * 1000)
    path = f"/instances/{account.id}"
    body = {"chatId": customer.number, "message": "after the scan", "sendAt": at}
    reply = gateway.ok("POST", f"{path}/client/action/send-message", body)
    left = gateway.ok("POST", f"{path}/client/action/logout", {"keep": 1})
    assert (left["deleted"], left["purged"], left.get("warnings")) == (False, True, None)
    assert account.phone.devices() == []
    account.pair()
    assert account.item(reply["queueId"])["state"] == "queued"
    gateway.ok("POST", f"{path}/client/action/logout")
    assert gateway.http("GET", path).status_code == 404
