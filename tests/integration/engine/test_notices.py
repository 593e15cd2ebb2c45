"""Changes of groups, and calls, against the sandbox: each told once, in order, and never lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.engine.conftest import StartEngine
from tests.integration.engine.network import Account, Box
from tests.integration.engine.waiting import Watcher, spooled, until, until_asked

from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.domain.instance import Disconnect
from wahub.ports.engine import CaughtUp, Closed, Inbound

OWNER = "15550002222"
MEMBER = "15550003333"


@pytest_asyncio.fixture(loop_scope="session")
async def people(box: Box) -> None:
    for number in (OWNER, MEMBER):
        await box.phone(number)


async def _group(box: Box, account: Account, **more: Any) -> str:
    members = more.pop("members", [account.number])
    made = await box.post("groups", subject="Our group", owner=OWNER, members=members, **more)
    return str(made["id"])


async def _change(box: Box, group: str, by: str | None = None, **change: list[str]) -> None:
    await box.post(f"groups/{group}/members", **change, **({} if by is None else {"by": by}))


async def _person(box: Box, number: str) -> dict[str, str | None]:
    lid = str((await box.get(f"phones/{number}"))["lid"])
    return {"phone": number, "lid": lid.removesuffix("@lid")}


async def _told(watcher: Watcher, count: int) -> list[dict[str, Any]]:
    await watcher.first(Inbound, after=count - 1)
    return [dict(event.body) for event in watcher.all(Inbound)]


def _actions(bodies: list[dict[str, Any]]) -> list[str]:
    return [body["details"]["group"]["action"] for body in bodies]


async def _answered(box: Box, account: Account, kind: str) -> list[str]:
    """The ids of the stanzas of that kind that our device acknowledged."""
    return [
        entry["stanza"]["attrs"]["id"]
        for entry in await box.trace(account.number, "ack")
        if entry["direction"] == "in" and entry["deviceId"] and entry["stanza"]["attrs"].get("class") == kind
    ]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("addressing", ["lid", "pn"])
async def test_what_happens_to_a_group_is_told(account: Account, box: Box, addressing: str) -> None:
    owner, member = await _person(box, OWNER), await _person(box, MEMBER)
    group = await _group(box, account, addressing=addressing)
    for change in ("add", "promote", "demote", "remove"):
        await _change(box, group, **{change: [MEMBER]})
    await box.post(f"groups/{group}", subject="Renamed")
    bodies = await _told(account.watcher, 6)
    assert _actions(bodies) == ["create", "add", "promote", "demote", "remove", "subject"]
    for body in bodies:
        assert (body["type"], body["chat"], body["text"], body["target"]) == ("group_update", group, None, None)
        assert (body["sender_phone"], body["sender_lid"]) == (owner["phone"], owner["lid"])
        assert body["sender"].endswith("@lid" if addressing == "lid" else "@s.whatsapp.net")
        assert (body["chat_phone"], body["chat_lid"], body["from_me"]) == (None, None, False)
        assert body["push_name"] == "Person 22"
        assert body["timestamp"] > 1_600_000_000
    assert len({body["message_id"] for body in bodies}) == 6
    created, *changed, renamed = [body["details"]["group"] for body in bodies]
    assert (created["subject"], created["isNew"], created["reason"]) == ("Our group", True, None)
    assert created["participants"] == [owner, await _person(box, account.number)]
    assert [change["participants"] for change in changed] == [[member]] * 4
    assert renamed == {"action": "subject", "participants": [], "subject": "Renamed"}
    assert (await box.get("stats"))["violations"] == []


@pytest.mark.usefixtures("people")
async def test_who_goes_is_no_one_removed(account: Account, box: Box) -> None:
    group = await _group(box, account, members=[account.number, MEMBER])
    await _change(box, group, by=MEMBER, remove=[MEMBER])
    await _change(box, group, remove=[account.number])
    bodies = await _told(account.watcher, 3)
    assert _actions(bodies) == ["create", "leave", "remove"]
    assert bodies[1]["sender_phone"] == MEMBER


@pytest.mark.usefixtures("people")
async def test_who_is_added_gets_the_group_that_was_there_before(account: Account, box: Box) -> None:
    group = await _group(box, account, members=[MEMBER])
    await _change(box, group, add=[account.number])
    bodies = await _told(account.watcher, 2)
    assert _actions(bodies) == ["create", "add"]
    assert bodies[0]["details"]["group"]["isNew"] is False


@pytest.mark.usefixtures("people")
async def test_what_the_account_s_own_phone_changes_is_told_as_its_own(account: Account, box: Box) -> None:
    group = await _group(box, account)
    await _change(box, group, promote=[account.number])
    await box.post(f"groups/{group}", subject="Mine", by=account.number)
    body = (await _told(account.watcher, 3))[2]
    assert (body["from_me"], body["sender_phone"]) == (True, account.number)


@pytest.mark.usefixtures("people")
async def test_a_hidden_member_is_known_by_the_lid_alone(account: Account, box: Box) -> None:
    await box.post("phones", number="15550004444", name="Hidden", hidden=True)
    hidden = {**await _person(box, "15550004444"), "phone": None}
    group = await _group(box, account, members=[account.number, "15550004444"])
    await _change(box, group, promote=["15550004444"])
    assert (await _told(account.watcher, 2))[1]["details"]["group"]["participants"] == [hidden]


@pytest.mark.usefixtures("people")
async def test_changes_and_messages_keep_their_order(account: Account, box: Box) -> None:
    group = await _group(box, account, members=[account.number, MEMBER])
    await box.post(f"phones/{OWNER}/send", to=group, text="welcome")
    await box.post(f"groups/{group}", subject="Second")
    await box.post(f"phones/{MEMBER}/send", to=group, text="thanks")
    await _change(box, group, remove=[MEMBER])
    await box.post(f"phones/{OWNER}/send", to=group, text="goodbye")
    bodies = await _told(account.watcher, 6)
    told = [body["text"] or body["details"]["group"]["action"] for body in bodies]
    assert told == ["create", "welcome", "subject", "thanks", "remove", "goodbye"]


@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize("addressing", ["pn", "lid"])
@pytest.mark.parametrize("ending", ["terminate", "timeout"])
@pytest.mark.usefixtures("people")
async def test_calls_ring_and_end(account: Account, box: Box, video: bool, addressing: str, ending: str) -> None:
    caller = await _person(box, OWNER)
    if addressing == "pn":
        # A stranger's number says nothing of their LID.
        caller["lid"] = None
    call = {"to": account.number, "video": video, "addressing": addressing}
    call_id = (await box.post(f"phones/{OWNER}/call", **call))["callId"]
    await _told(account.watcher, 1)
    await box.post(f"phones/{OWNER}/hangup", callId=call_id, **{"as": ending})
    bodies = await _told(account.watcher, 2)
    reason = "timeout" if ending == "timeout" else None
    assert [body["details"]["call"] for body in bodies] == [
        {"callId": call_id, "status": "offer", "video": video, "group": False, "reason": None},
        {"callId": call_id, "status": ending, "video": video, "group": False, "reason": reason},
    ]
    for body in bodies:
        assert (body["type"], body["from_me"], body["push_name"]) == ("call", False, "Person 22")
        assert (body["chat_phone"], body["chat_lid"]) == (caller["phone"], caller["lid"])
        assert (body["sender_phone"], body["sender_lid"]) == (caller["phone"], caller["lid"])
        assert body["chat"] == body["sender"]
    assert (await box.get("stats"))["violations"] == []


@pytest.mark.usefixtures("people")
async def test_what_happened_meanwhile_comes_with_the_offline_queue(
    account: Account, box: Box, engine: BaileysEngine
) -> None:
    group = await _group(box, account)
    account.link.ack_inbound((await account.watcher.first(Inbound)).seq)
    await account.link.close()
    await box.post(f"groups/{group}", subject="While away")
    call_id = (await box.post(f"phones/{OWNER}/call", to=account.number))["callId"]
    await box.post(f"phones/{OWNER}/hangup", callId=call_id, **{"as": "timeout"})
    watcher = await account.login(engine)
    await watcher.first(CaughtUp)
    renamed, rings, missed = [dict(event.body) for event in watcher.all(Inbound)]
    assert renamed["details"]["group"]["subject"] == "While away"
    assert [body["details"]["call"]["status"] for body in (rings, missed)] == ["offer", "timeout"]


Happening = Callable[[Box, Account], Any]


async def _rename(box: Box, account: Account) -> None:
    group = (await box.get("groups"))["groups"][0]["id"]
    await box.post(f"groups/{group}", subject="Not lost")


async def _ring(box: Box, account: Account) -> None:
    await box.post(f"phones/{OWNER}/call", to=account.number)


HAPPENINGS = pytest.mark.parametrize(
    ("happen", "kind"), [(_rename, "notification"), (_ring, "call")], ids=["group", "call"]
)


@HAPPENINGS
@pytest.mark.usefixtures("people")
async def test_a_crash_between_spool_and_ack_tells_it_once(
    start_engine: StartEngine,
    box: Box,
    away: Account,
    box_settings: BaileysSettings,
    happen: Happening,
    kind: str,
) -> None:
    engine = await start_engine(box_settings, fault="after_spool:2")
    await away.login(engine)
    await away.watcher.first(CaughtUp)
    await _group(box, away)
    away.link.ack_inbound((await away.watcher.first(Inbound)).seq)
    # Else the process may die before it has taken that in, and tells it again.
    await until(lambda: not spooled(away.spool))
    await until_asked(lambda: _answered(box, away, "notification"))
    before = await _answered(box, away, kind)
    await happen(box, away)
    assert (await away.watcher.first(Closed)).reason is Disconnect.ENGINE_DIED
    assert await _answered(box, away, kind) == before
    watcher = await away.login(engine)
    await watcher.first(CaughtUp)
    await until_asked(lambda: _more(box, away, kind, len(before)))
    assert len(watcher.all(Inbound)) == 1
    away.link.ack_inbound(watcher.all(Inbound)[0].seq)
    await until(lambda: not spooled(away.spool))
    again = await _login_again(away, engine)
    assert again.all(Inbound) == []


async def _more(box: Box, account: Account, kind: str, than: int) -> bool:
    return len(await _answered(box, account, kind)) > than


async def _login_again(account: Account, engine: BaileysEngine) -> Watcher:
    await account.link.close()
    watcher = await account.login(engine)
    await watcher.first(CaughtUp)
    return watcher


@HAPPENINGS
@pytest.mark.usefixtures("people")
async def test_what_the_gateway_has_not_stored_is_told_again(
    account: Account, box: Box, engine: BaileysEngine, happen: Happening, kind: str
) -> None:
    """The server has its ack and brings it no more: only the spool has it."""
    await _group(box, account)
    account.link.ack_inbound((await account.watcher.first(Inbound)).seq)
    await happen(box, account)
    told = await account.watcher.first(Inbound, after=1)
    await until_asked(lambda: _more(box, account, kind, 1 if kind == "notification" else 0))
    watcher = await _login_again(account, engine)
    assert [event.body for event in watcher.all(Inbound)] == [told.body]


@HAPPENINGS
@pytest.mark.usefixtures("people")
async def test_a_spool_that_cannot_be_written_acknowledges_nothing(
    account: Account, box: Box, engine: BaileysEngine, happen: Happening, kind: str
) -> None:
    await _group(box, account)
    account.link.ack_inbound((await account.watcher.first(Inbound)).seq)
    spool = account.spool
    await until(lambda: not spooled(spool))
    await until_asked(lambda: _answered(box, account, "notification"))
    before = await _answered(box, account, kind)
    await account.link.close()
    _put_in_the_way(spool)
    watcher = await account.login(engine)
    await watcher.first(CaughtUp)
    await happen(box, account)
    closed = await watcher.first(Closed)
    assert (closed.reason, closed.detail) == (Disconnect.UNKNOWN, "spool_failed")
    assert await _answered(box, account, kind) == before
    spool.unlink()
    watcher = await account.login(engine)
    assert (await watcher.first(Inbound)).body["type"] == ("call" if kind == "call" else "group_update")


def _put_in_the_way(spool: Path) -> None:
    """A link makes its file with its first message."""
    spool.rmdir()
    spool.symlink_to("nowhere/at/all")
