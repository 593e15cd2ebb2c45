"""WhatsApp away for a while: sends are accepted, nothing asks for a scan, and everything goes out afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.box import Box
from tests.support.gateway import Gateway

pytestmark = pytest.mark.acceptance


@pytest.fixture
def own_box(tmp_path: Path) -> Iterator[Box]:
    """A sandbox that may be stopped; its state survives."""
    box = Box(tmp_path / "sandbox", keep_state=True)
    try:
        yield box.start()
    finally:
        box.close()


def test_a_send_in_disconnected_goes_out_when_whatsapp_is_back(own_box: Box, tmp_path: Path, name: str) -> None:
    gateway = Gateway(tmp_path / "gateway", own_box)
    try:
        gateway.start()
        account, customer = gateway.link(name), own_box.new_phone()
        account.send(customer, "before the outage")
        customer.wait_texts(["before the outage"])

        own_box.stop()
        status = account.wait_state("disconnected")
        assert status["instanceStatus"] == "disconnected"
        reply = account.send(customer, "during the outage")
        assert account.item(reply["queueId"])["state"] == "queued"

        own_box.start()
        shown = customer.wait_texts(["during the outage"])
        assert [seen["text"] for seen in shown] == ["before the outage", "during the outage"]
        account.wait_item(reply["queueId"], "sent")
        account.wait_state("ready")
        assert len(account.phone.devices()) == 1, "no new scan"
        own_box.check_strict(0)
    finally:
        gateway.close()
