"""kill -9 of the engine process and of the gateway in mid-traffic: nothing is lost, nothing is shown twice."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import httpx
import pytest
from tests.support.box import Phone
from tests.support.gateway import Account, Gateway
from tests.support.processes import GONE_TIMEOUT, wait_gone
from tests.support.waiting import until

pytestmark = pytest.mark.acceptance

COUNT = 60


class Caller(threading.Thread):
    """A caller who insists: every text with a key of its own, tried again until it is accepted."""

    def __init__(self, account: Account, to: Phone, texts: list[str]) -> None:
        super().__init__(daemon=True)
        self._account, self._to, self._texts = account, to, texts
        self.queue_ids: list[str] = []
        self.problem: str | None = None

    def run(self) -> None:
        for text in self._texts:
            self.queue_ids.append(self._insist(text))

    def _insist(self, text: str) -> str:
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            try:
                answer = self._account.try_send(self._to, text, key=f"key of {text}")
            except httpx.HTTPError:
                time.sleep(0.05)
                continue
            if answer.status_code in (200, 202):
                return str(answer.json().get("queueId", ""))
            self.problem = f"{answer.status_code} {answer.text}"
            time.sleep(0.05)
        raise AssertionError(f"not accepted: {self.problem}")


def send_in(customer: Phone, account: Account, texts: list[str]) -> threading.Thread:
    """The customer writes all this, a little at a time, while other things happen."""

    def write() -> None:
        for text in texts:
            customer.send(account.phone, text)
            time.sleep(0.02)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def check_out(customer: Phone, texts: list[str]) -> None:
    """Every text is shown once, in order, each under one message id."""
    shown = customer.wait_texts(texts, timeout=40)
    assert [seen["text"] for seen in shown] == texts
    assert len({seen["messageId"] for seen in shown}) == len(texts)


def check_in(gateway: Gateway, account: Account, texts: list[str]) -> None:
    """Every text arrives; a webhook may come twice, but then as the same event."""
    wanted = set(texts)
    hooks = gateway.hooks.wait_enough(
        "message", account.id, lambda seen: wanted <= {hook.data["message"]["text"] for hook in seen}, timeout=40
    )
    events: dict[str, set[str]] = {}
    for hook in hooks:
        events.setdefault(hook.data["message"]["text"], set()).add(hook.event_id)
    assert {text: len(ids) for text, ids in events.items()} == dict.fromkeys(texts, 1)
    first = list(dict.fromkeys(hook.data["message"]["text"] for hook in hooks))
    assert first == texts, "in order of writing"


def test_kill_9_of_the_engine_in_mid_traffic(new_gateway: Callable[..., Gateway], name: str) -> None:
    gateway = new_gateway(SEND_SPACING_MS="10").start()
    account, customer = gateway.link(name), gateway.box.new_phone()
    out = [f"out {number} past a dead engine" for number in range(COUNT)]
    incoming = [f"in {number} past a dead engine" for number in range(COUNT)]
    gateway.secrets |= set(incoming)
    caller = Caller(account, customer, out)
    caller.start()
    writer = send_in(customer, account, incoming)
    for enough in (10, 30):
        customer.wait_shown(lambda shown, enough=enough: len(shown) >= enough)
        (engine,) = until(gateway.engine_pids, 20, "no engine process")
        os.kill(engine, signal.SIGKILL)
        wait_gone(engine, GONE_TIMEOUT, "the engine survived kill -9")
        assert gateway.http("GET", "/health").status_code == 200, "nothing in the gateway blocks"
    caller.join()
    writer.join()
    check_out(customer, out)
    check_in(gateway, account, incoming)
    assert caller.problem is None, "a dead engine refused a send"
    assert len(account.phone.devices()) == 1, "no new scan"
    for queue_id in caller.queue_ids:
        account.wait_item(queue_id, "sent")


def test_kill_9_of_the_gateway_in_mid_traffic(new_gateway: Callable[..., Gateway], name: str) -> None:
    gateway = new_gateway(SEND_SPACING_MS="10").start()
    account, customer = gateway.link(name), gateway.box.new_phone()
    out = [f"out {number} past a dead gateway" for number in range(COUNT)]
    incoming = [f"in {number} past a dead gateway" for number in range(COUNT)]
    gateway.secrets |= set(incoming)
    caller = Caller(account, customer, out)
    caller.start()
    writer = send_in(customer, account, incoming)
    for enough in (10, 30):
        customer.wait_shown(lambda shown, enough=enough: len(shown) >= enough)
        gateway.kill()
        gateway.start()
    caller.join()
    writer.join()
    check_out(customer, out)
    check_in(gateway, account, incoming)
    assert len(account.phone.devices()) == 1, "no new scan"
    for queue_id in caller.queue_ids:
        account.wait_item(queue_id, "sent")
