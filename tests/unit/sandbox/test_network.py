"""The network without sockets: linking, strictness, queues, routing."""

from __future__ import annotations

import pytest
from tests.unit.sandbox.network_client import (
    ALICE,
    BOB,
    Client,
    Person,
    Signer,
    child_data,
    kinds,
    linked,
    new_signed_prekey,
    settle,
)

from wahub.sandbox.model import Jid, PairingRequest, RefusedError
from wahub.sandbox.network.network import Network
from wahub.sandbox.node import Node


class TestLinking:
    async def test_pairing_ends_with_515_and_the_device_logs_in(self, network: Network, alice: Person) -> None:
        client = Client(network)
        assert client.pair(alice) == 1
        assert client.take("stream:error").attrs["code"] == "515"
        assert client.session is not None
        assert client.session.closed
        client.log_in(prekeys=0)
        success = client.take("success")
        assert success.attrs["lid"] == f"{alice.lid}:1@lid"
        assert [child.tag for child in client.take("ib").children] == ["offline"]
        assert kinds(network) == []

    async def test_nothing_is_linked_before_the_signature_verified(self, network: Network, alice: Person) -> None:
        client = Client(network)
        client.pair(alice, forge=True)
        assert client.take("stream:error").attrs["code"] == "401"
        assert network.linked_devices(ALICE) == []
        assert kinds(network) == ["pairing"]

    async def test_a_reference_is_good_once(self, network: Network, alice: Person, bob: Person) -> None:
        client = Client(network)
        client.register()
        request = client.request()
        network.pair(alice.jid, request, Signer(alice.identity.key))
        with pytest.raises(RefusedError) as refused:
            network.pair(bob.jid, request, Signer(bob.identity.key))
        assert refused.value.status == 409

    async def test_a_code_with_other_keys_is_refused(self, network: Network, alice: Person) -> None:
        client = Client(network)
        client.register()
        shown = client.request()
        wrong = PairingRequest(shown.ref, bytes(32), shown.identity_key, shown.adv_secret)
        with pytest.raises(RefusedError) as refused:
            network.pair(alice.jid, wrong, Signer(alice.identity.key))
        assert refused.value.status == 400

    async def test_a_code_whose_client_went_away_is_expired(self, network: Network, alice: Person) -> None:
        client = Client(network)
        session = client.register()
        request = client.request()
        session.abort()
        with pytest.raises(RefusedError) as refused:
            network.pair(alice.jid, request, Signer(alice.identity.key))
        assert refused.value.status == 409

    async def test_a_registration_with_a_bad_signature_fails(self, network: Network) -> None:
        client = Client(network)
        client.register(signed_prekey_signature=bytes(64))
        assert client.take("failure").attrs["reason"] == "400"
        assert kinds(network) == ["registration"]


class TestStrictness:
    async def test_a_broken_handshake_ends_the_session(self, network: Network, alice: Person) -> None:
        client = Client(network)
        client.pair(alice)
        from wahub.sandbox.proto.payload_pb2 import ClientPayload

        session = client.connect(ClientPayload(username=int(ALICE), device=1), break_finish=True)
        assert session.closed
        assert kinds(network) == ["wire"]

    async def test_a_frame_with_a_wrong_mac_ends_the_session(self, network: Network, alice: Person) -> None:
        client = await linked(network, alice)
        client.send_raw(bytes(40))
        assert client.session is not None
        assert client.session.closed
        assert kinds(network) == ["wire"]
        assert network.stats()["connections"] == 0

    async def test_a_message_before_login_is_refused(self, network: Network, alice: Person) -> None:
        client = Client(network)
        client.register()
        client.message(str(alice.jid), "EARLY", str(alice.jid))
        assert client.take("stream:error").attrs["code"] == "401"
        assert kinds(network) == ["before_login"]

    async def test_an_unlinked_key_cannot_log_in(self, network: Network, alice: Person) -> None:
        client = await linked(network, alice)
        network.remove_device(ALICE, 1)
        error = client.take("stream:error")
        assert (error.attrs["code"], error.children[0].attrs["type"]) == ("401", "device_removed")
        client.log_in()
        assert client.take("failure").attrs["reason"] == "401"
        assert kinds(network) == ["login"]

    async def test_a_second_socket_replaces_the_first(self, network: Network, alice: Person) -> None:
        client = await linked(network, alice)
        first = client.session
        assert first is not None
        first.take_output()
        client.log_in(prekeys=0)
        assert first.closed
        assert network.stats()["connections"] == 1
        assert network.stats()["maxConnectionsPerDevice"] == 2
        assert kinds(network) == ["second_socket"]

    async def test_a_spent_prekey_cannot_be_uploaded_again(self, network: Network, alice: Person) -> None:
        client = await linked(network, alice)
        upload = client.upload(3)
        client.query("encrypt", "set", *upload)
        spent = [network.take_bundle(Jid.parse(client.address)).prekey_id for _ in range(13)]
        assert len(set(spent)) == 13
        answer = client.query("encrypt", "set", *upload)
        assert answer.attrs["type"] == "error"
        assert kinds(network) == ["prekeys"]

    async def test_a_prekey_signed_by_another_identity_is_refused(self, network: Network, alice: Person) -> None:
        client, other = await linked(network, alice), Client(network)
        rotate = Node("rotate", {}, [new_signed_prekey(other.identity, 2)])
        assert client.query("encrypt", "set", rotate).attrs["type"] == "error"
        good = Node("rotate", {}, [new_signed_prekey(client.identity, 2)])
        assert client.query("encrypt", "set", good).attrs["type"] == "result"
        assert network.take_bundle(Jid.parse(client.address)).signed_prekey_id == 2

    async def test_a_message_to_a_device_that_never_was_is_refused(
        self, network: Network, alice: Person, bob: Person
    ) -> None:
        client = await linked(network, alice)
        client.message(str(bob.jid), "M1", str(bob.jid), f"{BOB}:7@s.whatsapp.net")
        assert client.take("ack").attrs["error"] == "479"
        await settle()
        assert bob.got == []
        assert kinds(network) == ["message"]

    async def test_a_companion_cannot_remove_another(self, network: Network, alice: Person) -> None:
        first, second = await linked(network, alice), await linked(network, alice)
        child = Node("remove-companion-device", {"jid": second.address, "reason": "user_initiated"})
        assert first.query("md", "set", child).attrs["type"] == "error"
        assert len(network.linked_devices(ALICE)) == 2


