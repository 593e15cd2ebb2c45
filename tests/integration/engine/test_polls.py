"""Polls and their votes against the sandbox: real Baileys, phones that vote."""

from __future__ import annotations

import pytest
from tests.integration.engine.conftest import StartEngine
from tests.integration.engine.network import Account, Box
from tests.integration.engine.waiting import until

from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.domain.message import Poll
from wahub.ports.engine import CaughtUp, Closed, Inbound, Receipted, SendAcked

PEER = "15550002222"
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
    account: Account, box: Box, start_engine: StartEngine, engine: BaileysEngine, box_settings: BaileysSettings
) -> None:
    await box.phone(PEER)
    identity = await account.send_poll(PEER, SINGLE)
    await box.received(PEER, 1)
    await engine.stop()
    await account.watcher.first(Closed)
    await _vote(box, identity, "no")
    again = await account.login(await start_engine(box_settings))
    await again.first(CaughtUp)
    [vote] = again.all(Inbound)
    assert (vote.body["poll_id"], vote.body["options"]) == (identity, ["no"])


@pytest.mark.parametrize("fault", ["after_spool", "after_key_commit", "after_receipt"])
async def test_a_vote_survives_a_crash_while_it_is_taken(
    start_engine: StartEngine, box: Box, box_settings: BaileysSettings, fault: str
) -> None:
    engine = await start_engine(box_settings, fault=fault)
    account = Account(box, "15550001111")
    await account.pair(engine)
    await box.phone(PEER)
    identity = await account.send_poll(PEER, SINGLE)
    await box.received(PEER, 1)
    await _vote(box, identity, "no")
    await account.watcher.first(Closed)
    again = await account.login(engine)
    assert (await again.first(Inbound)).body["options"] == ["no"]


async def test_a_vote_that_cannot_be_looked_up_waits_in_the_spool(
    account: Account, box: Box, engine: BaileysEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_message_id: str) -> None:
        raise OSError("disk full")

    await box.phone(PEER)
    identity = await account.send_poll(PEER, SINGLE)
    await box.received(PEER, 1)
    await account.link.close()
    monkeypatch.setattr(account.vault, "sent_message", broken)
    watcher = await account.login(engine)
    await _vote(box, identity, "no")
    await box.post(f"phones/{PEER}/send", to=account.number, text="after it")
    assert (await watcher.first(Inbound)).body["text"] == "after it"
    monkeypatch.undo()
    await account.link.close()
    again = await account.login(engine)
    assert (await again.first(Inbound)).body["options"] == ["no"]


async def test_a_vote_on_a_poll_that_is_not_ours_has_no_poll(account: Account, box: Box) -> None:
    await box.phone(PEER)
    poll = await box.post(
        f"phones/{PEER}/send", to=account.number, poll={"name": "Theirs", "options": ["x", "y"], "selectable": 1}
    )
    shown = (await account.watcher.first(Inbound)).body
    assert (shown["type"], shown["text"]) == ("poll", "Theirs")
    await _vote(box, poll["messageId"], "x")
    vote = (await account.watcher.first(Inbound, after=1)).body
    assert (vote["type"], vote["poll_id"], vote["options"]) == ("vote", None, None)


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
