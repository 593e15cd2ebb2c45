"""Groups on the real network without sockets: membership, what clients may do, and what they are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.sandbox.network_client import Client, Person, settle

from wahub.sandbox.model import LID_SERVER, PN_SERVER, STATUS, Jid, RefusedError
from wahub.sandbox.network.network import Network
from wahub.sandbox.network.store import Store
from wahub.sandbox.network.trust import keys_from_seed
from wahub.sandbox.node import Node
from wahub.sandbox.phone.content import Delete, Poll, Reaction, Text
from wahub.sandbox.phone.phone import Phone
from wahub.sandbox.proto import e2e_pb2
from wahub.sandbox.world import World

ANNA, BEN, CY, DI = "201000000001", "201000000002", "201000000003", "201000000004"
SKMSG = Node("enc", {"v": "2", "type": "skmsg"}, b"ciphertext")


class Town:
    """Four phones and a network."""

    def __init__(self, store: Store | None = None) -> None:
        self.network = Network(keys_from_seed("groups"), store)
        self.world = World(self.network, journal=store)
        self.world.restore({} if store is None else dict(store.rows("")))

    def people(self) -> list[Phone]:
        return [self.world.create_phone(number)[0] for number in (ANNA, BEN, CY, DI)]

    def group(self, server: str = LID_SERVER) -> str:
        return str(self.network.create_group("Club", ANNA, [BEN, CY], server)["id"])

    def members(self, group: str) -> list[str]:
        (found,) = (found for found in self.network.groups() if found["id"] == group)
        return [member["number"] for member in found["members"]]

    def violations(self) -> list[str]:
        return [entry["detail"] for entry in self.network.stats()["violations"]]


@pytest.fixture
def town() -> Town:
    town = Town()
    town.people()
    return town


async def texts(phone: Phone, count: int) -> list[tuple[str, str]]:
    await phone.state.inbox.wait_after(count - 1, 5)
    return [(entry["from"], entry["text"]) for entry in phone.state.inbox.after(0)]


@pytest.mark.parametrize("server", [LID_SERVER, PN_SERVER])
async def test_everybody_reads_everybody(town: Town, server: str) -> None:
    anna, ben, cy, di = town.people()
    group = town.group(server)
    for turn in range(3):
        for phone in (anna, ben, cy):
            phone.send(group, Text(f"{turn}"))
    await settle()
    assert await texts(ben, 6) == [(number, f"{turn}") for turn in range(3) for number in (ANNA, CY)]
    assert di.state.inbox.after(0) == []
    assert [phone.undecryptable for phone in (anna, ben, cy)] == [0, 0, 0]
    entry = ben.state.inbox.after(0)[0]
    assert (entry["chat"], entry["fromMe"], entry["deviceId"]) == (group, False, 0)
    assert ben.state.kept[entry["messageId"]].server == server
    assert town.violations() == []


async def test_polls_reactions_and_deletions_name_the_author(town: Town) -> None:
    anna, ben, _, _ = town.people()
    group = town.group()
    poll = anna.send(group, Poll("Come?", ("yes", "no")))
    await settle()
    vote = ben.vote(poll, ["yes"])
    reaction = ben.send(group, Reaction(poll, "x"))
    anna.send(group, Delete(poll))
    await settle()
    assert [entry["type"] for entry in anna.state.inbox.after(0)] == ["vote", "reaction"]
    assert anna.state.inbox.after(0)[0]["messageId"] == vote
    assert ben.state.inbox.after(0)[-1]["delete"] == {"messageId": poll}
    with pytest.raises(RefusedError) as refused:
        ben.send(group, Delete(poll))
    assert refused.value.status == 400
    cast, liked = (e2e_pb2.Message.FromString(anna.state.kept[message_id].message) for message_id in (vote, reaction))
    for key in (cast.poll_update_message.poll_creation_message_key, liked.reaction_message.key):
        assert (key.remote_jid, key.participant, key.from_me) == (group, f"{anna.lid}@lid", False)


async def test_who_leaves_cannot_read_on_and_who_comes_can(town: Town) -> None:
    anna, ben, cy, di = town.people()
    group = town.group()
    anna.send(group, Text("one"))
    await settle()
    town.network.change_group(Jid.parse(group), None, {"remove": [CY], "add": [DI]})
    anna.send(group, Text("two"))
    await settle()
    assert await texts(cy, 1) == [(ANNA, "one")]
    assert await texts(di, 1) == [(ANNA, "two")]
    # The key that Cy had is not used any more.
    body = anna.state.sender_keys.encrypt(group, b"\1")
    assert ben.state.sender_keys.decrypt(group, f"{ANNA}:0", body) == b"\1"
    with pytest.raises(Exception, match="no sender key"):
        cy.state.sender_keys.decrypt(group, f"{ANNA}:0", body)
    with pytest.raises(RefusedError) as refused:
        cy.send(group, Text("?"))
    assert refused.value.status == 409
    with pytest.raises(RefusedError) as unknown:
        anna.send("1203@g.us", Text("?"))
    assert unknown.value.status == 404


async def test_only_admins_change_members(town: Town) -> None:
    group = Jid.parse(town.group())
    for changes in ({"add": [DI]}, {"remove": [ANNA]}, {"promote": [BEN]}):
        with pytest.raises(RefusedError) as refused:
            town.network.change_group(group, BEN, changes)
        assert refused.value.status == 403
    with pytest.raises(RefusedError):
        town.network.rename_group(group, BEN, "Ben's")
    town.network.change_group(group, BEN, {"remove": [BEN]})
    assert town.members(str(group)) == [ANNA, CY]
    town.network.change_group(group, None, {"promote": [CY]})
    town.network.change_group(group, CY, {"add": [DI]})
    assert town.members(str(group)) == [ANNA, CY, DI]
    with pytest.raises(RefusedError) as unknown:
        town.network.change_group(group, None, {"add": ["209999999999"]})
    assert unknown.value.status == 404


async def test_a_phone_that_lost_its_keys_asks_and_gets_the_message(town: Town) -> None:
    anna, ben, cy, _ = town.people()
    group = town.group()
    anna.send(group, Text("one"))
    await settle()
    ben.state.sender_keys = type(ben.state.sender_keys)()
    anna.send(group, Text("two"))
    anna.send(group, Text("three"))
    for _ in range(4):
        await settle()
    assert [text for _, text in await texts(ben, 3)] == ["one", "two", "three"]
    unreadable = ben.undecryptable
    assert unreadable >= 1
    assert [text for _, text in await texts(cy, 3)] == ["one", "two", "three"]
    anna.send(group, Text("four"))
    await settle()
    assert (await texts(ben, 4))[-1] == (ANNA, "four")
    assert ben.undecryptable == unreadable


async def test_groups_and_sender_keys_survive_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    town = Town(store)
    anna, ben, _, _ = town.people()
    group = town.group()
    anna.send(group, Text("before"))
    ben.send(group, Text("me too"))
    await settle()
    keys = [phone.state.sender_keys for phone in (anna, ben)]
    before = [[kept.dump(*name) for name in sorted(kept.names(), key=str)] for kept in keys]
    store.close()
    again = Town(Store(tmp_path / "state"))
    anna, ben, cy, _ = (again.world.phone(number) for number in (ANNA, BEN, CY, DI))
    assert again.members(group) == [ANNA, BEN, CY]
    keys = [phone.state.sender_keys for phone in (anna, ben)]
    assert [[kept.dump(*name) for name in sorted(kept.names(), key=str)] for kept in keys] == before
    anna.send(group, Text("after"))
    await settle()
    assert (await texts(ben, 2))[-1] == (ANNA, "after")
    assert (await texts(cy, 3))[-1] == (ANNA, "after")
    assert ben.undecryptable == 0
    again.world.reset()
    assert again.network.groups() == []
    assert list(again.network.store.rows("phone/")) == []


async def test_the_status_list_reaches_contacts_only(town: Town) -> None:
    anna, ben, cy, _ = town.people()
    anna.send(BEN, Text("hello"))
    await settle()
    for text in ("my day", "my evening"):
        anna.send(str(STATUS), Text(text))
    await settle()
    shown = ben.state.inbox.after(1)
    assert [(entry["chat"], entry["from"], entry["text"]) for entry in shown] == [
        (str(STATUS), ANNA, "my day"), (str(STATUS), ANNA, "my evening"),
    ]  # fmt: skip
    assert cy.state.inbox.after(0) == []


class Office:
    """A network with people who are only keys, and Anna's client."""

    def __init__(self) -> None:
        self.network = Network(keys_from_seed("groups"))
        self.people = [Person(number) for number in (ANNA, BEN, CY)]
        for person in self.people:
            self.network.add_account(person, business=False)
        self.client = Client(self.network)
        self.client.pair(self.people[0])
        self.client.log_in()
        self.group = str(self.network.create_group("Club", BEN, [ANNA], LID_SERVER)["id"])
        assert self.client.take("notification").children[0].tag == "create"

    def lid(self, index: int, device: int = 0) -> str:
        return str(Jid(self.people[index].lid, LID_SERVER, device))

    def send(self, *children: Node, to: str | None = None, **attrs: str) -> dict[str, str]:
        """Send to the group; the attributes of the ack."""
        self.client.got.clear()
        stanza = Node("message", {"to": to or self.group, "id": "G1", "type": "text", **attrs}, [*children])
        self.client.send(stanza)
        return self.client.take("ack").attrs

    def listed(self, *addresses: str) -> Node:
        enc = Node("enc", {"v": "2", "type": "pkmsg"}, b"key")
        return Node("participants", {}, [Node("to", {"jid": address}, [enc]) for address in addresses])


