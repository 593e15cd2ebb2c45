"""Who is named by LID: hidden people, chats that moved, and messages that overtake each other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.unit.sandbox.network_client import Client, Person, settle

from wahub.sandbox.model import LID_SERVER, PN_SERVER, Jid, RefusedError
from wahub.sandbox.network.network import Network
from wahub.sandbox.network.store import Store
from wahub.sandbox.network.trust import keys_from_seed
from wahub.sandbox.node import Node
from wahub.sandbox.phone.content import Poll, Text
from wahub.sandbox.world import World

ANNA, BEN = "201000000001", "201000000002"


class Office:
    """Anna (only keys) with a client, and Ben, a real phone."""

    def __init__(self, *, hidden: bool = False, lid_hidden: bool = False, store: Store | None = None) -> None:
        self.network = Network(keys_from_seed("lid"), store)
        self.world = World(self.network, journal=store)
        self.anna = Person(ANNA)
        self.network.add_account(self.anna, business=False)
        self.world.directory.add(ANNA, self.anna.lid)
        self.client = Client(self.network)
        self.client.pair(self.anna)
        self.client.log_in()
        self.ben, _ = self.world.create_phone(BEN, "Ben", hidden=hidden, lid_hidden=lid_hidden)
        self.client.got.clear()

    @property
    def ben_lid(self) -> str:
        return f"{self.ben.lid}@lid"

    def message(self) -> dict[str, str]:
        return self.client.take("message").attrs


@pytest.fixture
async def office() -> Office:
    return Office()


@pytest.fixture
async def hiding() -> Office:
    return Office(hidden=True)


async def test_the_space_of_a_message_can_be_chosen(office: Office) -> None:
    office.ben.send(ANNA, Text("x"))
    assert office.message()["from"] == f"{BEN}@s.whatsapp.net"
    office.ben.send(ANNA, Text("x"), None, LID_SERVER)
    attrs = office.message()
    assert (attrs["from"], attrs["sender_pn"], attrs["addressing_mode"]) == (
        office.ben_lid, f"{BEN}@s.whatsapp.net", "lid",
    )  # fmt: skip


def asks_about(office: Office, *jids: str) -> str:
    """What a look-up of these people tells, as text."""
    people = Node("list", {}, [Node("user", {"jid": jid}) for jid in jids])
    asked = Node("query", {}, [Node("lid"), Node("devices", {"version": "2"})])
    return repr(office.client.query("usync", "get", Node("usync", {"sid": "1"}, [asked, people])))


async def meet(office: Office) -> None:
    """Ben and Anna's client do all that names people to each other, by number and by LID."""
    anna, ben = f"{ANNA}@s.whatsapp.net", f"{BEN}@s.whatsapp.net"
    theirs = Client(office.network)
    theirs.register()
    office.ben.scan(theirs.request())
    theirs.accept()
    theirs.log_in()
    office.client.send(Node("presence", {"type": "available", "name": "Anna"}))
    for server, address in ((PN_SERVER, ben), (LID_SERVER, office.ben_lid)):
        message_id = office.ben.send(ANNA, Text("guess who"), None, server)
        office.client.receipt(address, message_id)
        office.client.message(address, f"A-{server}", address)
        office.client.send(Node("presence", {"type": "subscribe", "to": address}))
        office.ben.call(ANNA, server)
        group = office.network.create_group("Club", ANNA, [BEN], server)
        office.ben.send(str(group["id"]), Text("in the group"))
        office.network.change_group(Jid.parse(str(group["id"])), None, {"promote": [BEN]})
        office.network.change_group(Jid.parse(str(group["id"])), BEN, {"demote": [BEN]})
    theirs.send(Node("chatstate", {"to": anna}, [Node("composing")]))
    office.ben.send("status@broadcast", Text("my day"))
    office.network.remove_device(BEN, 1)
    await settle()
    office.client.read()


async def test_nobody_learns_that_a_number_and_a_lid_are_one_person_until_a_chat_moves() -> None:
    for secret in (True, False):
        office = Office(lid_hidden=secret)
        await meet(office)
        got = [*map(repr, office.client.got), asks_about(office, f"{BEN}@s.whatsapp.net")]
        got.append(asks_about(office, office.ben_lid))
        assert any(BEN in one for one in got)
        assert any(office.ben.lid in one for one in got)
        # Beside this, that everybody else's stanzas tell it shows that these would.
        both = {stanza.tag for stanza in office.client.got if BEN in repr(stanza) and office.ben.lid in repr(stanza)}
        assert both == (set() if secret else {"message", "notification", "call"})
        assert any(BEN in one and office.ben.lid in one for one in got) is not secret
        office.network.arm_fault({"number": ANNA}, {"lidMigration": {"number": BEN}}, None)
        office.client.got.clear()
        office.ben.send(ANNA, Text("x"))
        assert office.message()["sender_pn"] == f"{BEN}@s.whatsapp.net"
        assert office.ben.lid in asks_about(office, f"{BEN}@s.whatsapp.net")


