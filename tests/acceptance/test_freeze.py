"""A gateway that stands still longer than its lease: its socket closes, and after waking up there is only one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.support.gateway import Gateway
from tests.support.waiting import until

pytestmark = pytest.mark.acceptance

COUNT = 30
HELD_UP = 5


def test_freezing_and_waking_leaves_one_socket_and_the_queue_goes_on(
    new_gateway: Callable[..., Gateway], name: str
) -> None:
    gateway = new_gateway(LEASE_MS="2000", LEASE_RENEW_EVERY_MS="600").start()
    account, customer = gateway.link(name), gateway.box.new_phone()
    texts = [f"text {number} across a freeze" for number in range(COUNT)]
    # One gets no answer: however late the freeze is, it finds that one on the wire and the rest behind it.
    gateway.box.arm({"noAck": {}}, number=customer.number, stanza="message", nth=HELD_UP)
    for text in texts:
        account.send(customer, text)
    customer.wait_shown(lambda shown: len(shown) >= HELD_UP)

    gateway.freeze()
    until(lambda: not account.phone.connected(), 20, "the socket outlived the lease of its frozen gateway")
    frozen_at = len(customer.messages())
    customer.send(account.phone, "are you asleep?")
    gateway.thaw()

    shown = customer.wait_texts(texts)
    assert frozen_at < COUNT, "everything was sent before the freeze: nothing is shown by this test"
    assert [seen["text"] for seen in shown] == texts
    assert gateway.hooks.wait("message", account.id).data["message"]["text"] == "are you asleep?"
    account.wait_state("ready")
    assert gateway.box.stats()["maxConnectionsPerDevice"] == 1