class TestPrekeys:
    async def test_each_one_time_prekey_is_handed_out_once_then_none(self, network: Network, alice: Person) -> None:
        client = Client(network)
        client.pair(alice)
        client.log_in(prekeys=6)
        ids = [network.take_bundle(Jid.parse(client.address)).prekey_id for _ in range(8)]
        assert ids[6:] == [None, None]
        assert len(set(ids[:6])) == 6
        low = [n for n in client.all("notification") if n.attrs["type"] == "encrypt"]
        assert [node.children[0].attrs["value"] for node in low] == ["4"]

    async def test_count_and_digest(self, network: Network, alice: Person) -> None:
        client = await linked(network, alice)
        count = client.query("encrypt", "get", Node("count")).child("count")
        assert count is not None
        assert count.attrs["value"] == "10"
        digest = client.query("encrypt", "get", Node("digest")).child("digest")
        assert digest is not None
        assert child_data(digest, "identity") == client.identity.key.public

    async def test_keys_of_a_stranger_are_an_error(self, network: Network, alice: Person) -> None:
        client, gone = await linked(network, alice), await linked(network, alice)
        network.remove_device(ALICE, 2)
        client.query("encrypt", "get", Node("key", {}, [Node("user", {"jid": gone.address})]))
        assert kinds(network) == []
        wanted = Node("key", {}, [Node("user", {"jid": "99@s.whatsapp.net"})])
        listed = client.query("encrypt", "get", wanted).child("list")
        assert listed is not None
        assert listed.children[0].children[0].attrs["code"] == "404"
        assert kinds(network) == ["recipient"]