@pytest.fixture
async def office() -> Office:
    return Office()


async def test_a_member_gets_the_shared_and_its_own_part(office: Office) -> None:
    ack = office.send(office.listed(office.lid(1)), SKMSG)
    assert "error" not in ack and "phash" not in ack
    await settle()
    message = next(stanza for stanza in office.people[1].got if stanza.tag == "message")
    assert [enc.attrs["type"] for enc in message.find("enc")] == ["pkmsg", "skmsg"]
    wanted = {"from": office.group, "participant": office.lid(0, 1), "addressing_mode": "lid"}
    wanted["participant_pn"] = f"{ANNA}@s.whatsapp.net"
    assert {name: message.attrs[name] for name in wanted} == wanted
    own = next(stanza for stanza in office.people[0].got if stanza.tag == "message")
    assert [enc.attrs["type"] for enc in own.find("enc")] == ["skmsg"]
    assert "message" not in office.people[2].tags()
    assert office.network.stats()["messages"]["accepted"] == 1


@pytest.mark.parametrize(
    ("case", "code", "detail"),
    [
        ("outsider", "403", "not in it"),
        ("unknown", "404", "does not exist"),
        ("no_content", "400", "without a sender key message"),
        ("not_member", "479", "not in the group"),
        ("never_existed", "479", "never existed"),
        ("retry_to_outsider", "479", "not in the group"),
    ],
)
async def test_what_a_client_may_not_send(office: Office, case: str, code: str, detail: str) -> None:
    other = str(office.network.create_group("Others", BEN, [CY], LID_SERVER)["id"])
    ack = {
        "outsider": lambda: office.send(SKMSG, to=other),
        "unknown": lambda: office.send(SKMSG, to="1203@g.us"),
        "no_content": lambda: office.send(office.listed(office.lid(1))),
        "not_member": lambda: office.send(office.listed(office.lid(2)), SKMSG),
        "never_existed": lambda: office.send(office.listed(office.lid(1, 7)), SKMSG),
        "retry_to_outsider": lambda: office.send(SKMSG, participant=office.lid(2)),
    }[case]()
    assert ack["error"] == code
    (violation,) = office.network.stats()["violations"]
    assert detail in violation["detail"]
    await settle()
    assert all("message" not in person.tags() for person in office.people)


