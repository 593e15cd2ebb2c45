"""Phones talking to phones and companions: fan-out, copies, receipts, retries, quotes."""

from __future__ import annotations

import pytest
from tests.unit.sandbox.phone_fakes import FakeCompanion, FakeNetwork

from wahub.sandbox.model import LID_SERVER, Jid, RefusedError
from wahub.sandbox.node import Node
from wahub.sandbox.phone.content import Contact, Delete, Edit, Location, Reaction, Text
from wahub.sandbox.phone.phone import Phone
from wahub.sandbox.proto import e2e_pb2
from wahub.sandbox.world import World

ANNA, BEN = "201000000001", "201000000002"


class Town:
    """Anna and Ben with their phones; companions on demand."""

    def __init__(self) -> None:
        self.network = FakeNetwork()
        self.world = World(self.network)
        self.anna = self.world.create_phone(ANNA, "Anna")[0]
        self.ben = self.world.create_phone(BEN, "Ben")[0]

    def companion(self, phone: Phone) -> FakeCompanion:
        return self.network.add_companion(phone.number)


@pytest.fixture
def town() -> Town:
    return Town()


def text(body: str) -> e2e_pb2.Message:
    return e2e_pb2.Message(conversation=body)


def inbox(phone: Phone) -> list[tuple[object, ...]]:
    return [(e["from"], e["chat"], e["fromMe"], e["type"], e["text"]) for e in phone.state.inbox.after(0)]


def test_texts_between_phones_keep_order_and_content(town: Town) -> None:
    texts = ["hello", "مرحبا", "\U0001f600", "x" * 4000]
    ids = [town.anna.send(BEN, Text(body)) for body in texts]
    town.ben.send(ANNA, Text("back"))
    received = town.ben.state.inbox.after(0)
    assert [entry["text"] for entry in received] == texts
    assert [entry["messageId"] for entry in received] == ids
    assert [entry["seq"] for entry in received] == [1, 2, 3, 4]
    assert inbox(town.anna) == [(BEN, BEN, False, "text", "back")]
    assert received[0]["timestamp"] == "2023-11-14T22:13:20.000Z"
    assert not any(entry["duplicate"] for entry in received)


def test_every_device_gets_its_own_copy_and_own_companions_a_sent_copy(town: Town) -> None:
    ours, theirs = town.companion(town.anna), town.companion(town.ben)
    message_id = town.anna.send(BEN, Text("to all"))
    assert inbox(town.ben)[-1][4] == "to all"
    assert theirs.read(theirs.of("message")[0]).conversation == "to all"
    copy = ours.of("message")[0]
    assert copy.attrs["id"] == message_id
    assert copy.attrs["recipient"] == f"{BEN}@s.whatsapp.net"
    sent = ours.read(copy).device_sent_message
    assert (sent.destination_jid, sent.message.conversation) == (f"{BEN}@s.whatsapp.net", "to all")
    assert town.anna.state.inbox.after(0) == []


def test_copy_from_an_own_companion_is_shown_as_from_me(town: Town) -> None:
    ours = town.companion(town.anna)
    sent = e2e_pb2.DeviceSentMessage(destination_jid=f"{BEN}@s.whatsapp.net", message=text("I wrote this"))
    message = e2e_pb2.Message(device_sent_message=sent)
    stanza = Node("message", {"id": "X1", "from": str(ours.jid), "recipient": f"{BEN}@s.whatsapp.net", "t": "1"})
    stanza.content = [ours.encrypt(town.anna.jid, message)]
    town.anna.receive(stanza)
    assert inbox(town.anna) == [(ANNA, BEN, True, "text", "I wrote this")]
    assert town.anna.state.inbox.after(0)[0]["deviceId"] == 1
    receipt = town.network.sent("receipt", f"{ANNA}@s.whatsapp.net")[-1]
    assert receipt.attrs == {
        "id": "X1", "to": f"{ANNA}:1@s.whatsapp.net", "recipient": f"{BEN}@s.whatsapp.net", "type": "sender",
    }  # fmt: skip


def test_a_stranger_cannot_pass_a_message_off_as_a_copy_of_ours(town: Town) -> None:
    theirs = town.companion(town.ben)
    sent = e2e_pb2.DeviceSentMessage(destination_jid=f"{BEN}@s.whatsapp.net", message=text("forged"))
    theirs.write(town.anna.jid, e2e_pb2.Message(device_sent_message=sent))
    assert inbox(town.anna) == [(BEN, BEN, False, "unknown", None)]