class TestRouting:
    async def test_each_device_gets_its_own_copy(self, network: Network, alice: Person, bob: Person) -> None:
        sender, sibling, receiver = [await linked(network, person) for person in (alice, alice, bob)]
        sender.got.clear()
        sender.message(str(bob.jid), "M1", str(bob.jid), receiver.address, str(alice.jid), sibling.address)
        await settle()
        ack = sender.take("ack")
        assert ack.attrs["class"] == "message"
        assert "error" not in ack.attrs and "phash" not in ack.attrs
        got = receiver.take("message").attrs
        assert got["from"] == sender.address
        assert got["sender_lid"] == f"{alice.lid}@lid"
        assert "recipient" not in got
        copy = sibling.take("message").attrs
        assert copy["recipient"] == str(bob.jid)
        assert copy["peer_recipient_lid"] == f"{bob.lid}@lid"
        assert "sender_lid" not in copy
        assert [person.tags() for person in (alice, bob)] == [["message"], ["message"]]

    async def test_a_lid_message_arrives_with_lid_addresses(self, network: Network, alice: Person, bob: Person) -> None:
        sender, receiver = await linked(network, alice), await linked(network, bob)
        receiver_lid = f"{bob.lid}:1@lid"
        sender.message(f"{bob.lid}@lid", "M1", f"{bob.lid}@lid", receiver_lid)
        got = receiver.take("message").attrs
        assert got["from"] == f"{alice.lid}:1@lid"
        assert got["sender_pn"] == str(alice.jid)
        assert got["addressing_mode"] == "lid"

    async def test_an_incomplete_or_outdated_list_is_told_by_phash(
        self, network: Network, alice: Person, bob: Person
    ) -> None:
        sender, gone = await linked(network, alice), await linked(network, bob)
        sender.message(str(bob.jid), "M1", str(bob.jid))
        assert sender.take("ack").attrs["phash"].startswith("2:")
        network.remove_device(BOB, 1)
        sender.message(str(bob.jid), "M2", str(bob.jid), gone.address, str(alice.jid))
        assert "phash" in sender.take("ack").attrs
        await settle()
        assert len(bob.got) == 2
        assert kinds(network) == []

    async def test_a_retry_goes_to_the_one_device_that_asked(
        self, network: Network, alice: Person, bob: Person
    ) -> None:
        sender, receiver = await linked(network, alice), await linked(network, bob)
        receiver.receipt(sender.address, "M1", type="retry")
        retry = sender.take("receipt")
        assert (retry.attrs["type"], retry.attrs["from"]) == ("retry", receiver.address)
        enc = Node("enc", {"v": "2", "type": "pkmsg", "count": "1"}, b"again")
        attrs = {"to": receiver.address, "id": "M1", "type": "text", "device_fanout": "false"}
        sender.send(Node("message", attrs, [enc]))
        assert receiver.take("message").children[0].attrs["count"] == "1"
        await settle()
        assert bob.got == []
        assert network.stats()["messages"]["undecryptable"] == 1


class TestMailbox:
    async def test_mail_is_sent_again_until_it_is_acknowledged(
        self, network: Network, alice: Person, bob: Person
    ) -> None:
        sender, receiver = await linked(network, alice), await linked(network, bob)
        for message_id in ("M1", "M2"):
            sender.message(str(bob.jid), message_id, str(bob.jid), receiver.address)
        assert len(receiver.all("message")) == 2
        receiver.receipt(sender.address, "M1")
        receiver.got.clear()

        receiver.log_in(prekeys=0)

        again = receiver.all("message")
        assert [(m.attrs["id"], m.attrs["offline"]) for m in again] == [("M2", "0")]
        counts = [child.attrs["count"] for ib in receiver.all("ib") for child in ib.children]
        assert counts == ["1", "1"]
        receiver.send(Node("ack", {"class": "message", "id": "M2", "to": sender.address}))
        receiver.got.clear()
        receiver.log_in(prekeys=0)
        assert receiver.all("message") == []

    async def test_receipts_wait_too_and_are_popped_by_acks(self, network: Network, alice: Person, bob: Person) -> None:
        sender, receiver = await linked(network, alice), await linked(network, bob)
        assert sender.session is not None
        sender.session.abort()
        receiver.receipt(sender.address, "M1")
        receiver.receipt(sender.address, "M1", type="read")
        sender.log_in(prekeys=0)
        waiting = sender.all("receipt")
        assert [receipt.attrs.get("type") for receipt in waiting] == [None, "read"]
        attrs = {"class": "receipt", "id": "M1", "to": waiting[0].attrs["from"]}
        sender.send(Node("ack", attrs))
        sender.got.clear()
        sender.log_in(prekeys=0)
        assert [receipt.attrs.get("type") for receipt in sender.all("receipt")] == ["read"]

    async def test_nothing_is_sent_before_the_client_asks_for_its_mail(
        self, network: Network, alice: Person, bob: Person
    ) -> None:
        sender, receiver = await linked(network, alice), await linked(network, bob)
        receiver.log_in(prekeys=0, active=False)
        sender.message(str(bob.jid), "M1", receiver.address)
        assert receiver.all("message") == []
        receiver.query("passive", "set", Node("active"))
        assert [m.attrs["id"] for m in receiver.all("message")] == ["M1"]

    async def test_a_phone_that_is_off_gets_its_mail_in_order(
        self, network: Network, alice: Person, bob: Person
    ) -> None:
        sender = await linked(network, alice)
        network.set_phone_online(BOB, False)
        for index in range(3):
            sender.message(str(bob.jid), f"M{index}", str(bob.jid))
        await settle()
        assert bob.got == []
        network.set_phone_online(BOB, True)
        await settle()
        assert [stanza.attrs["id"] for stanza in bob.got] == ["M0", "M1", "M2"]


