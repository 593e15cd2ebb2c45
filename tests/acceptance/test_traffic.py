"""Texts in both directions: each once, in order, and the same on the other side."""

from __future__ import annotations

import pytest
from tests.support.gateway import Gateway, ids_of

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("shared-gateway")]

COUNT = 50
ARABIC = "مرحبا بكم في المتجر، طلبكم جاهز"
EMOJI = "👩‍👩‍👧‍👦🇪🇬 tick ✅ skin 👍🏽 and a flag 🏴󠁧󠁢󠁳󠁣󠁴󠁿"
LONG = "".join(f"{number:04x}-é" for number in range(667))[:4000]
ODD = "quotes \" ' back\\slash <b>tag</b>\nnew line\ttab & ampersand"


def texts(direction: str) -> list[str]:
    """Texts that differ, with every kind of content among them."""
    special = {3: ARABIC, 11: EMOJI, 23: LONG, 37: ODD}
    return [special.get(number, f"{direction} text number {number}") for number in range(COUNT)]


def test_fifty_texts_go_out_each_once_in_order_unchanged(gateway: Gateway, name: str) -> None:
    assert len(LONG) == 4000
    account, customer = gateway.link(name), gateway.box.new_phone()
    wanted = texts("out")
    replies = [account.send(customer, text) for text in wanted]

    shown = customer.wait_shown(lambda seen: len(seen) >= COUNT)
    assert [seen["text"] for seen in shown] == wanted
    assert {seen["from"] for seen in shown} == {account.phone.number}
    assert [seen["messageId"] for seen in customer.messages()] == ids_of(account, replies), "each once, in order"
    for reply in replies:
        account.wait_item(reply["queueId"], "sent")
    assert gateway.ok("GET", f"/instances/{account.id}/queue")["depth"] == 0


def test_fifty_texts_come_in_each_once_in_order_unchanged(gateway: Gateway, name: str) -> None:
    account, customer = gateway.link(name), gateway.box.new_phone()
    wanted = texts("in")
    gateway.secrets |= {customer.number, *wanted}
    ids = [customer.send(account.phone, text) for text in wanted]

    hooks = gateway.hooks.wait_enough("message", account.id, lambda seen: len(seen) >= COUNT, timeout=30)
    messages = [hook.data["message"] for hook in hooks]
    assert [message["text"] for message in messages] == wanted
    assert [message["body"] for message in messages] == wanted
    assert {message["from"] for message in messages} == {customer.number}
    assert len(ids) == len({hook.event_id for hook in hooks}) == len({message["id"] for message in messages})
    assert all(hook.genuine for hook in hooks)
    stats = gateway.box.stats()["messages"]
    assert stats["undecryptable"] == 0


def test_an_item_tells_its_fate_and_no_content(gateway: Gateway, name: str) -> None:
    account, customer = gateway.link(name), gateway.box.new_phone()
    text = "where is this message now"
    reply = account.send(customer, text)
    assert (reply["status"], reply["queued"]) == ("success", True)
    customer.wait_texts([text])
    item = account.wait_item(reply["queueId"], "sent")
    assert item["messageId"] == customer.shown()[0]["messageId"]
    shown = gateway.http("GET", f"/instances/{account.id}/request/{reply['queueId']}").text
    assert text not in shown and customer.number not in shown


def test_a_phone_that_was_off_gets_its_texts_later(gateway: Gateway, name: str) -> None:
    account, customer = gateway.link(name), gateway.box.new_phone()
    account.send(customer, "while it is on")
    customer.wait_texts(["while it is on"])
    gateway.box.control("POST", f"phones/{customer.number}/online", {"online": False})
    replies = [account.send(customer, f"while it is off {number}") for number in range(3)]
    for reply in replies:
        account.wait_item(reply["queueId"], "sent")
    gateway.box.control("POST", f"phones/{customer.number}/online", {"online": True})
    shown = customer.wait_shown(lambda seen: len(seen) >= 4)
    assert [seen["text"] for seen in shown[1:]] == [f"while it is off {number}" for number in range(3)]


def test_an_explicit_key_sends_once(gateway: Gateway, name: str) -> None:
    account, customer = gateway.link(name), gateway.box.new_phone()
    first = account.send(customer, "only one of us", key="order-17")
    again = account.try_send(customer, "only one of us", key="order-17")
    assert again.json()["idempotent"] is True
    assert again.headers["Idempotency-Replayed"] == "true"
    other = account.try_send(customer, "another text", key="order-17")
    assert other.status_code == 409
    account.wait_item(first["queueId"], "sent")
    sent = account.try_send(customer, "only one of us", key="order-17")
    assert (sent.status_code, sent.json()["messageId"]) == (200, account.item(first["queueId"])["messageId"])
    account.send(customer, "the last one")
    customer.wait_texts(["the last one"])
    assert [seen["text"] for seen in customer.messages()] == ["only one of us", "the last one"]