def test_delivery_receipts_by_itself_read_receipts_only_on_demand(town: Town) -> None:
    theirs = town.companion(town.ben)
    theirs.write(town.anna.jid, text("hi"), "M1")
    sender = f"{ANNA}@s.whatsapp.net"
    assert [r.attrs for r in town.network.sent("receipt", sender)] == [{"id": "M1", "to": str(theirs.jid)}]
    town.anna.mark_read("M1")
    read = town.network.sent("receipt", sender)[-1].attrs
    assert (read["id"], read["to"], read["type"]) == ("M1", f"{BEN}@s.whatsapp.net", "read")
    with pytest.raises(RefusedError) as refused:
        town.anna.mark_read("nothing")
    assert refused.value.status == 404


def test_second_arrival_of_an_id_is_marked(town: Town) -> None:
    theirs = town.companion(town.ben)
    theirs.write(town.anna.jid, text("once"), "M1")
    theirs.write(town.anna.jid, text("once"), "M1")
    theirs.write(town.anna.jid, text("twice"), "M2")
    assert [(e["messageId"], e["duplicate"]) for e in town.anna.state.inbox.after(0)] == [
        ("M1", False), ("M1", True), ("M2", False),
    ]  # fmt: skip
    assert town.anna.duplicates == 1


def test_same_ciphertext_again_is_not_shown_but_receipted(town: Town) -> None:
    theirs = town.companion(town.ben)
    stanza = Node("message", {"id": "M1", "from": str(theirs.jid)}, [theirs.encrypt(town.anna.jid, text("x"))])
    town.anna.receive(stanza)
    town.anna.receive(stanza)
    assert len(town.anna.state.inbox) == 1
    assert len(theirs.of("receipt")) == 2
    assert (town.anna.duplicates, town.anna.undecryptable) == (1, 0)


def test_number_and_lid_of_a_sender_are_the_same_person_and_session(town: Town) -> None:
    theirs = town.companion(town.ben)
    theirs.write(town.anna.jid, text("by number"), "M1")
    by_lid = Jid(town.ben.lid, LID_SERVER, theirs.jid.device)
    town.anna.receive(
        Node("message", {"id": "M2", "from": str(by_lid)}, [theirs.encrypt(town.anna.jid, text("by lid"))])
    )
    assert [(e["from"], e["text"]) for e in town.anna.state.inbox.after(0)] == [(BEN, "by number"), (BEN, "by lid")]
    assert town.anna.state.sessions.addresses() == [f"{BEN}:1"]


def test_unreadable_message_is_counted_and_asked_for_again_with_keys_the_second_time(town: Town) -> None:
    theirs = town.companion(town.ben)
    broken = Node("enc", {"v": "2", "type": "msg"}, b"\x33" + bytes(60))
    stanza = Node("message", {"id": "M1", "from": str(theirs.jid), "t": "77"}, [broken])
    for _ in range(7):
        town.anna.receive(stanza)
    assert town.anna.undecryptable == 7
    assert town.anna.state.inbox.after(0) == []
    retries = [r for r in theirs.of("receipt") if r.attrs["type"] == "retry"]
    counts = [(retry.child("retry") or Node("")).attrs["count"] for retry in retries]
    assert counts == ["1", "2", "3", "4", "5"]
    assert [retry.child("keys") is not None for retry in retries] == [False, True, True, True, True]
    acks = [a.attrs["class"] for a in town.network.sent("ack", f"{ANNA}@s.whatsapp.net")]
    assert acks == ["message"] * 7


def retry_receipt(message_id: str, device: Jid, *children: Node) -> Node:
    return Node("receipt", {"id": message_id, "type": "retry", "from": str(device)}, [
        Node("retry", {"count": "1", "id": message_id, "v": "1"}), *children,
    ])  # fmt: skip


def test_retry_receipt_is_answered_to_that_device_alone_with_a_fresh_session(town: Town) -> None:
    theirs, other = town.companion(town.ben), town.companion(town.ben)
    message_id = town.anna.send(BEN, Text("again please"))
    theirs.forget_sessions()
    town.anna.receive(retry_receipt(message_id, theirs.jid))
    assert len(theirs.of("message")) == 2
    again = theirs.of("message")[1]
    enc = again.child("enc")
    assert enc is not None
    assert (enc.attrs["type"], enc.attrs["count"]) == ("pkmsg", "1")
    assert theirs.read(again).conversation == "again please"
    assert len(other.of("message")) == 1
    assert town.network.sent("message", f"{ANNA}@s.whatsapp.net")[-1].attrs["device_fanout"] == "false"