class TestPresence:
    async def test_a_subscriber_sees_the_other_come_and_go(self, network: Network, alice: Person, bob: Person) -> None:
        watcher, watched = await linked(network, alice), await linked(network, bob)
        watcher.send(Node("presence", {"to": str(bob.jid), "type": "subscribe"}))
        watched.send(Node("presence", {"type": "available", "name": "Bob"}))
        assert watched.session is not None
        watched.session.abort()
        seen = [node.attrs["type"] for node in watcher.all("presence")]
        assert seen == ["unavailable", "available", "unavailable"]

    async def test_typing_reaches_phones_and_available_companions_only(
        self, network: Network, alice: Person, bob: Person
    ) -> None:
        typist, here, away = [await linked(network, person) for person in (alice, bob, bob)]
        here.send(Node("presence", {"type": "available", "name": "Bob"}))
        typist.send(Node("chatstate", {"to": str(bob.jid)}, [Node("composing")]))
        await settle()
        assert here.take("chatstate").attrs["from"] == str(alice.jid)
        assert away.all("chatstate") == []
        assert "chatstate" in bob.tags()


class TestDevices:
    async def test_peers_are_told_of_a_new_and_of_a_removed_companion(
        self, network: Network, alice: Person, bob: Person
    ) -> None:
        sender = await linked(network, alice)
        sender.message(str(bob.jid), "M1", str(bob.jid))
        await linked(network, bob)
        network.remove_device(BOB, 1)
        told = [n for n in sender.all("notification") if n.attrs["type"] == "devices"]
        assert [node.children[0].tag for node in told] == ["add", "remove"]
        jids = [device.attrs["jid"] for device in told[0].children[0].children]
        assert jids == [f"{BOB}:1@s.whatsapp.net", f"{bob.lid}:1@lid"]

    async def test_usync_lists_devices_and_the_lid(self, network: Network, alice: Person, bob: Person) -> None:
        client = await linked(network, alice)
        await linked(network, bob)
        asked = Node("query", {}, [Node("devices", {"version": "2"}), Node("lid")])
        users = Node("list", {}, [Node("user", {"jid": str(bob.jid)}), Node("user", {"jid": "99@s.whatsapp.net"})])
        usync = client.query("usync", "get", Node("usync", {"sid": "1"}, [asked, users])).child("usync")
        assert usync is not None
        found = usync.child("list")
        assert found is not None
        known, unknown = found.children
        lid = known.child("lid")
        assert lid is not None
        assert lid.attrs["val"] == f"{bob.lid}@lid"
        assert unknown.child("lid") is None
        devices = known.children[0].children[0].children
        assert [device.attrs for device in devices] == [{"id": "0"}, {"id": "1", "key-index": "1"}]

    async def test_ids_are_never_given_out_twice(self, network: Network, alice: Person) -> None:
        await linked(network, alice)
        network.remove_device(ALICE, 1)
        await linked(network, alice)
        assert [device.id for device in network.linked_devices(ALICE)] == [2]


async def test_the_trace_shows_no_bytes(network: Network, alice: Person, bob: Person) -> None:
    client = await linked(network, alice)
    client.message(str(bob.jid), "M1", str(bob.jid), data=b"top secret")
    entries = network.trace(ALICE, 0)
    assert "top secret" not in repr(entries)
    message = next(entry for entry in entries if entry["stanza"]["tag"] == "message")
    assert message["direction"] == "in"
    assert message["stanza"]["children"][0]["children"][0]["children"][0]["bytes"] == len(b"top secret")
    last = entries[-1]["seq"]
    assert network.trace(ALICE, last) == []


async def test_reset_forgets_everybody_and_closes_sockets(network: Network, alice: Person) -> None:
    client = await linked(network, alice)
    network.reset()
    assert client.session is not None
    assert client.session.closed
    assert network.stats()["logins"] == 0
    with pytest.raises(RefusedError):
        network.linked_devices(ALICE)
    network.add_account(Person(ALICE), business=False)


async def test_an_ack_with_an_error_takes_a_message_out_and_is_counted_apart(
    network: Network, alice: Person, bob: Person
) -> None:
    client = await linked(network, alice)
    for message_id, error in (("M1", {}), ("M2", {"error": "487"})):
        enc = Node("enc", {"v": "2", "type": "msg"}, b"x")
        listed = Node("participants", {}, [Node("to", {"jid": client.address}, [enc])])
        stanza = Node("message", {"to": f"{ALICE}@s.whatsapp.net", "id": message_id, "type": "text"}, [listed])
        network.submit(bob.jid, stanza)
        taken = client.take("message")
        ack = {"class": "message", "id": message_id, "to": taken.attrs["from"]}
        client.send(Node("ack", ack | error))
    counted = network.stats()["messages"]
    assert (counted["delivered"], counted["nacked"]) == (1, 1)
    assert client.session is not None
    client.session.close()
    client.log_in(prekeys=0)
    assert client.all("message") == []
