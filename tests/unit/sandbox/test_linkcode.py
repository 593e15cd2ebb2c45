"""Linking by a code that is typed on the phone: the key agreement, and what the server refuses."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.sandbox.network_client import ALICE, BOB, Client, kinds, settle

from wahub.sandbox.model import RefusedError
from wahub.sandbox.network import linkcode
from wahub.sandbox.network.core import PairingTimes
from wahub.sandbox.network.network import Network
from wahub.sandbox.network.trust import keys_from_seed
from wahub.sandbox.node import Node
from wahub.sandbox.phone.linkcode import UnreadableCodeError, read_code
from wahub.sandbox.phone.phone import Phone
from wahub.sandbox.signal.curve import KeyPair
from wahub.sandbox.world import World

CODE = "ABCD1234"


@pytest.fixture
def alice(network: Network) -> Phone:
    world = World(network)
    world.create_phone(BOB)
    return world.create_phone(ALICE)[0]


@pytest.fixture
async def client(network: Network) -> Client:
    client = Client(network)
    client.register()
    client.request()
    return client


async def notified(client: Client) -> None:
    """Until the phone's key has reached the client; it was derived in another thread."""
    async with asyncio.timeout(30):
        while not client.all("notification"):
            assert client.session is not None
            client.session.wake.clear()
            await client.session.wake.wait()


async def typed(phone: Phone, client: Client, code: str) -> int:
    """Type a code, let the client answer."""
    typing = asyncio.create_task(phone.link_by_code(code))
    await notified(client)
    assert client.finish_code(phone.number).attrs["type"] == "result"
    return await typing


async def refusal(typing: asyncio.Task[int]) -> int:
    with pytest.raises(RefusedError) as refused:
        await typing
    return refused.value.status


@pytest.mark.parametrize("text", ["ABCD1234", "abcd1234", "ABCD-1234", " abcd-1234 ", "ab cd 12 34"])
def test_a_code_is_read_however_it_is_typed(text: str) -> None:
    assert read_code(text) == CODE


@pytest.mark.parametrize("text", ["", "ABCD123", "ABCD12345", "ABCD_123", "ÄBCD1234"])
def test_other_texts_are_no_codes(text: str) -> None:
    with pytest.raises(UnreadableCodeError) as unreadable:
        read_code(text)
    assert "BCD" not in str(unreadable.value)


class TestLinking:
    async def test_the_right_code_links(self, network: Network, alice: Phone, client: Client) -> None:
        reply = client.ask_for_code(ALICE, CODE)
        assert reply.attrs["type"] == "result"
        assert await typed(alice, client, CODE) == 1
        client.accept()
        assert client.take("stream:error").attrs["code"] == "515"
        client.log_in()
        assert len(client.all("success")) == 1
        assert [device.id for device in network.linked_devices(ALICE)] == [1]
        assert network.stats()["codesAsked"] == 1
        assert kinds(network) == []

    async def test_a_wrong_code_does_not_open_the_bundle_and_another_try_may(
        self, network: Network, alice: Phone, client: Client
    ) -> None:
        client.ask_for_code(ALICE, CODE)
        for wrong in ("ABCD1235", "1234ABCD"):
            with pytest.raises(RefusedError) as refused:
                await typed(alice, client, wrong)
            assert refused.value.status == 409
        assert network.linked_devices(ALICE) == []
        assert await typed(alice, client, CODE) == 1

    async def test_a_client_in_the_middle_is_found_out(self, network: Network, alice: Phone, client: Client) -> None:
        client.ask_for_code(ALICE, CODE)
        client.identity.key = KeyPair.generate()
        typing = asyncio.create_task(alice.link_by_code(CODE))
        await notified(client)
        assert client.finish_code(ALICE).attrs["type"] == "error"
        assert kinds(network) == ["pairing_code"]
        typing.cancel()

    async def test_a_scan_uses_the_code_up(self, network: Network, alice: Phone) -> None:
        client = Client(network)
        client.register()
        request = client.request()
        client.ask_for_code(ALICE, CODE)
        alice.scan(request)
        assert await refusal(asyncio.create_task(alice.link_by_code(CODE))) == 409

    async def test_a_code_uses_the_scan_up(self, network: Network, alice: Phone) -> None:
        client = Client(network)
        client.register()
        request = client.request()
        client.ask_for_code(ALICE, CODE)
        await typed(alice, client, CODE)
        with pytest.raises(RefusedError):
            alice.scan(request)

    async def test_a_phone_that_goes_off_meanwhile_links_nothing(
        self, network: Network, alice: Phone, client: Client
    ) -> None:
        client.ask_for_code(ALICE, CODE)
        typing = asyncio.create_task(alice.link_by_code(CODE))
        await notified(client)
        alice.state.set_online(False)
        client.finish_code(ALICE)
        assert await refusal(typing) == 409


