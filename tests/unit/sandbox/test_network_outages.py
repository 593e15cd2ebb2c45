"""Faults of the connection: before the login, at the login, thieves, the server that is gone, and who is counted."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.sandbox.network_client import ALICE, Client, Person, kinds, linked, settle

from wahub.sandbox.model import RefusedError
from wahub.sandbox.network.network import Network
from wahub.sandbox.network.session import Session
from wahub.sandbox.node import Node

HANDSHAKE = {"stanza": "handshake"}


def live(client: Client) -> Session:
    assert client.session is not None
    return client.session


def device(network: Network) -> dict[str, Any]:
    """The counters of the only device."""
    (found,) = network.stats()["devices"]
    return dict(found)


async def until_closed(client: Client) -> None:
    session = live(client)
    while not session.closed:
        session.wake.clear()
        await session.wake.wait()


@pytest.mark.parametrize(
    ("match", "do", "word"),
    [
        ({"number": ALICE}, {"upgradeSilent": {}}, "match.number"),
        ({"deviceId": 1}, {"handshakeSilent": {}}, "match.deviceId"),
        ({"number": ALICE, "stanza": "handshake"}, {"slow": {"ms": 1}}, "match.number"),
        (HANDSHAKE, {"mute": {}}, "match.stanza"),
        ({"stanza": "login"}, {"handshakeSilent": {}}, "match.stanza"),
        ({}, {"gone": {}}, "do.gone.ms"),
        ({}, {"steal": {}}, "do.steal.afterMs"),
        ({}, {"steal": {"afterMs": 1, "times": "2"}}, "do.steal.times"),
        ({}, {"silent": {"deaf": 1}}, "do.silent.deaf"),
        ({}, {"streamError": {"code": 401, "type": 5}}, "do.streamError.type"),
    ],
)
def test_bad_faults_are_refused_by_name(network: Network, match: dict[str, Any], do: dict[str, Any], word: str) -> None:
    with pytest.raises(RefusedError, match=word) as refused:
        network.arm_fault(match, do, None)
    assert refused.value.status == 400
    assert network.faults() == []


class TestBeforeTheLogin:
    async def test_a_slow_handshake_is_late_and_then_works(self, network: Network) -> None:
        network.arm_fault(HANDSHAKE, {"slow": {"ms": 1}}, None)
        client = Client(network)
        session = client.hello()
        assert session.take_output() == []
        session.wake.clear()
        await session.wake.wait()
        assert len(session.take_output()) == 1
        assert len(client.hello().take_output()) == 1

    async def test_a_slow_answer_to_a_client_that_left_is_not_sent(self, network: Network) -> None:
        network.arm_fault(HANDSHAKE, {"slow": {"ms": 0}}, None)
        session = Client(network).hello()
        session.abort()
        await settle()
        assert session.take_output() == []

    @pytest.mark.parametrize(
        ("match", "do"), [({}, {"handshakeSilent": {}}), (HANDSHAKE, {"silent": {}})], ids=["named", "matched"]
    )
    def test_a_handshake_without_an_answer(self, network: Network, match: dict[str, Any], do: dict[str, Any]) -> None:
        network.arm_fault(match, do, None)
        session = Client(network).hello()
        assert session.take_output() == []
        assert not session.closed
        assert len(Client(network).hello().take_output()) == 1

    def test_a_handshake_that_is_cut(self, network: Network) -> None:
        network.arm_fault(HANDSHAKE, {"drop": {}}, None)
        session = Client(network).hello()
        assert session.closed
        assert session.aborted

    async def test_faults_of_a_live_socket_leave_the_handshake_alone(self, network: Network, alice: Person) -> None:
        network.arm_fault({}, {"drop": {}}, None)
        assert len(Client(network).hello().take_output()) == 1
        assert len(network.faults()) == 1

    def test_faults_of_the_handshake_leave_a_live_socket_alone(self, network: Network) -> None:
        network.arm_fault({**HANDSHAKE, "nth": 2}, {"drop": {}}, None)
        assert [Client(network).hello().closed for _ in range(3)] == [False, True, False]

    def test_attempts_are_counted_also_when_they_are_refused(self, network: Network) -> None:
        network.arm_fault({}, {"upgradeSilent": {}}, 2)
        assert [network.take_attempt() for _ in range(3)] == ["upgradeSilent", "upgradeSilent", None]
        assert network.stats()["attempts"] == 3


class TestGone:
    async def test_everybody_is_cut_and_nobody_comes_back_until_it_is_over(
        self, network: Network, alice: Person, bob: Person
    ) -> None:
        clients = [await linked(network, alice), await linked(network, bob)]
        fault = network.arm_fault({}, {"gone": {"ms": 0}}, 1)
        assert [live(client).aborted for client in clients] == [True, True]
        assert [network.take_attempt() for _ in range(3)] == ["gone"] * 3
        assert network.faults()[0]["times"] == 0
        network.disarm_fault(fault)
        assert network.take_attempt() is None
        for client in clients:
            client.log_in(prekeys=0)
        assert (network.stats()["connections"], kinds(network)) == (2, [])

    async def test_it_ends_by_itself(self, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = [1000.0]
        monkeypatch.setattr("wahub.sandbox.network.faults.time.monotonic", lambda: clock[0])
        network.arm_fault({}, {"gone": {"ms": 5000}}, None)
        clock[0] += 4.9
        assert network.take_attempt() == "gone"
        clock[0] += 0.1
        assert network.take_attempt() is None
        assert network.faults() == []

    async def test_for_one_number_it_shows_when_that_account_logs_in(
        self, network: Network, alice: Person, bob: Person
    ) -> None:
        gone, stays = await linked(network, alice), await linked(network, bob)
        network.arm_fault({"number": ALICE}, {"gone": {"ms": 0}}, None)
        assert live(gone).aborted
        assert not live(stays).closed
        assert network.take_attempt() is None
        gone.log_in(prekeys=0)
        assert live(gone).aborted
        assert gone.all("success") == []
        assert kinds(network) == []

    async def test_codes_that_are_shown_go_too(self, network: Network, alice: Person) -> None:
        client = Client(network)
        client.register()
        request = client.request()
        network.arm_fault({}, {"gone": {"ms": 0}}, None)
        assert live(client).aborted
        with pytest.raises(RefusedError):
            network.pair(alice.jid, request, None)  # type: ignore[arg-type]

    def test_upgrades_without_an_answer_are_cut(self, network: Network) -> None:
        cut: list[str] = []
        with network.held(lambda: cut.append("cut")):
            network.arm_fault({"number": ALICE}, {"gone": {"ms": 0}}, None)
            assert cut == []
            network.arm_fault({}, {"gone": {"ms": 0}}, None)
        network.reset()
        assert cut == ["cut"]


class TestTheft:
    async def test_each_login_is_robbed_as_often_as_it_says(self, network: Network, alice: Person) -> None:
        client = await linked(network, alice)
        live(client).close()
        network.arm_fault({"number": ALICE}, {"steal": {"afterMs": 0, "times": 2}}, None)
        for _ in range(2):
            client.got.clear()
            client.log_in(prekeys=0)
            await until_closed(client)
            error = client.take("stream:error")
            assert "code" not in error.attrs
            assert [(child.tag, child.attrs) for child in error.children] == [("conflict", {"type": "replaced"})]
        client.log_in(prekeys=0)
        await settle()
        assert not live(client).closed
        assert (network.stats()["stolen"], device(network)["maxConnections"], kinds(network)) == (2, 1, [])

    async def test_a_session_that_ended_before_is_not_robbed(self, network: Network, alice: Person) -> None:
        client = await linked(network, alice)
        live(client).close()
        network.arm_fault({"number": ALICE}, {"steal": {"afterMs": 0}}, None)
        client.log_in(prekeys=0)
        live(client).close()
        client.log_in(prekeys=0)
        await settle()
        assert not live(client).closed
        assert network.stats()["stolen"] == 0

    async def test_injected_it_robs_this_login_and_the_next(self, network: Network, alice: Person) -> None:
        client = await linked(network, alice)
        network.inject(ALICE, 1, {"steal": {"afterMs": 0, "times": 2}})
        await until_closed(client)
        client.log_in(prekeys=0)
        await until_closed(client)
        client.log_in(prekeys=0)
        await settle()
        assert not live(client).closed
        assert network.stats()["stolen"] == 2

    async def test_the_envelope_says_how_often_too(self, network: Network) -> None:
        network.arm_fault({}, {"steal": {"afterMs": 0, "times": 5}}, 0)
        assert network.faults()[0]["times"] == 0


class TestLogin:
    async def test_never_open_confirms_and_then_answers_pings_only(self, network: Network, alice: Person) -> None:
        client = await linked(network, alice)
        live(client).close()
        network.arm_fault({"number": ALICE}, {"neverOpen": {}}, None)
        client.log_in(prekeys=0, active=False)
        assert len(client.all("success")) == 1
        assert client.query("w:p", "get", Node("ping")).attrs["type"] == "result"
        client.send(Node("iq", {"id": "Q1", "xmlns": "passive", "type": "set"}, [Node("active")]))
        assert client.all("iq") == []
        assert network.linked_devices(ALICE)[0].connected
        live(client).close()
        client.log_in(prekeys=0)
        assert kinds(network) == []

    async def test_never_ready_answers_pings_and_is_no_login(self, network: Network, alice: Person) -> None:
        client = await linked(network, alice)
        live(client).close()
        network.arm_fault({"number": ALICE}, {"neverReady": {}}, None)
        client.log_in(prekeys=0, active=False)
        assert client.query("w:p", "get", Node("ping")).attrs["type"] == "result"
        found = device(network)
        assert (found["attempts"], found["logins"]) == (2, 1)
        assert not network.linked_devices(ALICE)[0].connected

    @pytest.mark.parametrize("name", ["neverReady", "neverOpen", "upgradeSilent", "handshakeSilent"])
    async def test_they_cannot_be_injected(self, network: Network, alice: Person, name: str) -> None:
        await linked(network, alice)
        with pytest.raises(RefusedError) as refused:
            network.inject(ALICE, 1, {name: {}})
        assert refused.value.status == 400

    async def test_an_injected_outage_is_refused_too(self, network: Network, alice: Person) -> None:
        client = await linked(network, alice)
        with pytest.raises(RefusedError):
            network.inject(ALICE, 1, {"gone": {"ms": 0}})
        assert not live(client).closed

    @pytest.mark.parametrize(
        ("arguments", "code", "children"),
        [
            ({"code": 401}, "401", [("conflict", {"type": "device_removed"})]),
            ({"code": 440}, None, [("conflict", {"type": "replaced"})]),
            ({"code": 503}, "503", []),
            ({"code": 401, "child": "odd"}, "401", [("odd", {})]),
            ({"code": 440, "child": "conflict", "type": "other"}, "440", [("conflict", {"type": "other"})]),
        ],
        ids=["401", "440", "503", "child", "type"],
    )
    async def test_stream_errors_look_as_the_real_servers(
        self, network: Network, alice: Person, arguments: dict[str, Any], code: str | None, children: list[Any]
    ) -> None:
        client = await linked(network, alice)
        network.inject(ALICE, 1, {"streamError": arguments})
        error = client.take("stream:error")
        assert error.attrs.get("code") == code
        assert [(child.tag, child.attrs) for child in error.children] == children

    async def test_deafness_reaches_the_socket(self, network: Network, alice: Person) -> None:
        client = await linked(network, alice)
        heard: list[str] = []
        live(client).on_deaf = lambda: heard.append("deaf")
        network.inject(ALICE, 1, {"silent": {}})
        assert heard == []
        network.inject(ALICE, 1, {"silent": {"deaf": True}})
        assert heard == ["deaf"]


class TestCounting:
    async def test_a_second_socket_of_a_client_is_counted_and_listed(self, network: Network, alice: Person) -> None:
        client = await linked(network, alice)
        first = live(client)
        client.log_in(prekeys=0)
        assert first.closed
        found = device(network)
        assert (found["maxConnections"], found["attempts"], found["logins"]) == (2, 2, 2)
        assert network.stats()["maxConnectionsPerDevice"] == 2
        assert kinds(network) == ["second_socket"]
        assert network.stats()["connections"] == 1

    async def test_also_beside_one_that_was_never_confirmed(self, network: Network, alice: Person) -> None:
        client = await linked(network, alice)
        live(client).close()
        network.arm_fault({"number": ALICE}, {"neverReady": {}}, None)
        client.log_in(prekeys=0, active=False)
        waiting = live(client)
        client.log_in(prekeys=0)
        assert waiting.closed
        assert device(network)["maxConnections"] == 2
        assert kinds(network) == ["second_socket"]

    async def test_also_when_its_login_is_refused(self, network: Network, alice: Person) -> None:
        client = await linked(network, alice)
        first = live(client)
        network.arm_fault({"number": ALICE, "stanza": "login"}, {"failure": {"reason": 503}}, None)
        client.log_in(prekeys=0)
        assert not first.closed
        assert device(network)["maxConnections"] == 2

    async def test_one_after_the_other_is_one(self, network: Network, alice: Person) -> None:
        client = await linked(network, alice)
        for end in (Session.close, Session.abort, Session.replaced):
            end(live(client))
            client.log_in(prekeys=0)
        assert device(network)["maxConnections"] == 1
        assert kinds(network) == []

    async def test_a_socket_that_a_fault_made_silent_is_nobodys_mistake(self, network: Network, alice: Person) -> None:
        client = await linked(network, alice)
        silent = live(client)
        network.inject(ALICE, 1, {"silent": {}})
        client.log_in(prekeys=0)
        assert silent.closed
        assert device(network)["maxConnections"] == 1
        assert kinds(network) == []

    async def test_unlinking_ends_unconfirmed_sockets_too(self, network: Network, alice: Person) -> None:
        client = await linked(network, alice)
        live(client).close()
        network.arm_fault({"number": ALICE}, {"neverReady": {}}, None)
        client.log_in(prekeys=0, active=False)
        network.remove_device(ALICE, 1)
        assert client.take("stream:error").attrs["code"] == "401"

    async def test_registrations_are_counted_as_codes_shown(self, network: Network, alice: Person) -> None:
        client = await linked(network, alice)
        for _ in range(3):
            live(client).close()
            client.log_in(prekeys=0)
        assert network.stats()["qrShown"] == 1
        Client(network).register()
        assert network.stats()["qrShown"] == 2

    async def test_refused_logins_count_as_attempts_of_the_device_they_name(
        self, network: Network, alice: Person
    ) -> None:
        client = await linked(network, alice)
        network.remove_device(ALICE, 1)
        client.log_in(prekeys=0)
        found = device(network)
        assert (found["number"], found["deviceId"], found["attempts"], found["logins"]) == (ALICE, 1, 2, 1)