def test_retry_with_keys_uses_them_and_own_companions_get_a_sent_copy_again(town: Town) -> None:
    ours, theirs = town.companion(town.anna), town.companion(town.ben)
    message_id = town.anna.send(BEN, Text("hm"))
    from wahub.sandbox.phone import bundles

    bundle = theirs.key_bundle()
    taken: list[Jid] = []
    take = town.network.take_bundle
    town.network.take_bundle = lambda device: (taken.append(device), take(device))[1]  # type: ignore[method-assign]
    town.anna.receive(
        retry_receipt(message_id, theirs.jid, bundles.registration(bundle.registration_id), bundles.to_node(bundle))
    )
    assert taken == []
    assert theirs.read(theirs.of("message")[-1]).conversation == "hm"
    town.anna.receive(retry_receipt(message_id, ours.jid))
    assert taken == [ours.jid]
    copy = ours.of("message")[-1]
    assert copy.attrs["recipient"] == f"{BEN}@s.whatsapp.net"
    assert ours.read(copy).device_sent_message.message.conversation == "hm"


def test_retries_of_strangers_of_unknown_ids_and_beyond_the_fifth_are_ignored(town: Town) -> None:
    theirs = town.companion(town.ben)
    stranger = town.world.create_phone("201000000003", "Cy")[0]
    theirs_of_stranger = town.companion(stranger)
    message_id = town.anna.send(BEN, Text("secret"))
    town.anna.receive(retry_receipt(message_id, theirs_of_stranger.jid))
    town.anna.receive(retry_receipt("UNKNOWN", theirs.jid))
    assert theirs_of_stranger.got == []
    for _ in range(9):
        town.anna.receive(retry_receipt(message_id, theirs.jid))
    assert len(theirs.of("message")) == 1 + 5


def test_phone_that_lost_a_session_gets_the_message_by_its_retry(town: Town) -> None:
    town.anna.send(BEN, Text("one"))
    town.ben.send(ANNA, Text("two"))
    town.ben.state.sessions.forget(f"{ANNA}:0")
    town.anna.send(BEN, Text("three"))
    assert [row[4] for row in inbox(town.ben)] == ["one", "three"]
    assert town.ben.undecryptable == 1


def test_off_means_queued_and_nothing_can_be_done_with_it(town: Town) -> None:
    town.world.set_online(town.ben, False)
    town.anna.send(BEN, Text("for later"))
    assert inbox(town.ben) == []
    for action in (lambda: town.ben.send(ANNA, Text("no")), lambda: town.ben.mark_read("x")):
        with pytest.raises(RefusedError) as refused:
            action()
        assert refused.value.status == 409
    town.world.set_online(town.ben, True)
    assert [row[4] for row in inbox(town.ben)] == ["for later"]


def test_note_to_self_goes_to_own_companions_only(town: Town) -> None:
    ours = town.companion(town.anna)
    town.anna.send(ANNA, Text("milk"))
    assert len(ours.got) == 1
    assert ours.read(ours.got[0]).device_sent_message.message.conversation == "milk"


def test_quote_reaction_edit_and_delete_name_their_message(town: Town) -> None:
    first = town.anna.send(BEN, Text("what?"))
    town.ben.send(ANNA, Text("this"), quote=first)
    town.ben.send(ANNA, Reaction(first, "\U0001f44d"))
    town.anna.send(BEN, Edit(first, "what exactly?"))
    town.anna.send(BEN, Delete(first))
    quoted, reaction = town.anna.state.inbox.after(0)
    assert (quoted["text"], quoted["quote"]) == ("this", {"messageId": first, "text": "what?"})
    assert (reaction["type"], reaction["reaction"]) == ("reaction", {"messageId": first, "emoji": "\U0001f44d"})
    edit, delete = town.ben.state.inbox.after(1)
    assert (edit["type"], edit["text"], edit["edit"]["messageId"]) == ("edit", "what exactly?", first)
    assert (delete["type"], delete["delete"]) == ("delete", {"messageId": first})
    stanzas = town.network.sent("message", f"{ANNA}@s.whatsapp.net")
    assert [stanza.attrs.get("edit") for stanza in stanzas] == [None, "1", "7"]


def test_only_own_messages_are_edited_and_only_known_ones_quoted(town: Town) -> None:
    town.ben.send(ANNA, Text("his"))
    his = town.anna.state.inbox.after(0)[0]["messageId"]
    statuses = []
    for content, quote in (
        (Edit(his, "x"), None),
        (Delete(his), None),
        (Reaction("NONE", "x"), None),
        (Text("x"), "N"),
    ):
        with pytest.raises(RefusedError) as refused:
            town.anna.send(BEN, content, quote)
        statuses.append(refused.value.status)
    assert statuses == [400, 400, 404, 404]


def test_location_and_contact(town: Town) -> None:
    town.anna.send(BEN, Location(30.0444, 31.2357, "Cairo", "Tahrir"))
    town.anna.send(BEN, Contact("Cy", "BEGIN:VCARD\nEND:VCARD"))
    place, card = town.ben.state.inbox.after(0)
    assert place["location"] == {"latitude": 30.0444, "longitude": 31.2357, "name": "Cairo", "address": "Tahrir"}
    assert card["contact"] == {"name": "Cy", "vcard": "BEGIN:VCARD\nEND:VCARD"}