class TestWaiting:
    async def test_a_client_that_goes_away(self, alice: Phone, client: Client) -> None:
        client.ask_for_code(ALICE, CODE)
        typing = asyncio.create_task(alice.link_by_code(CODE))
        await notified(client)
        assert client.session is not None
        client.session.abort()
        assert await refusal(typing) == 409

    async def test_a_client_that_asks_for_another_code(self, alice: Phone, client: Client) -> None:
        client.ask_for_code(ALICE, CODE)
        typing = asyncio.create_task(alice.link_by_code(CODE))
        await notified(client)
        client.got.clear()
        client.ask_for_code(ALICE, "WXYZ9876")
        assert await refusal(typing) == 409
        assert await typed(alice, client, "WXYZ9876") == 1

    async def test_a_client_that_never_answers(
        self, alice: Phone, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(linkcode, "ANSWER_SECONDS", 0.01)
        client.ask_for_code(ALICE, CODE)
        assert await refusal(asyncio.create_task(alice.link_by_code(CODE))) == 409

    async def test_two_people_at_one_phone(self, alice: Phone, client: Client) -> None:
        client.ask_for_code(ALICE, CODE)
        first = asyncio.create_task(alice.link_by_code(CODE))
        await notified(client)
        assert await refusal(asyncio.create_task(alice.link_by_code(CODE))) == 409
        client.finish_code(ALICE)
        assert await first == 1

    async def test_a_newer_request_of_another_client_counts(
        self, network: Network, alice: Phone, client: Client
    ) -> None:
        client.ask_for_code(ALICE, CODE)
        other = Client(network)
        other.register()
        other.request()
        other.ask_for_code(ALICE, "WXYZ9876")
        assert await typed(alice, other, "WXYZ9876") == 1
        assert client.all("notification") == []

    async def test_an_expired_code(self) -> None:
        network = Network(keys_from_seed("test"), pairing_times=PairingTimes(0.0, 0.0))
        alice = World(network).create_phone(ALICE)[0]
        client = Client(network)
        client.register()
        client.request()
        client.ask_for_code(ALICE, CODE)
        assert await refusal(asyncio.create_task(alice.link_by_code(CODE))) == 409

    async def test_nobody_asked(self, alice: Phone) -> None:
        assert await refusal(asyncio.create_task(alice.link_by_code(CODE))) == 409


class TestStrictness:
    @pytest.mark.parametrize(
        ("part", "data"),
        [
            ("companion_platform_display", b"Chrome (Acme)"),
            ("companion_platform_display", b"Acme (Linux)"),
            ("companion_platform_display", b"Chrome"),
            ("companion_platform_display", b"\xff"),
            ("companion_platform_id", b"x"),
            ("companion_server_auth_key_pub", bytes(32)),
            ("link_code_pairing_wrapped_companion_ephemeral_pub", bytes(79)),
        ],
        ids=["product", "browser", "bare", "no-text", "platform", "noise-key", "short"],
    )
    async def test_a_request_that_the_real_server_refuses(
        self, network: Network, alice: Phone, client: Client, part: str, data: bytes
    ) -> None:
        reply = client.ask_for_code(ALICE, CODE, **{part: data})
        error = reply.child("error")
        assert error is not None
        assert error.attrs == {"code": "400", "text": "bad-request"}
        assert kinds(network) == ["pairing_code"]
        assert await refusal(asyncio.create_task(alice.link_by_code(CODE))) == 409

    async def test_a_number_that_nobody_has(self, client: Client, alice: Phone) -> None:
        error = client.ask_for_code("19999999999", CODE).child("error")
        assert error is not None
        assert error.attrs["code"] == "404"

    async def test_an_answer_that_nobody_waits_for(self, network: Network, alice: Phone, client: Client) -> None:
        client.ask_for_code(ALICE, CODE)
        for attrs in ({"stage": "companion_finish", "jid": f"{ALICE}@s.whatsapp.net"}, {"stage": "nonsense"}):
            assert client.query("md", "set", Node("link_code_companion_reg", attrs)).attrs["type"] == "error"
        assert kinds(network) == ["pairing_code", "pairing_code"]

    async def test_an_answer_with_another_identity(self, network: Network, alice: Phone, client: Client) -> None:
        client.ask_for_code(ALICE, CODE)
        typing = asyncio.create_task(alice.link_by_code(CODE))
        await notified(client)
        assert client.finish_code(ALICE, identity=bytes(32)).attrs["type"] == "error"
        assert kinds(network) == ["pairing_code"]
        typing.cancel()
        await settle()