async def test_that_it_was_told_is_known_after_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    world = World(Network(keys_from_seed("lid"), store), journal=store)
    for number in (ANNA, BEN, "201000000003"):
        world.create_phone(number, lid_hidden=True)
    world.network.arm_fault({"number": ANNA}, {"lidMigration": {"number": BEN}}, None)
    store.close()
    store = Store(tmp_path / "state")
    again = World(Network(keys_from_seed("lid"), store), journal=store)
    again.restore({"phone/" + key: value for key, value in store.rows("phone/")})
    for number, secret in ((ANNA, False), (BEN, False), ("201000000003", True)):
        assert again.phone(number).state.profile.lid_hidden is secret
        assert again.network._core.registry.by_number[number].lid_hidden is secret  # type: ignore[attr-defined]


async def test_nobody_learns_the_number_of_who_hides(hiding: Office) -> None:
    office = hiding
    message_id = office.ben.send(ANNA, Text("guess who"))
    attrs = office.message()
    assert attrs["from"] == office.ben_lid
    office.client.receipt(office.ben_lid, message_id)
    office.client.message(office.ben_lid, "A1", office.ben_lid)
    office.client.send(Node("presence", {"type": "subscribe", "to": office.ben_lid}))
    group = office.network.create_group("Club", ANNA, [BEN], LID_SERVER)
    office.ben.send(str(group["id"]), Text("in the group"))
    await settle()
    office.client.read()
    assert {stanza.tag for stanza in office.client.got} >= {"message", "presence", "notification", "ack"}
    assert not [stanza for stanza in office.client.got if BEN in repr(stanza)]


async def test_a_client_of_who_hides_tells_no_number_either(hiding: Office) -> None:
    office, anna = hiding, f"{ANNA}@s.whatsapp.net"
    theirs = Client(office.network)
    theirs.register()
    office.ben.scan(theirs.request())
    theirs.accept()
    theirs.log_in()
    theirs.send(Node("presence", {"type": "available", "name": "Ben"}))
    office.client.send(Node("presence", {"type": "available", "name": "Anna"}))
    office.client.message(office.ben_lid, "A1", f"{office.ben.lid}:1@lid")
    theirs.message(anna, "B1", office.client.address)
    theirs.receipt(anna, "A1")
    theirs.send(Node("chatstate", {"to": anna}, [Node("composing")]))
    offer = Node("offer", {"call-id": "1", "call-creator": office.ben_lid})
    theirs.send(Node("call", {"to": anna, "id": "C1"}, [offer]))
    office.ben.send("status@broadcast", Text("my day"))
    office.network.remove_device(BEN, 1)
    await settle()
    office.client.read()
    got = [stanza for stanza in office.client.got if stanza.attrs.get("from", "").startswith(office.ben.lid)]
    assert {stanza.tag for stanza in got} >= {"message", "receipt", "chatstate", "call", "notification"}
    assert [stanza for stanza in office.client.got if stanza.attrs["from"] == "status@broadcast"] != []
    assert not [stanza for stanza in office.client.got if BEN in repr(stanza)]


async def test_who_hides_is_in_no_group_by_number(hiding: Office) -> None:
    with pytest.raises(RefusedError) as refused:
        hiding.network.create_group("Club", ANNA, [BEN], PN_SERVER)
    hiding.world.create_phone("201000000003")
    group = hiding.network.create_group("Club", ANNA, ["201000000003"], PN_SERVER)
    with pytest.raises(RefusedError):
        hiding.network.change_group(Jid.parse(str(group["id"])), None, {"add": [BEN]})
    assert refused.value.status == 409


