"""`wahub webhooks …` as a person runs it: on a store that nobody uses, and beside a running gateway."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.makers import add_delivery, make_delivery
from tests.support.commands import (
    KEY,
    Gateway,
    Run,
    command,
    filled,
    gateway_beside,
    in_store,
    lines,
    started,
    without,
)

from wahub.domain.ids import InstanceId
from wahub.domain.instance import Config
from wahub.domain.webhook import DeliveryState
from wahub.ports.store import Tx
from wahub.services import instance

THEN = 1_700_000_000.0
PASSWORD = "hook-password-3f1c"
HOOK = f"http://me:{PASSWORD}@127.0.0.1:9/hook"


def wahub(directory: Path, *arguments: str, run: Run = command, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `wahub webhooks …`."""
    said = run(directory, "webhooks", *arguments, **environment)
    without(said, PASSWORD)
    return said


def fill(tx: Tx) -> None:
    """Two dead letters of one instance, one of another, and an instance without a URL."""
    instance.create(tx, Config("mute"), THEN)
    for number, name in enumerate(("shop", "shop", "other"), start=1):
        if tx.instances.get(InstanceId(name)) is None:
            instance.create(tx, Config(name, HOOK), THEN)
        dead = make_delivery(number, url=HOOK, state=DeliveryState.DEAD, attempts=9, last_error="HTTP 500")
        add_delivery(tx, replace(dead, instance=InstanceId(name)))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A directory with a filled store in `wahub-data`."""
    return filled(tmp_path, fill)


@pytest.fixture
def gateway(store: Path) -> Iterator[Gateway]:
    with gateway_beside(store) as running:
        yield running


def waiting(store: Path) -> list[str]:
    return in_store(store, lambda tx: sorted(found.event_id for found in tx.webhooks.due(1e12, 10)))


def test_dead_letters_of_all_or_of_one(store: Path) -> None:
    found = lines(wahub(store, "dead", "--json", run=started))
    assert {(letter["instanceId"], letter["id"], letter["lastError"]) for letter in found} == {
        ("shop", "event-1", "HTTP 500"),
        ("shop", "event-2", "HTTP 500"),
        ("other", "event-3", "HTTP 500"),
    }
    assert [letter["id"] for letter in lines(wahub(store, "dead", "--json", "--instance", "other"))] == ["event-3"]
    assert "event-2" in wahub(store, "dead").stdout
    assert wahub(store, "dead", "--instance", "mute").stdout == "nothing\n"


def test_one_is_found_wherever_it_is(store: Path) -> None:
    assert lines(wahub(store, "replay", "event-3", "--json")) == [{"replayed": 1}]
    # The first of each lane is due: both instances have one lane.
    assert waiting(store) == ["event-3"]
    missing = wahub(store, "replay", "event-3")
    assert missing.returncode == 1
    assert "no instance has a dead letter event-3" in missing.stderr


def test_all_are_replayed_and_an_instance_without_a_url_is_no_obstacle(store: Path) -> None:
    assert wahub(store, "replay").stdout == "3 to be posted again\n"
    assert wahub(store, "replay").stdout == "0 to be posted again\n"
    refused = wahub(store, "replay", "--instance", "mute")
    assert refused.returncode == 1
    assert "webhook.url" in refused.stderr


def test_beside_a_gateway_it_asks_that_one(store: Path, gateway: Gateway) -> None:
    assert len(lines(wahub(store, "dead", "--json", API_KEY=KEY))) == 3
    assert lines(wahub(store, "replay", "--instance", "shop", "--json", API_KEY=KEY)) == [{"replayed": 2}]
    assert wahub(store, "dead", API_KEY=KEY).returncode == 0


def test_a_test_post_needs_a_gateway(store: Path) -> None:
    refused = wahub(store, "test", "shop")
    assert refused.returncode == 1
    assert "gateway" in refused.stderr
