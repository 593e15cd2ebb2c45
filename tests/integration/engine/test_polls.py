"""Polls and their votes against the sandbox: real Baileys, phones that vote."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.engine.conftest import StartEngine
from tests.integration.engine.network import Account, Box
from tests.integration.engine.waiting import until

from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.domain.ids import MessageId
from wahub.domain.inbox import from_engine, poll_key
from wahub.domain.instance import Disconnect
from wahub.domain.message import Poll
from wahub.ports.engine import CaughtUp, Closed, Inbound, Receipted, SendAcked

PEER = "15550002222"
OTHER = "15550003333"
SINGLE = Poll("Come?", ("نعم", "no"), multiple=False, secret=bytes(range(32)))
MULTIPLE = Poll("Which?", ("a", "b", "c"), multiple=True, secret=bytes(range(32, 64)))


async def _vote(box: Box, poll_id: str, *options: str, voter: str = PEER, **more: str) -> str:
    answer = await box.post(f"phones/{voter}/vote", pollId=poll_id, options=list(options), **more)
    return str(answer["messageId"])


@pytest.mark.parametrize(("poll", "selectable"), [(SINGLE, 1), (MULTIPLE, 0)])
async def test_a_poll_is_shown_as_one(account: Account, box: Box, poll: Poll, selectable: int) -> None:
    await box.phone(PEER)
    identity = await account.send_poll(PEER, poll)
    message = (await box.received(PEER, 1))[0]
    assert (message["messageId"], message["type"]) == (identity, "poll")
    assert message["poll"] == {"name": poll.caption, "options": list(poll.options), "selectable": selectable}
    assert (await box.get("stats"))["violations"] == []


async def test_votes_come_with_the_names_of_the_options(account: Account, box: Box) -> None:
    await box.phone(PEER)
    identity = await account.send_poll(PEER, MULTIPLE)
    await box.received(PEER, 1)
    given = [["c", "a"], ["b"], []]
    ids = [await _vote(box, identity, *options) for options in given]
    await box.post(f"phones/{PEER}/send", to=account.number, text="done")
    await account.watcher.first(Inbound, after=3)
    *votes, text = [event.body for event in account.watcher.all(Inbound)]
    assert text["text"] == "done"
    assert [vote["options"] for vote in votes] == [["a", "c"], ["b"], []]
    assert [vote["message_id"] for vote in votes] == ids
    for vote in votes:
        assert (vote["type"], vote["poll_id"], vote["sender_phone"]) == ("vote", identity, PEER)
        assert vote["sender_lid"]
        assert vote["from_me"] is False


@pytest.mark.parametrize("addressing", ["pn", "lid"])
async def test_voters_are_known_under_either_address(account: Account, box: Box, addressing: str) -> None:
    await box.phone(PEER)
    identity = await account.send_poll(PEER, SINGLE)
    await box.received(PEER, 1)
    await _vote(box, identity, "نعم", addressing=addressing)
    body = (await account.watcher.first(Inbound)).body
    assert (body["options"], body["sender_phone"]) == (["نعم"], PEER)
    assert body["sender_lid"]
    assert body["sender"].endswith("@lid" if addressing == "lid" else "@s.whatsapp.net")


async def test_a_poll_sent_to_a_lid_is_voted_on_by_it(account: Account, box: Box) -> None:
    await box.phone(PEER)
    lid = (await box.get(f"phones/{PEER}"))["lid"]
    identity = await account.send_poll(lid, SINGLE)
    await box.received(PEER, 1)
    await _vote(box, identity, "no")
    body = (await account.watcher.first(Inbound)).body
    assert (body["options"], body["sender_phone"], body["sender"]) == (["no"], PEER, lid)


async def test_the_owner_s_own_vote(account: Account, box: Box) -> None:
    await box.phone(PEER)
    identity = await account.send_poll(PEER, SINGLE)
    await box.received(account.number, 1)
    await _vote(box, identity, "no", voter=account.number)
    body = (await account.watcher.first(Inbound)).body
    assert (body["options"], body["from_me"], body["sender_phone"]) == (["no"], True, account.number)


async def test_a_vote_is_read_after_both_processes_started_anew(
    away: Account, box: Box, start_engine: StartEngine, own_engine: BaileysEngine, box_settings: BaileysSettings
) -> None:
    await box.phone(PEER)
    await away.login(own_engine)
    identity = await away.send_poll(PEER, SINGLE)
    await box.received(PEER, 1)
    await own_engine.stop()
    await away.watcher.first(Closed)
    await _vote(box, identity, "no")
    again = await away.login(await start_engine(box_settings))
    await again.first(CaughtUp)
    [vote] = again.all(Inbound)
    assert (vote.body["poll_id"], vote.body["options"]) == (identity, ["no"])


@pytest.mark.parametrize("fault", ["after_spool", "after_key_commit", "after_receipt"])
async def test_a_vote_survives_a_crash_while_it_is_taken(
    start_engine: StartEngine, box: Box, away: Account, box_settings: BaileysSettings, fault: str
) -> None:
    engine = await start_engine(box_settings, fault=fault)
    await away.login(engine)
    await box.phone(PEER)
    identity = await away.send_poll(PEER, SINGLE)
    await box.received(PEER, 1)
    await _vote(box, identity, "no")
    await away.watcher.first(Closed)
    again = await away.login(engine)
    assert (await again.first(Inbound)).body["options"] == ["no"]


async def test_a_vote_that_cannot_be_looked_up_ends_the_link_and_nothing_overtakes_it(
    account: Account, box: Box, engine: BaileysEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_message_id: str) -> None:
        raise OSError("disk full")

    await box.phone(PEER)
    identity = await account.send_poll(PEER, SINGLE)
    await box.received(PEER, 1)
    await account.link.close()
    await _vote(box, identity, "no")
    await box.post(f"phones/{PEER}/send", to=account.number, text="after it")
    monkeypatch.setattr(account.vault, "poll", broken)
    watcher = await account.login(engine)
    closed = await watcher.first(Closed)
    assert (closed.reason, closed.detail) == (Disconnect.UNKNOWN, "look_up_failed")
    assert watcher.all(Inbound) == []
    monkeypatch.undo()
    await account.login(engine)
    vote, text = await _bodies(account, 2)
    assert (vote["options"], text["text"]) == (["no"], "after it")


async def _poll_of(box: Box, number: str, to: str) -> str:
    poll = {"name": "Theirs", "options": ["x", "y"], "selectable": 1}
    return str((await box.post(f"phones/{number}/send", to=to, poll=poll))["messageId"])


async def _group(box: Box, account: Account, addressing: str) -> str:
    made = await box.post("groups", subject="Ours", owner=PEER, members=[account.number, OTHER], addressing=addressing)
    return str(made["id"])


async def _bodies(account: Account, count: int) -> list[dict[str, Any]]:
    """The messages told, without notices of groups."""

    def told() -> list[dict[str, Any]]:
        assert account.watcher is not None
        return [dict(event.body) for event in account.watcher.all(Inbound) if event.body["type"] != "group_update"]

    await until(lambda: len(told()) >= count)
    return told()


@pytest.mark.parametrize("writer", ["somebody", "the own phone"])
@pytest.mark.parametrize("stored", [False, True])
async def test_votes_on_polls_of_others(
    account: Account, box: Box, engine: BaileysEngine, writer: str, stored: bool
) -> None:
    """Their secret came with them; once they are stored, the gateway is asked."""
    await box.phone(PEER)
    number, to = (PEER, account.number) if writer == "somebody" else (account.number, PEER)
    poll = await _poll_of(box, number, to)
    [shown] = await _bodies(account, 1)
    assert (shown["type"], shown["text"]) == ("poll", "Theirs")
    if stored:
        key = poll_key(from_engine(account.link.spec.instance, shown))
        assert key is not None
        account.vault.polls[MessageId(poll)] = key
        account.link.ack_inbound(account.watcher.all(Inbound)[0].seq)
        await account.link.close()
        await account.login(engine)
    if writer == "the own phone":
        await box.received(PEER, 1)
    await _vote(box, poll, "y")
    vote = (await _bodies(account, 1 if stored else 2))[-1]
    assert (vote["type"], vote["target"], vote["poll_id"], vote["options"]) == ("vote", poll, poll, ["y"])


@pytest.mark.parametrize("addressing", ["lid", "pn"])
async def test_votes_in_a_group(account: Account, box: Box, addressing: str) -> None:
    """On a poll of ours and on one of a member, by number and by LID, changed and withdrawn."""
    for number in (PEER, OTHER):
        await box.phone(number)
    group = await _group(box, account, addressing)
    ours = await account.send_poll(group, SINGLE)
    await box.received(OTHER, 1)
    await box.received(PEER, 1)
    theirs = await _poll_of(box, PEER, group)
    await box.received(OTHER, 2)
    await _vote(box, ours, "no", voter=OTHER)
    await _vote(box, ours, "نعم", voter=PEER)
    await _vote(box, ours, "نعم", voter=OTHER)
    await _vote(box, theirs, "x", voter=OTHER)
    await _vote(box, ours, voter=OTHER)
    poll, *votes = await _bodies(account, 6)
    assert poll["type"] == "poll"
    assert [(vote["sender_phone"], vote["poll_id"], vote["options"]) for vote in votes] == [
        (OTHER, ours, ["no"]),
        (PEER, ours, ["نعم"]),
        (OTHER, ours, ["نعم"]),
        (OTHER, theirs, ["x"]),
        (OTHER, ours, []),
    ]
    assert {vote["chat"] for vote in votes} == {group}


async def test_a_hidden_voter(account: Account, box: Box) -> None:
    await box.phone(PEER)
    await box.post("phones", number=OTHER, name="Hidden", hidden=True)
    group = await _group(box, account, "lid")
    ours = await account.send_poll(group, SINGLE)
    await box.received(OTHER, 1)
    await _vote(box, ours, "no", voter=OTHER)
    [vote] = await _bodies(account, 1)
    assert (vote["options"], vote["sender_phone"]) == (["no"], None)
    assert vote["sender_lid"]


async def test_a_vote_that_overtakes_its_poll_is_told_after_it(account: Account, box: Box) -> None:
    await box.phone(PEER)
    await box.post(f"phones/{PEER}/send", to=account.number, text="so that the poll is not the first")
    await _bodies(account, 1)
    await box.fault({"number": account.number, "stanza": "message"}, reorder={})
    poll = await _poll_of(box, PEER, account.number)
    await _vote(box, poll, "x")
    await box.post(f"phones/{PEER}/send", to=account.number, text="after both")
    _, *bodies = await _bodies(account, 4)
    told = [body for body in bodies if body["type"] in ("poll", "vote")]
    assert [body["type"] for body in told] == ["poll", "vote"]
    assert (told[1]["poll_id"], told[1]["options"]) == (poll, ["x"])


async def test_a_vote_on_a_poll_that_never_came_is_told_as_unreadable(
    account: Account, box: Box, engine: BaileysEngine
) -> None:
    await box.phone(PEER)
    poll = await _poll_of(box, PEER, account.number)
    [shown] = account.watcher.all(Inbound) or [await account.watcher.first(Inbound)]
    account.link.ack_inbound(shown.seq)
    await account.link.close()
    await account.login(engine)
    await _vote(box, poll, "x")
    await box.post(f"phones/{PEER}/send", to=account.number, text="after it")
    vote, text = await _bodies(account, 2)
    assert (vote["type"], vote["poll_id"], vote["target"], vote["options"]) == ("vote", poll, poll, None)
    assert text["text"] == "after it"


async def test_a_poll_that_a_phone_could_not_read_is_sent_again_as_the_same(account: Account, box: Box) -> None:
    await box.phone(PEER)
    await box.fault({"number": PEER}, retryReceipt={})
    identity = await account.send_poll(PEER, SINGLE)
    message = (await box.received(PEER, 1))[0]
    assert (message["messageId"], message["poll"]["options"]) == (identity, list(SINGLE.options))
    assert (await box.get("stats"))["messages"]["undecryptable"] == 1
    await until(lambda: "retry" in {receipt.kind for receipt in account.watcher.all(Receipted)})
    await _vote(box, identity, "no")
    assert (await account.watcher.first(Inbound)).body["options"] == ["no"]


async def test_a_poll_sent_twice_under_one_id_is_the_same_poll(account: Account, box: Box) -> None:
    """The resend after an uncertain outcome: votes on either copy can be read."""
    await box.phone(PEER)
    identity = await account.send_poll(PEER, SINGLE)
    await account.send_poll(PEER, SINGLE, identity)
    first, second = await box.received(PEER, 2)
    assert (first["poll"], first["messageId"]) == (second["poll"], second["messageId"])
    assert second["duplicate"]
    await _vote(box, identity, "no")
    assert (await account.watcher.first(Inbound)).body["options"] == ["no"]
    assert await account.send(PEER, "still in order") == SendAcked()
