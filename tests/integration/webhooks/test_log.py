"""What the log says of webhooks that were taken (contract G.3)."""

from __future__ import annotations

import logging

import pytest
import structlog
from tests.fakes.receiver import receiver
from tests.integration.webhooks.conftest import Bench


async def test_a_webhook_that_was_taken_has_a_line_and_one_that_was_not_has_none(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)  # no line is made that nobody would read
    async with receiver(answer=lambda _: 500) as there:
        shop = await bench.instance("shop", there.url)
        event_id = await bench.emit(shop, "message", data={"message": {"text": "meet me at noon"}})
        dispatcher = bench.start()
        with structlog.testing.capture_logs() as logs:
            await dispatcher.idle()
            assert not [line for line in logs if "forwarded" in str(line["event"])]
            there.answer = lambda _: 200
            bench.clock.advance(2)
            await dispatcher.idle()
        (line,) = [line for line in logs if "forwarded" in str(line["event"])]
        assert line == {
            "event": "Webhook forwarded: message",
            "instance": "shop",
            "event_id": event_id,
            "attempt": 2,
            "log_level": "info",
        }
        assert "noon" not in repr(logs)
