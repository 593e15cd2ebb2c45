"""What survives a restart: accounts, devices, prekeys, mail, and the keys that clients trust."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.sandbox.network_client import ALICE, BOB, Client, Person, linked, settle

from wahub.sandbox.model import Jid
from wahub.sandbox.network.network import Network
from wahub.sandbox.network.store import StateFileError, Store
from wahub.sandbox.network.trust import keys_from_seed


def crash(network: Network) -> None:
    """Close the file as a kill would: what was not committed is gone."""
    database = network.store._database
    assert database is not None
    if database.in_transaction:
        database.execute("ROLLBACK")
    database.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def start(path: Path, *people: Person) -> Network:
    network = Network(keys_from_seed("test"), Store(path))
    for person in people:
        network.add_account(person, business=False)
    return network


async def restarted(network: Network, path: Path, client: Client, *people: Person) -> Network:
    network.store.commit()
    crash(network)
    again = start(path, *people)
    client.network = again
    return again


async def test_a_linked_device_logs_in_after_a_restart_with_its_prekeys(path: Path) -> None:
    alice = Person(ALICE)
    network = start(path, alice)
    client = await linked(network, alice)
    handed_out = network.take_bundle(Jid.parse(client.address)).prekey_id

    network = await restarted(network, path, client, alice)

    client.log_in(prekeys=0)
    assert len(client.all("success")) == 1
    rest = [network.take_bundle(Jid.parse(client.address)).prekey_id for _ in range(9)]
    assert handed_out not in rest
    assert None not in rest
    assert network.take_bundle(Jid.parse(client.address)).prekey_id is None
    assert [device.id for device in network.linked_devices(ALICE)] == [1]


async def test_mail_waits_across_a_restart(path: Path) -> None:
    alice, bob = Person(ALICE), Person(BOB)
    network = start(path, alice, bob)
    client, peer = await linked(network, alice), await linked(network, bob)
    for message_id in ("M1", "M2"):
        peer.message(f"{ALICE}@s.whatsapp.net", message_id, client.address, data=b"ciphertext")
    client.receipt(peer.address, "M1")

    await restarted(network, path, client, alice, bob)

    client.got.clear()
    client.log_in(prekeys=0)
    assert [m.attrs["id"] for m in client.all("message")] == ["M2"]
    assert client.take("message").children[0].data == b"ciphertext"


async def test_what_a_phone_had_not_taken_is_given_again(path: Path) -> None:
    alice, bob = Person(ALICE), Person(BOB)
    network = start(path, alice, bob)
    client = await linked(network, alice)
    client.message(f"{BOB}@s.whatsapp.net", "M1", f"{BOB}@s.whatsapp.net")
    assert client.take("ack").attrs["id"] == "M1"
    assert bob.got == []

    await restarted(network, path, client, alice, bob)
    await settle()

    assert [stanza.attrs["id"] for stanza in bob.got] == ["M1"]


async def test_an_unlinked_device_stays_unlinked(path: Path) -> None:
    alice = Person(ALICE)
    network = start(path, alice)
    client = await linked(network, alice)
    network.remove_device(ALICE, 1)

    network = await restarted(network, path, client, alice)

    client.got.clear()
    client.log_in()
    assert client.take("failure").attrs["reason"] == "401"
    assert "unlinked" in network.stats()["violations"][0]["detail"]
    again = await linked(network, alice)
    assert again.jid == Jid(ALICE, "s.whatsapp.net", 2)


async def test_what_was_not_committed_was_not_sent(path: Path) -> None:
    """The order that matters: a session's bytes are written by whoever commits first."""
    alice = Person(ALICE)
    network = start(path, alice)
    await linked(network, alice)
    await settle()
    crash(network)
    assert [device.id for device in start(path, alice).linked_devices(ALICE)] == [1]


async def test_reset_leaves_an_empty_file(path: Path) -> None:
    alice = Person(ALICE)
    network = start(path, alice)
    client = await linked(network, alice)
    network.reset()
    network = await restarted(network, path, client)
    network.add_account(Person(ALICE, lid="77"), business=False)
    assert network.linked_devices(ALICE) == []


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are notes, not a database, and long enough to be read as a header" * 20)
    with pytest.raises(StateFileError, match=r"notes\.txt"):
        Store(path)


def test_two_processes_cannot_share_a_file(path: Path) -> None:
    first = Store(path)
    first.put("a", b"1")
    with pytest.raises(StateFileError):
        Store(path)
    first.close()


def test_the_same_seed_gives_the_same_trust_root() -> None:
    one, same, other = keys_from_seed("one"), keys_from_seed("one"), keys_from_seed("other")
    assert one.trust_root == same.trust_root
    assert one.static.public_key() == same.static.public_key()
    assert one.media_ca.private_numbers() == same.media_ca.private_numbers()
    assert one.trust_root != other.trust_root
