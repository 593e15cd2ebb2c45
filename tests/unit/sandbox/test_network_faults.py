"""Faults: what they match, how often they fire, what they do, and bad input."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.sandbox.network_client import ALICE, BOB, Client, Person, linked, settle

from wahub.sandbox.model import RefusedError
from wahub.sandbox.network.faults import SOCKET_FAULTS, STANZA_FAULTS, Faults
from wahub.sandbox.network.network import Network
from wahub.sandbox.node import Node


@pytest.fixture
def people(alice: Person, bob: Person) -> tuple[Person, Person]:
    return alice, bob


async def pair_of(network: Network, people: tuple[Person, Person]) -> tuple[Client, Client]:
    return await linked(network, people[0]), await linked(network, people[1])


def send(client: Client, message_id: str, *extra: str) -> None:
    client.message(f"{BOB}@s.whatsapp.net", message_id, f"{BOB}@s.whatsapp.net", *extra)


@pytest.mark.parametrize(
    ("match", "do", "times", "word"),
    [
        ({}, {}, None, "exactly one"),
        ({}, {"drop": {}, "mute": {}}, None, "exactly one"),
        ({}, {"explode": {}}, None, "unknown fault"),
        ({}, {"drop": []}, None, "object"),
        ({}, {"drop": {"now": 1}}, None, "do.drop.now"),
        ({}, {"streamError": {}}, None, "do.streamError.code"),
        ({}, {"streamError": {"code": "515"}}, None, "do.streamError.code"),
        ({}, {"slow": {"ms": -1}}, None, "do.slow.ms"),
        ({}, {"ackError": {"code": True}}, None, "do.ackError.code"),
        ({"who": "me"}, {"drop": {}}, None, "match.who"),
        ({"number": 49}, {"drop": {}}, None, "match.number"),
        ({"nth": 0}, {"drop": {}}, None, "match.nth"),
        ({}, {"lidMigration": {"number": BOB}}, None, "match"),
        ({"number": ALICE, "nth": 2}, {"lidMigration": {"number": BOB}}, None, "match"),
        ({"number": ALICE}, {"lidMigration": {}}, None, "do.lidMigration.number"),
        ({"number": ALICE}, {"mediaError": {"status": 404}}, None, "match"),
        ({"stanza": "message"}, {"mediaError": {"status": 404}}, None, "match"),
        ({}, {"mediaError": {}}, None, "do.mediaError.status"),
        ({}, {"reorder": {"ms": "x"}}, None, "do.reorder.ms"),
        ({}, {"drop": {}}, -1, "times"),
    ],
)
def test_bad_faults_are_refused_by_name(
    match: dict[str, Any], do: dict[str, Any], times: int | None, word: str
) -> None:
    with pytest.raises(RefusedError, match=word) as refused:
        Faults().arm(match, do, times)
    assert refused.value.status == 400


def test_nth_and_times_count_matches() -> None:
    faults = Faults()
    faults.arm({"number": ALICE, "stanza": "message", "nth": 2}, {"noAck": {}}, 2)
    taken = [faults.take(STANZA_FAULTS, ALICE, BOB, 1, "message") for _ in range(5)]
    assert [action is not None for action in taken] == [False, True, True, False, False]
    assert faults.armed == []


def test_a_fault_without_times_fires_once_and_with_zero_until_disarmed() -> None:
    faults = Faults()
    faults.arm({}, {"drop": {}}, None)
    assert [faults.take(SOCKET_FAULTS, ALICE, None, 1, "iq") is not None for _ in range(3)] == [True, False, False]
    fault_id = faults.arm({}, {"drop": {}}, 0)
    assert all(faults.take(SOCKET_FAULTS, ALICE, None, 1, "iq") for _ in range(5))
    faults.disarm(fault_id)
    assert faults.take(SOCKET_FAULTS, ALICE, None, 1, "iq") is None
    with pytest.raises(RefusedError):
        faults.disarm(fault_id)


def test_socket_faults_hit_only_the_named_account_and_device() -> None:
    faults = Faults()
    faults.arm({"number": BOB, "deviceId": 2}, {"drop": {}}, 0)
    assert faults.take(SOCKET_FAULTS, ALICE, BOB, 2, "message") is None
    assert faults.take(SOCKET_FAULTS, BOB, ALICE, 1, "message") is None
    assert faults.take(SOCKET_FAULTS, BOB, ALICE, 2, "message") is not None


class TestEffects:
    async def test_no_ack_delivers_all_the_same(self, network: Network, people: tuple[Person, Person]) -> None:
        client, _ = await pair_of(network, people)
        network.arm_fault({"number": BOB}, {"noAck": {}}, 1)
        send(client, "M1")
        await settle()
        assert client.all("ack") == []
        assert people[1].tags() == ["message"]

    async def test_an_ack_error_delivers_nothing(self, network: Network, people: tuple[Person, Person]) -> None:
        client, _ = await pair_of(network, people)
        network.arm_fault({"number": BOB}, {"ackError": {"code": 463}}, 1)
        send(client, "M1")
        await settle()
        assert client.take("ack").attrs["error"] == "463"
        assert people[1].got == []
        assert network.stats()["messages"]["accepted"] == 0

    async def test_a_late_ack_comes_late(self, network: Network, people: tuple[Person, Person]) -> None:
        client, _ = await pair_of(network, people)
        network.arm_fault({"number": ALICE}, {"lateAck": {"ms": 1}}, 1)
        send(client, "M1")
        assert client.all("ack") == []
        assert client.session is not None
        client.session.wake.clear()
        await client.session.wake.wait()
        assert client.take("ack").attrs["id"] == "M1"

    async def test_a_dropped_stanza_leaves_no_trace_at_either_end(
        self, network: Network, people: tuple[Person, Person]
    ) -> None:
        client, _ = await pair_of(network, people)
        network.arm_fault({"number": ALICE, "stanza": "message"}, {"dropStanza": {}}, 1)
        send(client, "M1")
        await settle()
        assert client.all("ack") == []
        assert people[1].got == []

    async def test_silence_neither_reads_nor_writes(self, network: Network, people: tuple[Person, Person]) -> None:
        client, _ = await pair_of(network, people)
        network.inject(ALICE, 1, {"silent": {}})
        send(client, "M1")
        await settle()
        assert client.got == []
        assert people[1].got == []
        assert client.session is not None
        assert not client.session.closed
        client.log_in(prekeys=0)
        assert network.stats()["violations"] == []

    async def test_mute_answers_pings_only(self, network: Network, people: tuple[Person, Person]) -> None:
        client, peer = await pair_of(network, people)
        network.inject(ALICE, 1, {"mute": {}})
        assert client.query("w:p", "get", Node("ping")).attrs["type"] == "result"
        send(client, "M1")
        peer.message(f"{ALICE}@s.whatsapp.net", "M2", client.address)
        await settle()
        assert client.got == []
        assert people[1].got == []
        client.log_in(prekeys=0)
        assert [m.attrs["id"] for m in client.all("message")] == ["M2"]

    async def test_a_corrupt_copy_differs_in_one_bit(self, network: Network, people: tuple[Person, Person]) -> None:
        client, peer = await pair_of(network, people)
        network.arm_fault({"number": BOB, "deviceId": 1}, {"corrupt": {}}, 1)
        data = bytes(range(64))
        client.message(f"{BOB}@s.whatsapp.net", "M1", peer.address, data=data)
        got = peer.take("message").children[0].data
        assert sum((a ^ b).bit_count() for a, b in zip(got, data, strict=True)) == 1

    async def test_never_ready_holds_back_success(self, network: Network, people: tuple[Person, Person]) -> None:
        client, _ = await pair_of(network, people)
        network.arm_fault({"number": ALICE, "stanza": "login"}, {"neverReady": {}}, 1)
        client.log_in(prekeys=0, active=False)
        assert client.all("success") == []
        client.log_in(prekeys=0)
        assert len(client.all("success")) == 1

    async def test_inject_needs_a_live_socket(self, network: Network, people: tuple[Person, Person]) -> None:
        client, _ = await pair_of(network, people)
        assert client.session is not None
        client.session.abort()
        with pytest.raises(RefusedError) as refused:
            network.inject(ALICE, 1, {"drop": {}})
        assert refused.value.status == 409
        with pytest.raises(RefusedError) as unknown:
            network.inject(ALICE, 9, {"drop": {}})
        assert unknown.value.status == 404


async def test_a_hidden_number_is_not_on_whatsapp_for_others(network: Network, people: tuple[Person, Person]) -> None:
    client, _ = await pair_of(network, people)

    def asked(number: str) -> str:
        contact = Node("contact", {}, f"+{number}".encode())
        usync = Node(
            "usync",
            {"mode": "query"},
            [
                Node("query", {}, [Node("contact")]),
                Node("list", {}, [Node("user", {}, [contact])]),
            ],
        )
        client.got.clear()
        answer = client.query("usync", "get", usync).children[0].child("list")
        assert answer is not None
        return answer.children[0].children[0].attrs["type"]

    network.arm_fault({"number": BOB}, {"notOnWhatsApp": {}}, 1)
    assert asked(ALICE) == "in"
    assert [asked(BOB), asked(BOB)] == ["out", "in"]
    assert asked("19999999999") == "out"


async def test_a_query_that_is_dropped_gets_no_answer(network: Network, people: tuple[Person, Person]) -> None:
    client, _ = await pair_of(network, people)
    network.arm_fault({"number": ALICE, "stanza": "iq"}, {"dropStanza": {}}, 1)
    client.got.clear()
    for name in ("Q1", "Q2"):
        client.send(Node("iq", {"id": name, "xmlns": "w:p", "type": "get"}))
    assert [answer.attrs["id"] for answer in client.all("iq")] == ["Q2"]


async def test_a_phone_that_shall_ask_again_gets_a_damaged_copy(
    network: Network, people: tuple[Person, Person]
) -> None:
    client, _ = await pair_of(network, people)
    network.arm_fault({"number": BOB}, {"retryReceipt": {}}, 1)
    for message_id in ("M1", "M2"):
        client.message(
            f"{BOB}@s.whatsapp.net", message_id, f"{BOB}@s.whatsapp.net", data=b"a ciphertext of some length"
        )
    await settle()
    first, second = (stanza.child("enc").data for stanza in people[1].got if stanza.tag == "message")
    assert len(first) == len(second)
    assert first != second


async def test_a_phone_that_does_not_answer_is_not_asked_again(network: Network, people: tuple[Person, Person]) -> None:
    client, _ = await pair_of(network, people)
    network.arm_fault({"number": BOB}, {"noRetry": {}}, 1)
    asks = {"to": f"{BOB}@s.whatsapp.net", "type": "retry"}
    for message_id in ("M1", "M2"):
        client.send(Node("receipt", {"id": message_id, **asks}, [Node("retry", {"count": "1"})]))
    await settle()
    assert [stanza.attrs["id"] for stanza in people[1].got if stanza.attrs.get("type") == "retry"] == ["M2"]


def test_media_fails_where_it_was_told(network: Network) -> None:
    network.arm_fault({"stanza": "download", "nth": 2}, {"mediaError": {"status": 410}}, None)
    assert [network.media_fault("upload"), network.media_fault("download")] == [None, None]
    assert [network.media_fault("download"), network.media_fault("download")] == [410, None]
    network.arm_fault({}, {"mediaError": {"status": 500}}, 2)
    network.arm_fault({}, {"noAck": {}}, None)
    assert [network.media_fault(place) for place in ("upload", "download", "upload")] == [500, 500, None]
    assert [fault["do"] for fault in network.faults()] == [{"noAck": {}}]
