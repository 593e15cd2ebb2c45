"""Groups between phones and unmodified Baileys: sender keys, membership, votes, reactions, retries."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.integration.sandbox.baileys_client import BaileysClient
from tests.integration.sandbox.conftest import Box, Link

from wahub.sandbox.phone.polls import vote_key
from wahub.sandbox.proto import e2e_pb2

ALICE, BOB, CAROL, DAVE = "491510000001", "491510000002", "491510000003", "491510000004"


class Club:
    """A group of Bob (its owner), Alice (a linked client) and Carol."""

    def __init__(self, box: Box, baileys: BaileysClient, mode: str) -> None:
        self.box = box
        self.baileys = baileys
        self.mode = mode
        self.id = ""
        self.lids: dict[str, str] = {}
        self._seen: dict[str, int] = {}

    async def begin(self) -> None:
        body = {"subject": "Club", "owner": BOB, "members": [ALICE, CAROL], "addressing": self.mode}
        group = await self.box.post("/control/groups", body)
        self.id = group["id"]
        self.lids = {member["number"]: member["lid"] for member in group["members"]}
        await self.baileys.expect("alice", "groups.upsert", lambda event: event["value"][0]["id"] == self.id)

    def address(self, number: str) -> str:
        return self.lids[number] if self.mode == "lid" else f"{number}@s.whatsapp.net"

    async def send(self, number: str, **content: Any) -> str:
        return str((await self.box.post(f"/control/phones/{number}/send", {"to": self.id, **content}))["messageId"])

    async def heard(self, message_id: str, name: str = "alice") -> dict[str, Any]:
        """A message as a client reads it."""
        return await self.baileys.expect(name, "message", lambda m: m["id"] == message_id and m.get("content"))

    async def shown(self, number: str) -> dict[str, Any]:
        """The next message that a phone shows."""
        after = self._seen.get(number, 0)
        messages = (await self.box.get(f"/control/phones/{number}/messages?after={after}&wait=15000"))["messages"]
        assert messages, "the phone shows nothing new"
        self._seen[number] = after + 1
        return dict(messages[0])

    async def members(self, **changes: Any) -> dict[str, Any]:
        return await self.box.post(f"/control/groups/{self.id}/members", changes)

    async def calm(self) -> None:
        """Nothing was refused, nothing was unreadable."""
        stats = await self.box.stats()
        assert (stats["violations"], stats["messages"]["undecryptable"], stats["iq"]["unknown"]) == ([], 0, [])


@pytest_asyncio.fixture(loop_scope="session", params=["lid", "pn"])
async def club(request: pytest.FixtureRequest, box: Box, baileys: BaileysClient, link: Link) -> Club:
    for number in (BOB, CAROL, DAVE):
        await box.post("/control/phones", {"number": number})
    await link("alice", ALICE)
    club = Club(box, baileys, request.param)
    await club.begin()
    return club


async def test_messages_in_both_directions(club: Club) -> None:
    for turn in range(3):
        message = await club.heard(await club.send(BOB, text=f"from Bob {turn}"))
        assert message["text"] == f"from Bob {turn}"
        key = message["key"]
        assert (key["remoteJid"], key["participant"], key["fromMe"]) == (club.id, club.address(BOB), False)
        assert key["addressingMode"] == club.mode
        other = f"{BOB}@s.whatsapp.net" if club.mode == "lid" else club.lids[BOB]
        assert key["participantAlt"] == other
        assert (await club.shown(CAROL))["text"] == f"from Bob {turn}"
    for turn in range(3):
        await club.baileys.command("send", "alice", to=club.id, text=f"from Alice {turn}", id=f"ALICE{turn}")
        for number in (BOB, CAROL):
            shown = await club.shown(number)
            assert (shown["text"], shown["from"], shown["chat"]) == (f"from Alice {turn}", ALICE, club.id)
            assert (shown["deviceId"], shown["fromMe"]) == (1, False)
        await club.baileys.expect("alice", "ack", lambda ack, turn=turn: ack["id"] == f"ALICE{turn}")
    await club.baileys.expect(
        "alice", "receipt", lambda r: r["id"] == "ALICE0" and r["participant"] == club.address(BOB)
    )
    await club.box.post(f"/control/phones/{BOB}/read", {"messageId": "ALICE0"})
    await club.baileys.expect("alice", "receipt", lambda r: r["id"] == "ALICE0" and r.get("type") == "read")
    await club.calm()


async def test_what_a_client_asks_about_groups(club: Club) -> None:
    await club.baileys.command("call", "alice", method="groupMetadata", args=[club.id])
    one = (await club.baileys.expect("alice", "result"))["value"]
    assert (one["subject"], one["addressingMode"], one["owner"]) == ("Club", club.mode, club.address(BOB))
    assert {(member["id"], member["admin"]) for member in one["participants"]} == {
        (club.address(BOB), "superadmin"), (club.address(ALICE), None), (club.address(CAROL), None),
    }  # fmt: skip
    await club.baileys.command("call", "alice", method="groupFetchAllParticipating")
    assert list((await club.baileys.expect("alice", "result"))["value"]) == [club.id]
    other = await club.box.post("/control/groups", {"subject": "Others", "owner": BOB, "members": [CAROL]})
    await club.baileys.command("call", "alice", method="groupMetadata", args=[other["id"]])
    assert (await club.baileys.expect("alice", "error"))["message"] == "forbidden"
    await club.baileys.command("call", "alice", method="groupMetadata", args=["1203@g.us"])
    assert (await club.baileys.expect("alice", "error"))["message"] == "item-not-found"


async def test_members_come_and_go(club: Club) -> None:
    await club.heard(await club.send(BOB, text="before"))
    await club.members(add=[DAVE])
    added = await club.baileys.expect("alice", "group-participants.update", lambda e: e["value"]["action"] == "add")
    assert len(added["value"]["participants"]) == 1
    await club.baileys.command("send", "alice", to=club.id, text="to all four", id="FOUR")
    assert (await club.shown(DAVE))["text"] == "to all four"
    await club.heard(await club.send(DAVE, text="from the new one"))
    await club.members(remove=[DAVE], by=BOB)
    await club.baileys.expect("alice", "group-participants.update", lambda e: e["value"]["action"] == "remove")
    await club.heard(await club.send(BOB, text="after Dave left"))
    answer = await club.box.http.post(f"/control/phones/{DAVE}/send", json={"to": club.id, "text": "still here?"})
    assert answer.status_code == 409
    await club.box.post(f"/control/groups/{club.id}", {"subject": "New name"})
    renamed = await club.baileys.expect("alice", "groups.update")
    assert renamed["value"][0]["subject"] == "New name"
    await club.calm()

    await club.members(remove=[ALICE])
    await club.baileys.command("send", "alice", to=club.id, text="from outside", id="OUT")
    error = await club.baileys.expect("alice", "error", lambda e: e["op"] == "send")
    assert error["message"] == "forbidden"


async def test_a_client_makes_and_changes_a_group(club: Club) -> None:
    people = [f"{number}@s.whatsapp.net" for number in (BOB, CAROL)]
    await club.baileys.command("call", "alice", method="groupCreate", args=["Mine", people])
    mine = (await club.baileys.expect("alice", "result"))["value"]["id"]
    await club.baileys.command("send", "alice", to=mine, text="welcome", id="WELCOME")
    assert (await club.shown(CAROL))["chat"] == mine
    await club.baileys.command("call", "alice", method="groupParticipantsUpdate", args=[mine, [people[1]], "remove"])
    assert (await club.baileys.expect("alice", "result"))["value"][0]["status"] == "200"
    await club.baileys.command("call", "alice", method="groupUpdateSubject", args=[mine, "Renamed"])
    await club.baileys.expect("alice", "result")
    shown = await club.box.get(f"/control/groups/{mine}")
    assert (shown["subject"], [member["number"] for member in shown["members"]]) == ("Renamed", [ALICE, BOB])
    await club.baileys.command("call", "alice", method="groupLeave", args=[mine])
    await club.baileys.expect("alice", "result")
    assert [member["number"] for member in (await club.box.get(f"/control/groups/{mine}"))["members"]] == [BOB]
    await club.calm()


async def test_votes_reactions_quotes_and_files(club: Club) -> None:
    poll = {"name": "Come?", "values": ["yes", "no"], "selectableCount": 1}
    await club.baileys.command("say", "alice", to=club.id, content={"poll": poll}, id="POLL")
    sent = await club.baileys.expect("alice", "sent", lambda event: event["id"] == "POLL")
    assert (await club.shown(BOB))["poll"]["options"] == ["yes", "no"]
    for options in (["yes"], ["no"], []):
        body = {"pollId": "POLL", "options": options}
        vote_id = (await club.box.post(f"/control/phones/{BOB}/vote", body))["messageId"]
        update = (await club.heard(vote_id))["content"]["pollUpdateMessage"]
        assert update["pollCreationMessageKey"]["participant"] == club.address(ALICE)
        secret = base64.b64decode(sent["secret"])
        assert _chosen(update, secret, club.address(ALICE), club.address(BOB)) == _hashes(options)
    reaction = (await club.heard(await club.send(CAROL, reaction={"messageId": "POLL", "emoji": "❤"})))["content"]
    assert reaction["reactionMessage"]["key"]["participant"] == club.address(ALICE)
    quote = (await club.heard(await club.send(CAROL, text="about that", quote="POLL")))["content"]
    assert quote["extendedTextMessage"]["contextInfo"]["participant"] == club.address(ALICE)
    encoded = base64.b64encode(b"a picture").decode()
    media = await club.heard(await club.send(CAROL, media={"kind": "image", "base64": encoded}))
    assert media["media"] == encoded

    own = await club.send(BOB, poll={"name": "Where?", "options": ["here", "there"], "selectable": 0})
    await club.heard(own)
    key = {"remoteJid": club.id, "id": own, "fromMe": False, "participant": club.address(BOB)}
    await club.baileys.command("say", "alice", to=club.id, content={"react": {"text": "ok", "key": key}}, id="REACT")
    while (shown := await club.shown(BOB))["messageId"] != "REACT":
        pass
    assert shown["reaction"] == {"messageId": own, "emoji": "ok"}
    await club.calm()


def _hashes(options: list[str]) -> list[bytes]:
    return [hashlib.sha256(option.encode()).digest() for option in options]


def _chosen(update: dict[str, Any], secret: bytes, creator: str, voter: str) -> list[bytes]:
    key = vote_key(secret, "POLL", creator, voter)
    payload, iv = (base64.b64decode(update["vote"][name]) for name in ("encPayload", "encIv"))
    plain = AESGCM(key).decrypt(iv, payload, f"POLL\0{voter}".encode())
    return list(e2e_pb2.PollVoteMessage.FromString(plain).selected_options)


async def test_unreadable_messages_are_sent_again(club: Club) -> None:
    await club.heard(await club.send(BOB, text="first"))
    match = {"number": ALICE, "stanza": "message", "deviceId": 1}
    await club.box.post("/control/faults", {"match": match, "do": {"corrupt": {}}})
    assert (await club.heard(await club.send(BOB, text="again")))["text"] == "again"
    assert (await club.heard(await club.send(BOB, text="goes on")))["text"] == "goes on"
    await club.baileys.command("send", "alice", to=club.id, text="one", id="ONE")
    assert (await club.shown(BOB))["text"] == "one"
    await club.box.post("/control/faults", {"match": {"number": BOB}, "do": {"retryReceipt": {}}})
    await club.baileys.command("send", "alice", to=club.id, text="two", id="TWO")
    assert (await club.shown(BOB))["text"] == "two"
    stats = await club.box.stats()
    assert (stats["violations"], stats["messages"]["undecryptable"]) == ([], 2)


async def test_a_client_that_was_away_gets_everything_in_order(club: Club, tmp_path: Path) -> None:
    await club.heard(await club.send(BOB, text="before"))
    await club.baileys.command("end", "alice")
    await club.baileys.expect("alice", "close")
    ids = []
    for turn in range(5):
        ids += [await club.send(number, text=f"{number} {turn}") for number in (BOB, CAROL)]
    await club.members(add=[DAVE], remove=[CAROL])
    ids.append(await club.send(DAVE, text="I am new"))
    await club.baileys.command("start", "alice", dir=str(tmp_path / "alice"))
    got = [await club.baileys.expect("alice", "message", lambda m: m.get("content")) for _ in ids]
    assert [message["id"] for message in got] == ids
    await club.baileys.expect("alice", "drained")
    await club.baileys.command("send", "alice", to=club.id, text="back", id="BACK")
    while (await club.shown(DAVE))["messageId"] != "BACK":
        pass
    await club.calm()


async def test_two_clients_and_a_second_device(club: Club, link: Link) -> None:
    await club.heard(await club.send(BOB, text="before"))
    await link("bob", BOB)
    await link("tablet", ALICE)
    message_id = await club.send(CAROL, text="to every device")
    for name in ("alice", "bob", "tablet"):
        assert (await club.heard(message_id, name))["text"] == "to every device"
    await club.baileys.command("send", "alice", to=club.id, text="from Alice", id="A1")
    assert (await club.heard("A1", "bob"))["key"]["participant"] == club.address(ALICE)
    assert (await club.heard("A1", "tablet"))["key"]["fromMe"] is True
    await club.baileys.command("send", "bob", to=club.id, text="from Bob", id="B1")
    for name in ("alice", "tablet"):
        assert (await club.heard("B1", name))["text"] == "from Bob"
    own = await club.shown(ALICE)
    assert (own["text"], own["fromMe"]) == ("before", False)
    await club.calm()