async def test_a_wrong_hash_of_the_members_is_answered_with_the_right_one(office: Office) -> None:
    right = office.send(SKMSG, phash="2:wrong")["phash"]
    assert right.startswith("2:")
    assert "phash" not in office.send(SKMSG, phash=right)


async def test_devices_that_come_and_go_are_told_to_everybody_in_the_group(office: Office) -> None:
    other = Client(office.network)
    device = other.pair(office.people[1])
    told = office.client.take("notification")
    assert (told.attrs["type"], told.children[0].tag) == ("devices", "add")
    office.network.remove_device(BEN, device)
    assert office.client.take("notification").children[0].tag == "remove"
    ack = office.send(office.listed(office.lid(1), office.lid(1, device)), SKMSG)
    assert "error" not in ack
    assert ack["phash"].startswith("2:")
    await settle()
    assert "message" in office.people[1].tags()
    assert office.network.stats()["violations"] == []


async def test_a_retry_goes_to_one_device(office: Office) -> None:
    office.network.change_group(Jid.parse(office.group), None, {"add": [CY]})
    office.send(Node("enc", {"v": "2", "type": "pkmsg", "count": "1"}, b"again"), participant=office.lid(1))
    await settle()
    message = next(stanza for stanza in office.people[1].got if stanza.tag == "message")
    assert [enc.data for enc in message.find("enc")] == [b"again"]
    assert "message" not in office.people[2].tags()


async def test_receipts_go_to_the_author_from_the_reader(office: Office) -> None:
    office.client.got.clear()
    ben = office.people[1].jid
    office.network.submit(ben, Node("receipt", {"id": "G1", "to": office.group, "participant": office.lid(0, 1)}))
    receipt = office.client.take("receipt").attrs
    assert (receipt["from"], receipt["participant"]) == (office.group, office.lid(1))
    outsider = office.people[2].jid
    office.network.submit(outsider, Node("receipt", {"id": "G1", "to": office.group, "participant": office.lid(0)}))
    assert office.client.all("receipt") == []


async def test_a_change_is_told_to_members_and_to_those_it_is_about(office: Office) -> None:
    await settle()
    assert [stanza.tag for stanza in office.people[1].got] == ["notification"]
    group = Jid.parse(office.group)
    office.network.change_group(group, None, {"add": [CY]})
    told = office.client.take("notification")
    assert (told.attrs["type"], told.attrs["from"]) == ("w:gp2", office.group)
    assert told.attrs["participant"] == office.lid(1)
    (added,) = told.children
    assert (added.tag, added.children[0].attrs["jid"]) == ("add", office.lid(2))
    assert added.children[0].attrs["phone_number"] == f"{CY}@s.whatsapp.net"
    await settle()
    assert [stanza.children[0].tag for stanza in office.people[2].got] == ["create", "add"]
    office.network.change_group(group, None, {"remove": [ANNA]})
    assert office.client.take("notification").children[0].tag == "remove"
    office.network.rename_group(group, None, "New")
    assert office.client.all("notification") == []