def test_unknown_number(town: Town) -> None:
    with pytest.raises(RefusedError) as refused:
        town.anna.send("209999999999", Text("anyone?"))
    assert refused.value.status == 404


def test_presence_and_typing(town: Town) -> None:
    by_lid = f"{town.ben.lid}@lid"
    number = f"{BEN}:3@s.whatsapp.net"
    town.anna.receive(Node("presence", {"from": number, "type": "available"}))
    town.anna.receive(Node("chatstate", {"from": by_lid}, [Node("composing")]))
    town.anna.receive(Node("chatstate", {"from": number}, [Node("composing", {"media": "audio"})]))
    town.anna.receive(Node("chatstate", {"from": number}, [Node("paused")]))
    town.anna.receive(Node("presence", {"from": number, "type": "unavailable"}))
    events = town.anna.state.presence.after(0)
    assert [e["state"] for e in events] == ["available", "composing", "recording", "paused", "unavailable"]
    assert {e["from"] for e in events} == {BEN}
    assert [e["seq"] for e in town.anna.state.presence.after(3)] == [4, 5]


def test_receipts_and_notifications_are_acknowledged(town: Town) -> None:
    town.anna.receive(Node("receipt", {"id": "R1", "from": f"{BEN}@s.whatsapp.net", "type": "read"}))
    town.anna.receive(Node("notification", {"id": "N1", "from": "s.whatsapp.net", "type": "devices"}))
    acks = [ack.attrs for ack in town.network.sent("ack", f"{ANNA}@s.whatsapp.net")]
    assert acks == [
        {"class": "receipt", "id": "R1", "to": f"{BEN}@s.whatsapp.net", "type": "read"},
        {"class": "notification", "id": "N1", "to": "s.whatsapp.net", "type": "devices"},
    ]


@pytest.mark.parametrize("attrs", [{}, {"id": "M"}, {"id": "M", "from": "nonsense"}, {"id": "M", "from": "1@g.us"}])
def test_malformed_stanzas_do_no_harm(town: Town, attrs: dict[str, str]) -> None:
    for tag in ("message", "presence", "chatstate"):
        town.anna.receive(Node(tag, attrs, [Node("enc", {"type": "msg"}, b"\x33"), Node("composing")]))
    assert town.anna.state.inbox.after(0) == []
    assert town.anna.state.presence.after(0) == []


def _ask_for(companion: FakeCompanion, phone: Phone, *ids: str) -> None:
    """A companion asks a phone for messages that it could not read."""
    request = e2e_pb2.PeerDataOperationRequest(type=e2e_pb2.PLACEHOLDER_MESSAGE_RESEND)
    for wanted in ids:
        request.placeholders.add().message_key.id = wanted
    kind = e2e_pb2.ProtocolMessage.PEER_DATA_OPERATION_REQUEST_MESSAGE
    protocol = e2e_pb2.ProtocolMessage(type=kind, peer_data_operation_request=request)
    attrs = {"id": "ASK", "from": str(companion.jid), "category": "peer", "t": "1"}
    phone.receive(Node("message", attrs, [companion.encrypt(phone.jid, e2e_pb2.Message(protocol_message=protocol))]))


def test_a_companion_gets_from_its_phone_what_it_could_not_read(town: Town) -> None:
    ours = town.companion(town.anna)
    received = town.ben.send(ANNA, Text("for Anna"))
    sent = town.anna.send(BEN, Text("from Anna"))
    _ask_for(ours, town.anna, received, "unknown", sent)
    stanza = ours.of("message")[-1]
    assert stanza.attrs["category"] == "peer"
    answer = ours.read(stanza).protocol_message.peer_data_operation_response
    assert answer.stanza_id == "ASK"
    first, unknown, second = (
        e2e_pb2.WebMessageInfo.FromString(result.resent.web_message_info) for result in answer.results
    )
    assert not unknown.HasField("key")
    assert (first.key.id, first.key.from_me, first.message.conversation) == (received, False, "for Anna")
    assert (second.key.id, second.key.from_me, second.message.conversation) == (sent, True, "from Anna")
    assert {first.key.remote_jid, second.key.remote_jid} == {f"{BEN}@s.whatsapp.net"}
    assert first.message_timestamp == 1_700_000_000


def test_nobody_else_gets_messages_of_a_phone(town: Town) -> None:
    theirs = town.companion(town.ben)
    secret = town.anna.send(BEN, Text("between us"))
    before = len(theirs.of("message"))
    _ask_for(theirs, town.anna, secret)
    assert len(theirs.of("message")) == before
