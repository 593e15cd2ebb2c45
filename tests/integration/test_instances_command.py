"""`wahub instances …` as a person runs it."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
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
from wahub.domain.instance import Config, State
from wahub.domain.lifecycle import Ask, Incident, IncidentKind
from wahub.ports.store import Tx
from wahub.services import instance

PHONE = "4915112345678"
SECRET = "geheim-7c1f"
THEN = 1_700_000_000.0


def wahub(directory: Path, *arguments: str, run: Run = command, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `wahub instances …`."""
    return run(directory, "instances", *arguments, **environment)


def fill(tx: Tx) -> None:
    """One that is ready, through a proxy, and one in error."""
    for name, state in (("WASP-shop.example", State.READY), ("broken", State.ERROR)):
        config = Config(name, "https://hooks.example.com/", proxy=f"socks5://me:{SECRET}@127.0.0.1:1080")
        made = instance.create(tx, config, THEN)
        seen = dataclasses.replace(made.observed, state=state, phone=PHONE if state is State.READY else None)
        seen = dataclasses.replace(seen, last_error="banned" if state is State.ERROR else None)
        tx.instances.save(dataclasses.replace(made, observed=seen))
    tx.lifecycles.add_incident(InstanceId("broken"), Incident(IncidentKind.BANNED, "banned", THEN))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A directory with a filled store in `wahub-data`."""
    return filled(tmp_path, fill)


@pytest.fixture
def gateway(store: Path) -> Iterator[Gateway]:
    with gateway_beside(store) as running:
        yield running


def no_secrets(said: subprocess.CompletedProcess[str]) -> None:
    without(said, SECRET, PHONE)


def test_list(store: Path) -> None:
    listed = wahub(store, "list", "--json", run=started)
    shop, broken = lines(listed)
    assert shop == {
        "id": "WASP-shop_example",
        "name": "WASP-shop.example",
        "status": "ready",
        "phone": "+491****78",
        "lastError": None,
    }
    assert (broken["status"], broken["phone"], broken["lastError"]) == ("disconnected", None, "banned")
    table = wahub(store, "list")
    head, first, second = table.stdout.splitlines()
    assert (head.split()[0], first.split()[:2], second.split()[0]) == ("id", ["WASP-shop_example", "ready"], "broken")
    for said in (listed, table):
        no_secrets(said)


def test_diagnostics(store: Path) -> None:
    whole = wahub(store, "diagnostics", "broken", "--json")
    (found,) = lines(whole)
    assert (found["state"], found["incidents"][0]["kind"]) == ("error", "banned")
    page = wahub(store, "diagnostics", "WASP-shop.example")
    shown = dict(line.split(maxsplit=1) for line in page.stdout.splitlines() if len(line.split()) > 1)
    assert (shown["state"], shown["proxy"]) == ("ready", "socks5://***@127.0.0.1:1080")
    assert page.stdout.splitlines()[-1] == "incidents"
    for said in (whole, page):
        no_secrets(said)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["restart", "broken"], 1, "no gateway runs on this data"),
        (["retry", "broken"], 1, "no gateway runs on this data"),
        (["diagnostics", "none"], 1, "Instance none not found"),
        (["restart", "broken", "--type", "warm"], 2, "--type"),
        (["list", "--data-dir", "elsewhere"], 1, "there is no store at"),
    ],
)
def test_what_cannot_be_done_is_explained(store: Path, arguments: list[str], code: int, text: str) -> None:
    said = wahub(store, *arguments)
    assert (said.returncode, said.stdout) == (code, "")
    assert text in said.stderr and "Traceback" not in said.stderr


def test_a_running_gateway_is_asked(store: Path, gateway: Gateway) -> None:
    (hard,) = lines(wahub(store, "restart", "WASP-shop.example", "--type", "hard", "--json", API_KEY=KEY))
    plain = wahub(store, "retry", "broken", API_KEY=KEY)
    refused = wahub(store, "retry", "WASP-shop.example", API_KEY=KEY)
    assert (hard["id"], hard["currentState"]) == ("WASP-shop_example", "ready")
    assert (plain.returncode, plain.stdout.split()[:2]) == (0, ["Retry", "initiated:"])
    assert refused.returncode == 1 and "retry works in error" in refused.stderr
    for said in (plain, refused):
        no_secrets(said)
    gateway.stop()

    asked = in_store(store, lambda tx: {record.instance: record.asked for record in tx.lifecycles.list()})
    assert asked == {"WASP-shop_example": Ask.HARD_RESTART, "broken": Ask.RETRY}
