"""`wahub chats` and `wahub messages` as a person runs them: on a store that nobody uses, and beside a gateway."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.commands import KEY, Gateway, Run, command, filled, gateway_beside, lines, started

from wahub.domain.ids import InstanceId, WorkerId
from wahub.domain.inbox import from_engine
from wahub.domain.instance import Config
from wahub.ports.store import Tx
from wahub.services import inbox, instance

SHOP = InstanceId("shop")
ANNA, GROUP = "201111111111", "120363000000000001@g.us"
NOW = 1_700_000_000
TEXT, NAME = "the secret of the house", "Anna Example"
HIDDEN = (TEXT, NAME, ANNA)


def fill(tx: Tx) -> None:
    """A chat with 250 messages, the last with a line break and a reaction, and a group."""
    instance.create(tx, Config("shop"), NOW)
    lease = tx.leases.claim(SHOP, WorkerId("worker"), 60)
    assert lease is not None
    sender = f"{ANNA}@s.whatsapp.net"
    common = {"sender": sender, "from_me": False, "push_name": NAME, "type": "text"}
    bodies = [
        {"message_id": f"M{at:03d}", "chat": sender, "text": f"{TEXT}\n\x1b[2J{at}", "timestamp": NOW + at}
        for at in range(250)
    ]
    bodies.append({"message_id": "R1", "chat": sender, "type": "reaction", "target": "M249", "text": "👍"})
    bodies.append({"message_id": "G1", "chat": GROUP, "text": TEXT, "timestamp": NOW - 1})
    for number, body in enumerate(bodies):
        inbox.ingest(tx, lease, from_engine(SHOP, {**common, **body}), NOW, f"{number:032x}")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a filled store in `wahub-data`."""
    return filled(tmp_path_factory.mktemp("store"), fill)


@pytest.fixture
def gateway(store: Path) -> Iterator[Gateway]:
    with gateway_beside(store) as running:
        yield running


def wahub(directory: Path, *arguments: str, run: Run = command, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `wahub …`. What is private is shown to those only who ask for it."""
    said = run(directory, *arguments, **environment)
    if "--full" not in arguments:
        assert not [hidden for hidden in HIDDEN if hidden in said.stdout + said.stderr]
    return said


def test_chats_are_named_by_ids_that_are_no_numbers(store: Path) -> None:
    direct, group = lines(wahub(store, "chats", "shop", "--json", run=started))
    assert (direct["chat"], direct["isGroup"], direct["messageId"], direct["type"]) == (
        "***1111",
        False,
        "M249",
        "text",
    )
    assert (group["id"], group["chat"]) == (GROUP, GROUP)
    shown = lines(wahub(store, "messages", "shop", direct["id"], "--limit", "1", "--json", run=started))
    assert [(item["id"], item["from"], item["reactions"]) for item in shown] == [("M249", "***1111", 1)]
    table = wahub(store, "chats", "shop").stdout
    assert direct["id"] in table and "***1111" in table


def test_all_of_it_for_those_who_ask(store: Path) -> None:
    direct, _ = lines(wahub(store, "chats", "shop", "--json", "--full"))
    assert (direct["chat"], direct["name"], direct["text"]) == (f"{ANNA}@c.us", NAME, f"{TEXT}\n\x1b[2J249")
    [item] = lines(wahub(store, "messages", "shop", ANNA, "--limit", "1", "--json", "--full"))
    assert (item["text"], item["chatId"], item["reactions"][0]["emoji"]) == (
        f"{TEXT}\n\x1b[2J249",
        f"{ANNA}@c.us",
        "👍",
    )
    table = wahub(store, "messages", "shop", ANNA, "--limit", "2", "--full").stdout
    # One line each, and nothing that a terminal would obey.
    assert len(table.splitlines()) == 3
    assert f"{TEXT} [2J249" in table and "\x1b" not in table


def test_more_than_a_page(store: Path) -> None:
    found = lines(wahub(store, "messages", "shop", ANNA, "--limit", "230", "--json"))
    assert [item["id"] for item in found] == [f"M{at:03d}" for at in range(249, 19, -1)]
    assert len(lines(wahub(store, "messages", "shop", ANNA, "--limit", "999", "--json"))) == 250


def test_nothing_and_mistakes(store: Path) -> None:
    assert wahub(store, "messages", "shop", "4915550000000").stdout == "nothing\n"
    for arguments, text in (
        (("chats", "nobody"), "Instance nobody not found"),
        (("messages", "shop", "nobody"), "Invalid chatId format"),
        (("messages", "shop", "c_" + "0" * 20), "not found"),
    ):
        said = wahub(store, *arguments)
        assert said.returncode == 1
        assert text in said.stderr


def test_beside_a_gateway_it_asks_that_one(store: Path, gateway: Gateway) -> None:
    found = lines(wahub(store, "messages", "shop", ANNA, "--limit", "201", "--json", API_KEY=KEY))
    assert len(found) == 201
    assert len(lines(wahub(store, "chats", "shop", "--json", API_KEY=KEY))) == 2
