"""The log line for a received message (contract D.1): once, masked, and without what it says."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import structlog
from tests.integration.runtime.world import World, eventually

from wahub.ports.engine import Inbound
from wahub.telemetry import mask_event

ANA = "201111114599"
TEXT = "meet me at noon"


def said(seq: int, name: str, **changes: Any) -> Inbound:
    sender = f"{ANA}@s.whatsapp.net"
    body = {
        "message_id": name,
        "chat": sender,
        "sender": sender,
        "sender_phone": ANA,
        "sender_lid": None,
        "from_me": False,
        "push_name": "Ana",
        "timestamp": 1,
        "type": "text",
        "text": TEXT,
        "raw": json.dumps({"conversation": TEXT}),
        **changes,
    }
    return Inbound(seq, body)


async def test_each_received_message_has_one_line_that_says_nothing_private(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)  # no line is made that nobody would read
    link = await world.linked()
    with structlog.testing.capture_logs() as logs:
        link.report(said(1, "3EB0A1234567890BCDEF12"), said(2, "3EB0A1234567890BCDEF12"))
        link.report(said(3, "MINE", from_me=True), said(4, f"{TEXT} {ANA}", type="image"))
        reaction = {"type": "reaction", "target": "3EB0A1234567890BCDEF12", "text": "x", "sender_phone": None}
        link.report(said(5, "R1", sender="900111111111111@lid", sender_lid="900111111111111", **reaction))
        link.report(said(6, "C1", type="call", details={"call": {"callId": "C1", "status": "offer"}}))

        async def taken() -> bool:
            return link.acked == [1, 2, 3, 4, 5, 6]

        await eventually(taken, "all are stored")
        link.report(said(7, "3EB0A1234567890BCDEF12"), said(8, "LAST"))

        async def taken_again() -> bool:
            return link.acked[-1] == 8

        await eventually(taken_again, "the last is stored")
    shown = [mask_event(None, "info", line) for line in logs if str(line["event"]).startswith("incoming message")]
    assert [line["event"] for line in shown] == [
        "incoming message id=3EB0A1234567890BCDEF12 from=***4599 type=text",
        "incoming message id=unusual from=***4599 type=image",
        "incoming message id=R1 from=***1111 type=reaction",
        "incoming message id=LAST from=***4599 type=text",
    ]
    assert {(line["instance"], line["log_level"]) for line in shown} == {("shop", "info")}
    assert not any(private in repr(logs) for private in (TEXT, ANA, "900111111111111"))
