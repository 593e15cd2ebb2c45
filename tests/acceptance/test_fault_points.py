"""A death at each named point (contract 0.11), then a restart: each message is there exactly once by its id.

One instance goes through all deaths, one after the other. The start that repairs a death while sending is already armed
for a death while receiving, which it cannot reach by repairing, and the other way round: that saves half of the starts.
"""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from tests.support.box import Phone
from tests.support.gateway import Account, Gateway
from tests.support.waiting import until

pytestmark = pytest.mark.acceptance

SENDING = ["after_accept", "after_claim", "after_wire", "after_ack", "after_settle"]
RECEIVING = ["after_spool", "after_key_commit", "after_receipt", "after_ingest"]
IN_ENGINE = {"after_wire", "after_spool", "after_key_commit", "after_receipt"}
"""Points that the engine process reaches; the gateway reaches the others."""

Check = Callable[[], None]


def in_turn() -> list[str]:
    """All points, sending and receiving by turns."""
    pairs = zip(SENDING, [*RECEIVING, ""], strict=True)
    return [point for pair in pairs for point in pair if point]


def wait_death(gateway: Gateway, point: str, engines: list[int]) -> None:
    """Wait until the process that reaches the point is dead, and its gateway too."""
    if point in IN_ENGINE:
        until(lambda: not set(engines) & set(gateway.engine_pids()), 40, lambda: f"{point}: {gateway.log_tail()}")
        # It would start the engine again, with the fault still armed.
        gateway.kill()
    else:
        assert gateway.command.wait(40) == -9, point


def die_sending(account: Account, customer: Phone, point: str) -> Check:
    """Send a text into a death; returns what must hold after a restart."""
    gateway, text, key = account.gateway, f"past the point {point}", f"key of {point}"
    engines, queue_id = gateway.engine_pids(), None
    try:
        queue_id = account.try_send(customer, text, key=key).json()["queueId"]
    except httpx.HTTPError:
        # In general a caller whose gateway died cannot know whether it was accepted.
        assert point not in IN_ENGINE
    wait_death(gateway, point, engines)
    assert queue_id is None or point != "after_accept", "the point lies before the answer"

    def check() -> None:
        replay = account.try_send(customer, text, key=key)
        assert replay.status_code in (200, 202) and replay.json()["idempotent"] is True, point
        follow_up = account.send(customer, f"after {text}")
        shown = customer.wait_texts([text, f"after {text}"])
        assert [seen["text"] for seen in shown][-2:] == [text, f"after {text}"]
        ids = {seen["messageId"] for seen in customer.messages() if seen["text"] == text}
        assert len(ids) == 1, f"{point}: one message id, however often it was sent"
        account.wait_item(follow_up["queueId"], "sent")
        # Else it could be settled after the next start, which would be its death if that is armed for settling.
        assert account.wait_item(replay.json()["queueId"], "sent")["messageId"] in ids, point
        assert queue_id in (None, replay.json()["queueId"]), point

    return check


def die_receiving(account: Account, customer: Phone, point: str) -> Check:
    """Receive a text into a death; returns what must hold after a restart."""
    gateway, text = account.gateway, f"coming in past {point}"
    gateway.secrets.add(text)
    engines = gateway.engine_pids()
    customer.send(account.phone, text)
    wait_death(gateway, point, engines)

    def check() -> None:
        customer.send(account.phone, f"after {text}")
        hooks = gateway.hooks.wait_enough(
            "message", account.id, lambda seen: seen[-1:] != [] and seen[-1].data["message"]["text"] == f"after {text}"
        )
        events = [hook for hook in hooks if hook.data["message"]["text"] == text]
        assert len({hook.event_id for hook in events}) == 1, f"{point}: ingested once"
        assert len({hook.data["message"]["id"] for hook in events}) == 1, point
        until(lambda: not gateway.spooled(), 20, f"{point}: the spool is not empty")

    return check


def test_a_death_at_each_point_loses_nothing_and_doubles_nothing(
    new_gateway: Callable[..., Gateway], name: str
) -> None:
    first, *others = in_turn()
    # The second text to be accepted meets the first death, so that one start serves for linking too.
    assert first == "after_accept"
    gateway = new_gateway().start(fault=f"{first}:2")
    account, customer = gateway.link(name), gateway.box.new_phone()
    account.send(customer, "hello before all deaths")
    customer.wait_texts(["hello before all deaths"])
    check = die_sending(account, customer, first)
    for point in others:
        gateway.start(fault=point)
        gateway.wait_restored()
        check()
        check = (die_sending if point in SENDING else die_receiving)(account, customer, point)
    gateway.start()
    check()
    assert len(account.phone.devices()) == 1, "no new scan"