async def test_who_hides_cannot_be_found_by_number(hiding: Office) -> None:
    office = hiding
    by_number = Node("user", {}, [Node("contact", {}, f"+{BEN}".encode())])
    people = Node("list", {}, [by_number, Node("user", {"jid": office.ben_lid})])
    asked = Node("query", {}, [Node("contact"), Node("devices", {"version": "2"})])
    contact = Node("usync", {"sid": "1"}, [asked, people])
    answer = office.client.query("usync", "get", contact)
    users = [user for node in answer.children for part in node.find("list") for user in part.children]
    kinds = [contact.attrs["type"] for user in users for contact in user.find("contact")]
    assert kinds == ["out", "in"]
    office.client.message(f"{BEN}@s.whatsapp.net", "A1", f"{BEN}@s.whatsapp.net")
    assert office.client.take("ack").attrs["error"] == "404"


async def test_a_chat_moves_to_lid(office: Office) -> None:
    poll = office.ben.send(ANNA, Poll("Come?", ("yes", "no")))
    office.message()
    office.network.arm_fault({"number": BEN}, {"lidMigration": {"number": ANNA}}, None)
    assert office.network.faults() == []
    office.ben.send(ANNA, Text("x"))
    assert office.message()["from"] == office.ben_lid
    office.ben.vote(poll, ["yes"])
    assert office.message()["from"] == f"{BEN}@s.whatsapp.net"
    office.ben.send(ANNA, Text("x"), None, PN_SERVER)
    assert office.message()["from"] == f"{BEN}@s.whatsapp.net"
    assert office.anna.moved == [BEN]
    with pytest.raises(RefusedError) as refused:
        office.network.arm_fault({"number": BEN}, {"lidMigration": {"number": "209999999999"}}, None)
    assert (refused.value.status, office.network.faults()) == (404, [])


async def test_a_chat_that_moved_stays_so_after_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    world = World(Network(keys_from_seed("lid"), store), journal=store)
    world.create_phone(ANNA)
    world.create_phone(BEN, hidden=True)
    world.network.arm_fault({"number": ANNA}, {"lidMigration": {"number": BEN}}, None)
    store.close()
    store = Store(tmp_path / "state")
    again = World(Network(keys_from_seed("lid"), store), journal=store)
    again.restore({"phone/" + key: value for key, value in store.rows("phone/")})
    assert again.phone(ANNA).state.moved == {BEN}
    assert again.directory.is_hidden(BEN)
    message_id = again.phone(ANNA).send(BEN, Text("x"))
    assert again.phone(ANNA).state.kept[message_id].server == LID_SERVER


async def test_own_companions_are_told_of_the_move(office: Office) -> None:
    world = office.world
    cy, _ = world.create_phone("201000000003")
    client = Client(office.network)
    client.register()
    cy.scan(client.request())
    client.accept()
    client.log_in()
    client.got.clear()
    office.network.inject("201000000003", 1, {"lidMigration": {"number": BEN}})
    told = client.take("message")
    assert (told.attrs["category"], told.attrs["from"]) == ("peer", "201000000003@s.whatsapp.net")
    assert "recipient" not in told.attrs
    assert [child.tag for child in told.children] == ["enc"]


async def test_two_messages_change_places(office: Office) -> None:
    office.network.arm_fault({"number": ANNA}, {"reorder": {}}, None)
    ids = [office.ben.send(ANNA, Text(str(turn))) for turn in range(3)]
    office.client.read()
    got = [stanza.attrs["id"] for stanza in office.client.got if stanza.tag == "message"]
    assert got == [ids[1], ids[0], ids[2]]


async def test_a_message_that_nothing_overtakes_comes_late(office: Office) -> None:
    office.network.arm_fault({"number": ANNA}, {"reorder": {"ms": 1}}, None)
    message_id = office.ben.send(ANNA, Text("x"))
    office.client.read()
    assert office.client.all("message") == []
    async with asyncio.timeout(5):
        while not office.client.all("message"):  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert office.message()["id"] == message_id


async def test_a_message_held_back_is_not_lost_with_the_connection(office: Office) -> None:
    office.network.arm_fault({"number": ANNA}, {"reorder": {"ms": 60_000}}, None)
    message_id = office.ben.send(ANNA, Text("x"))
    assert office.client.session is not None
    office.client.session.close()
    office.client.got.clear()
    office.client.log_in(prekeys=0)
    assert office.message()["id"] == message_id


@pytest.mark.parametrize("name", ["duplicate", "corrupt", "reorder"])
async def test_faults_of_deliveries_leave_what_a_client_sends_alone(office: Office, name: str) -> None:
    office.network.arm_fault({"number": ANNA}, {name: {}}, None)
    office.client.message(office.ben_lid, "A1", office.ben_lid)
    assert office.client.take("ack").attrs["id"] == "A1"
    assert len(office.network.faults()) == 1
