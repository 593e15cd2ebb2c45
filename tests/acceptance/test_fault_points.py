"""A death at each named point (contract 0.11), then a restart: each message is there exactly once by its id.

The points share one instance: what a death left behind may not harm the next test either.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from tests.support.box import Box, Phone
from tests.support.gateway import Account, Gateway
from tests.support.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("fault-points")]

IN_GATEWAY_OUT = ["after_accept", "after_claim", "after_ack", "after_settle"]
IN_ENGINE_OUT = ["after_wire"]
IN_GATEWAY_IN = ["after_ingest"]
IN_ENGINE_IN = ["after_spool", "after_key_commit", "after_receipt"]


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory, box: Box) -> Iterator[tuple[Account, Phone]]:
    """An instance whose gateway is not running, and a customer who knows it."""
    gateway = Gateway(tmp_path_factory.mktemp("faults"), box)
    try:
        account, customer = gateway.start().link("faulty"), box.new_phone()
        account.send(customer, "hello before all faults")
        customer.wait_texts(["hello before all faults"])
        customer.send(account.phone, "hello yourself before all faults")
        gateway.hooks.wait("message", account.id)
        gateway.stop()
        yield account, customer
    finally:
        gateway.close()


def start_armed(gateway: Gateway, point: str) -> None:
    """Start with a fault armed; a run that a failed test left behind ends first."""
    gateway.kill()
    gateway.start(fault=point)
    gateway.wait_restored()


def wait_engine_death(gateway: Gateway, engines: list[int]) -> None:
    """The engine process died at the point; end its gateway too, which would start it again with the fault armed."""
    until(lambda: not set(engines) & set(gateway.engine_pids()), 15, lambda: f"no death\n{gateway.log_tail()}")
    gateway.kill()


def check_shown_once(account: Account, customer: Phone, text: str, queue_id: str | None) -> None:
    """Shown once under one id; the next text comes after it, so nothing else of it is under way."""
    follow_up = account.send(customer, f"after {text}")
    shown = customer.wait_texts([text, f"after {text}"])
    ids = {seen["messageId"] for seen in customer.messages() if seen["text"] == text}
    assert len(ids) == 1, "one message id, however often it was sent"
    assert [seen["text"] for seen in shown][-2:] == [text, f"after {text}"]
    account.wait_item(follow_up["queueId"], "sent")
    if queue_id is not None:
        assert account.wait_item(queue_id, "sent")["messageId"] in ids


@pytest.mark.parametrize("point", IN_GATEWAY_OUT + IN_ENGINE_OUT)
def test_a_death_while_sending(linked: tuple[Account, Phone], point: str) -> None:
    account, customer = linked
    gateway, text, key = account.gateway, f"past the point {point}", f"key of {point}"
    start_armed(gateway, point)
    engines = gateway.engine_pids()
    queue_id = None
    try:
        queue_id = account.try_send(customer, text, key=key).json()["queueId"]
    except httpx.HTTPError:
        # Expected where the gateway died: in general a caller cannot know whether it was accepted.
        assert point not in IN_ENGINE_OUT
    if point in IN_ENGINE_OUT:
        wait_engine_death(gateway, engines)
    else:
        assert gateway.command.wait(15) == -9
    if point == "after_accept":
        assert queue_id is None, "the point lies before the answer"

    gateway.start()
    replay = account.try_send(customer, text, key=key)
    assert replay.status_code in (200, 202) and replay.json()["idempotent"] is True
    check_shown_once(account, customer, text, queue_id)
    gateway.stop()


@pytest.mark.parametrize("point", IN_GATEWAY_IN + IN_ENGINE_IN)
def test_a_death_while_receiving(linked: tuple[Account, Phone], point: str) -> None:
    account, customer = linked
    gateway, text = account.gateway, f"coming in past {point}"
    gateway.secrets.add(text)
    start_armed(gateway, point)
    engines = gateway.engine_pids()
    customer.send(account.phone, text)
    if point in IN_ENGINE_IN:
        wait_engine_death(gateway, engines)
    else:
        assert gateway.command.wait(15) == -9

    gateway.start()
    customer.send(account.phone, f"after {text}")
    hooks = gateway.hooks.wait_enough(
        "message", account.id, lambda seen: any(hook.data["message"]["text"] == f"after {text}" for hook in seen)
    )
    events = [hook for hook in hooks if hook.data["message"]["text"] == text]
    assert len({hook.event_id for hook in events}) == 1, "ingested once"
    assert len({hook.data["message"]["id"] for hook in events}) == 1
    gateway.stop()
