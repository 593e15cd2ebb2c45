"""The end of the gateway (contract F.6): in order and in time, at once when someone insists; nothing is left."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from tests.support.gateway import Gateway
from tests.support.processes import GONE_TIMEOUT, wait_gone
from tests.support.waiting import until

pytestmark = pytest.mark.acceptance


def test_a_stop_amid_traffic_and_before_a_deaf_receiver_loses_and_doubles_nothing(
    new_gateway: Callable[..., Gateway], name: str
) -> None:
    # Far from through when it is stopped, however late that is.
    gateway = new_gateway(SEND_SPACING_MS="500", WEBHOOK_TIMEOUT_MS="3000").start()
    account, customer = gateway.link(name), gateway.box.new_phone()
    out = [f"out {number} past a stop" for number in range(40)]
    incoming = [f"in {number} past a stop" for number in range(10)]
    gateway.secrets |= set(incoming)
    gateway.hooks.hang()
    for text in out:
        account.send(customer, text)
    for text in incoming:
        customer.send(account.phone, text)
    customer.wait_shown(lambda shown: len(shown) >= 3)
    gateway.hooks.wait("message", account.id)
    engines = gateway.engine_pids()

    gateway.stop()
    assert len(customer.shown()) < len(out), "everything was sent before the stop: nothing is shown by this test"
    assert gateway.command.lines()[-1] == {"event": "stopped"}
    assert "cut short" not in gateway.command.err.read_text()
    for pid in engines:
        wait_gone(pid, GONE_TIMEOUT, "the engine process outlives its gateway")

    gateway.hooks.answer()
    gateway.settings["SEND_SPACING_MS"] = "0"
    gateway.start()
    shown = customer.wait_texts(out, timeout=40)
    assert [seen["text"] for seen in shown] == out
    assert customer.messages() == shown, "nothing arrived twice"
    hooks = gateway.hooks.wait_enough(
        "message", account.id, lambda seen: set(incoming) <= {hook.data["message"]["text"] for hook in seen}
    )
    assert len({hook.event_id for hook in hooks}) == len(incoming), "a repeated post is the same event"
    assert len(account.phone.devices()) == 1


def test_a_second_signal_ends_it_at_once(new_gateway: Callable[..., Gateway], name: str) -> None:
    gateway = new_gateway(SEND_ACK_TIMEOUT_MS="60000").start()
    account, customer = gateway.link(name), gateway.box.new_phone()
    # The stop waits for the item on the wire, whose answer does not come.
    fault = gateway.box.arm({"noAck": {}}, 0, number=account.phone.number, stanza="message")
    reply = account.send(customer, "on the wire")
    customer.wait_texts(["on the wire"])
    engines = gateway.engine_pids()
    gateway.command.send_signal(signal.SIGTERM)
    until(lambda: '"stopping"' in gateway.command.err.read_text(), 20, "the first signal is not heard")
    gateway.command.send_signal(signal.SIGINT)
    assert gateway.command.wait(20) == 128 + signal.SIGINT
    for pid in engines:
        wait_gone(pid, GONE_TIMEOUT, "the engine process outlives its gateway")

    gateway.box.disarm(fault)
    gateway.start()
    account.wait_item(reply["queueId"], "sent")
    assert [seen["text"] for seen in customer.shown()] == ["on the wire"]


@pytest.mark.parametrize("insists", [False, True], ids=["once", "twice"])
def test_a_signal_while_the_engine_starts(new_gateway: Callable[..., Gateway], insists: bool) -> None:
    gateway = new_gateway().start()
    engines = until(gateway.command.children, 20, "no engine is started")
    gateway.command.send_signal(signal.SIGTERM)
    if insists:
        # Not the same signal: the system would make one of two. Which of the two is handed over first is its choice.
        gateway.command.send_signal(signal.SIGINT)
    code = gateway.command.wait()
    assert code in ((128 + signal.SIGTERM, 128 + signal.SIGINT) if insists else (0,))
    for pid in engines:
        wait_gone(pid, GONE_TIMEOUT, "the engine process outlives its gateway")
    assert "Traceback" not in gateway.command.err.read_text()
