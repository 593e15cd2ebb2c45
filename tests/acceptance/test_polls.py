"""Polls and what becomes of a send, as a webhook tells it, with every part real."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.support.gateway import Gateway

pytestmark = pytest.mark.acceptance


def test_votes_reach_the_caller_also_after_both_processes_died(new_gateway: Callable[..., Gateway], name: str) -> None:
    gateway = new_gateway().start()
    account = gateway.create(name, ["vote_update", "message_ack"]).pair()
    customer = gateway.box.new_phone()
    gateway.secrets |= {"Order 7?", "Confirm", "Cancel", "Later"}
    question = {"chatId": customer.number, "caption": "Order 7?", "options": ["Confirm", "Cancel", "Later"]}
    reply = gateway.ok(
        "POST", f"/instances/{account.id}/client/action/create-poll", {**question, "multipleAnswers": True}
    )
    (shown,) = customer.wait_shown(lambda seen: len(seen) >= 1)
    assert shown["type"] == "poll"
    assert shown["poll"]["name"] == "Order 7?" and shown["poll"]["options"] == question["options"]
    item = account.wait_item(reply["queueId"], "sent")
    assert item["messageId"] == shown["messageId"]

    gateway.kill()  # the engine process ends with it: nothing of the poll is in anybody's memory now
    gateway.start()
    gateway.wait_restored()
    for choice in (["Later", "Confirm"], ["Cancel"], []):
        vote = {"pollId": shown["messageId"], "options": choice}
        gateway.box.control("POST", f"phones/{customer.number}/vote", vote)
    hooks = gateway.hooks.wait_enough("vote_update", account.id, lambda seen: len(seen) >= 3)
    votes = [hook.data["vote"] for hook in hooks]
    assert [vote["selectedOptions"] for vote in votes] == [["Confirm", "Later"], ["Cancel"], []]
    assert {vote["pollMessageId"] for vote in votes} == {shown["messageId"]}
    assert {vote["voter"] for vote in votes} == {customer.number}


def test_acks_and_receipts_move_an_item_forward_and_are_told(new_gateway: Callable[..., Gateway], name: str) -> None:
    gateway = new_gateway().start()
    account = gateway.create(name, ["message_ack"]).pair()
    customer = gateway.box.new_phone()
    reply = account.send(customer, "did it arrive?")
    (shown,) = customer.wait_shown(lambda seen: len(seen) >= 1)
    gateway.box.control("POST", f"phones/{customer.number}/read", {"messageId": shown["messageId"]})
    hooks = gateway.hooks.wait_enough(
        "message_ack", account.id, lambda seen: any(hook.data["delivery"] == "read" for hook in seen)
    )
    marks = [hook.data["delivery"] for hook in hooks]
    # A receipt may overtake the server's mark, but no mark comes twice and none goes back.
    order = ["server", "delivered", "read"]
    assert marks == sorted(set(marks), key=order.index)
    assert {(hook.data["id"], hook.data["queueId"]) for hook in hooks} == {(shown["messageId"], reply["queueId"])}
    item = account.item(reply["queueId"])
    assert (item["state"], item["delivery"]) == ("sent", "read")
    kinds = [moment["event"] for moment in item["timeline"]]
    assert kinds[:2] == ["accepted", "attempt"] and kinds[-1] == "read"
