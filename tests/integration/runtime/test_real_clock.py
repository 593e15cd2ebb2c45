"""Pace by the real clock, through the shipped commands: once, because a minute is a minute."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from tests.support.box import Box, Phone
from tests.support.gateway import Account, Gateway

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(150)]

PACE = {"MAX_SENDS_PER_MINUTE_PER_INSTANCE": "4", "SEND_SPACING_MS": "400"}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    box = Box(tmp_path / "box").start()
    gateway = Gateway(tmp_path / "gateway", box, dict(PACE))
    try:
        yield gateway.start()
        gateway.close()
    finally:
        gateway.command.kill()
        box.close()


@pytest.fixture
def paced(gateway: Gateway) -> tuple[Account, Phone, list[str]]:
    """Five texts, of which four may leave within the minute, and have."""
    account, customer = gateway.link("paced"), gateway.box.new_phone()
    ids = [str(account.send(customer, f"text {number} at its pace")["queueId"]) for number in range(5)]
    for queue_id in ids[:4]:
        account.wait_item(queue_id, "sent")
    return account, customer, ids


def test_spacing_and_what_the_queue_says_of_the_minute(paced: tuple[Account, Phone, list[str]]) -> None:
    account, _, ids = paced
    starts = [_attempted_at(account.item(queue_id)) for queue_id in ids[:4]]
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    # The timeline shows milliseconds.
    assert 0.399 <= min(gaps) < 1.5, gaps
    # One may be longer because the machine stalled. All four spread over the minute would be 15 s apart.
    assert max(gaps) < 14, gaps
    assert _due(account) == pytest.approx(starts[0] + 60.0, abs=1.0)
    assert account.item(ids[4])["state"] == "queued"


@pytest.mark.soak
def test_the_fifth_leaves_when_the_minute_is_over(paced: tuple[Account, Phone, list[str]]) -> None:
    account, customer, ids = paced
    due = _due(account)
    account.wait_item(ids[4], "sent", timeout=75)
    assert _attempted_at(account.item(ids[4])) == pytest.approx(due, abs=1.0)
    assert [seen["text"] for seen in customer.shown()] == [f"text {number} at its pace" for number in range(5)]


def _due(account: Account) -> float:
    """When the only waiting item will go, by GET queue (Unix seconds)."""
    queue = account.gateway.ok("GET", f"/instances/{account.id}/queue")
    (waiting,) = (queue.get("queue") or queue)["items"]
    return float(waiting["nextAttemptAt"]) / 1000


def _attempted_at(item: dict[str, object]) -> float:
    """When it was claimed for the wire (Unix seconds)."""
    timeline = item["timeline"]
    assert isinstance(timeline, list)
    (at,) = (moment["at"] for moment in timeline if moment["event"] == "attempt")
    return datetime.fromisoformat(str(at)).timestamp()
