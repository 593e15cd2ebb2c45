"""What was received and sent, as it is read back: chats, pages, what was done to messages, and forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.contract.makers import SHOP, START, add_instance, make_entry, make_received

from wahub.domain.contact import Contact
from wahub.domain.ids import ChatId, MessageId
from wahub.domain.inbox import Received, Vote
from wahub.domain.outbox import DeliveryMark, Entry, ItemState
from wahub.domain.thread import END, Head, Kept, Spot
from wahub.ports.messages import ChatNews, Filed
from wahub.ports.store import Database, Tx
from wahub.ports.threads import Unreadable

ANNA, BEN = "c_anna", "c_ben"
GROUP = "120363000000000001@g.us"
OWN = "4915551239999@s.whatsapp.net"
PHONE = ChatId.parse("4915551230001")


async def add(
    store: Database,
    message_id: str,
    at: int = 100,
    *,
    key: str = ANNA,
    author: str | None = ANNA,
    stored_at: float = START,
    **more: Any,
) -> bool:
    """Store a message of that chat and author."""
    if author is None:
        more = {"sender": OWN, **more}
    received = make_received(message_id, timestamp=at, from_me=author is None, **more)
    if key == GROUP:
        received = replace(received, chat=GROUP, sender=f"{author}@lid", partner=None)
    return await store.write(lambda tx: tx.inbox.add_all([Filed(received, key, author)], stored_at)[0])


def about(kind: str, target: str, **more: Any) -> dict[str, Any]:
    """What makes a message one about another."""
    return {"type": kind, "target": MessageId(target), **more}


async def page(
    store: Database, before: Spot = END, *, key: str = ANNA, since: float = 0, limit: int = 10
) -> Sequence[Kept]:
    return await store.read(lambda tx: tx.threads.received(SHOP, key, before, since, limit))


def ids(rows: Sequence[Kept] | Sequence[Entry]) -> list[str]:
    return [str(row.message_id) for row in rows]


def spot(row: Kept) -> Spot:
    return Spot(float(row.timestamp), False, row.position)


@pytest.fixture(autouse=True)
async def shop(store: Database) -> None:
    await add_instance(store)


# --- a page of the inbox ----------------------------------------------------------------------------------------------


async def test_messages_come_newest_first_and_whole(store: Database) -> None:
    await add(store, "M1", 100, text="hello", details={"forwarded": True}, push_name="Anna")
    await add(store, "M3", 102, author=None)
    await add(store, "M2", 101)
    rows = await page(store)
    assert ids(rows) == ["M3", "M2", "M1"]
    assert [row.author for row in rows] == [None, ANNA, ANNA]
    (first,) = [row for row in rows if row.message_id == "M1"]
    assert (first.type, first.text, first.timestamp, first.details) == ("text", "hello", 100, {"forwarded": True})


async def test_a_page_begins_right_after_the_last_whatever_came_meanwhile(store: Database) -> None:
    for number in range(5):
        await add(store, f"M{number}", 100 + number // 2)
    first = await page(store, limit=2)
    await add(store, "NEW", 103)
    await add(store, "LATE", 99)
    second = await page(store, spot(first[-1]), limit=2)
    third = await page(store, spot(second[-1]), limit=2)
    assert [ids(rows) for rows in (first, second, third)] == [["M4", "M3"], ["M2", "M1"], ["M0", "LATE"]]


async def test_of_one_second_what_we_sent_stands_in_front(store: Database) -> None:
    await add(store, "M1", 100)
    for before, expected in (
        (Spot(100.0, True, 1), ["M1"]),
        (Spot(100.5, True, 1), ["M1"]),
        (Spot(100.0, False, 1), []),
        (Spot(99.5, True, 9), []),
    ):
        assert ids(await page(store, before)) == expected


async def test_since_is_the_oldest_that_is_shown(store: Database) -> None:
    await add(store, "M1", 100)
    await add(store, "M2", 101)
    assert ids(await page(store, since=101)) == ["M2"]
    assert ids(await page(store, since=100.5)) == ["M2"]
    assert ids(await page(store, since=100)) == ["M2", "M1"]


async def test_only_messages_are_listed_and_only_of_that_chat(store: Database) -> None:
    await add(store, "M1")
    for number, kind in enumerate(("reaction", "edit", "delete", "vote")):
        await add(store, f"C{number}", **about(kind, "M1"))
    await add(store, "G1", key=GROUP, type="group_update")
    await add(store, "G2", key=GROUP)
    await add(store, "L1", type="call")
    await add(store, "B1", key=BEN, author=BEN, chat="4915551230002@s.whatsapp.net")
    assert ids(await page(store)) == ["M1"]
    assert ids(await page(store, key=GROUP)) == ["G2"]
    assert ids(await page(store, key="")) == []


async def test_an_id_is_listed_once_in_a_chat(store: Database) -> None:
    """Two copies of before it was known that two contacts are one person."""
    await add(store, "M1", 100)
    assert await add(store, "M1", 100, key=BEN, author=BEN, chat="777@lid", sender="777@lid")
    await store.write(lambda tx: tx.people.redirect(SHOP, BEN, ANNA))
    assert ids(await page(store)) == ["M1"]
    # In a group, two people may use one id; senders choose them.
    await add(store, "M2", key=GROUP)
    await add(store, "M2", key=GROUP, author=BEN)
    assert ids(await page(store, key=GROUP)) == ["M2", "M2"]


async def test_a_copy_of_what_we_sent_is_not_listed(store: Database) -> None:
    await put(store, sent(1, 100.0))
    await add(store, make_entry(1).message_id, author=None)
    await add(store, "M2", author=None)
    # Somebody else may use our id.
    await add(store, make_entry(1).message_id, 101)
    assert ids(await page(store)) == [make_entry(1).message_id, "M2"]


# --- a page of the outbox ---------------------------------------------------------------------------------------------


def sent(number: int, at: float, chat: str = "4915551230001", **more: Any) -> Entry:
    entry = make_entry(number, chat, claimed_at=at - 1, settled_at=at, delivery=DeliveryMark.READ, **more)
    return replace(entry, state=ItemState.SENT)


async def put(store: Database, *entries: Entry) -> None:
    for entry in entries:
        await store.write(lambda tx, entry=entry: tx.outbox.add(entry))  # type: ignore[misc]


async def ours(store: Database, before: Spot = END, since: float = 0, limit: int = 10) -> Sequence[Entry]:
    return await store.read(lambda tx: tx.threads.sent(SHOP, [PHONE], before, since, limit))


async def test_what_we_sent_comes_newest_first(store: Database) -> None:
    waiting = make_entry(8)
    failed = replace(make_entry(9), state=ItemState.FAILED, settled_at=START)
    imported = replace(sent(10, 100.0), claimed_at=None)
    await put(store, sent(1, 100.0), sent(2, 102.5), sent(3, 101.0), sent(4, 103, "4915551230002"))
    await put(store, waiting, failed, imported)
    rows = await ours(store)
    assert [row.id for row in rows] == [make_entry(number).id for number in (2, 3, 1)]
    assert [row.settled_at for row in rows] == [102.5, 101.0, 100.0]
    assert [row.id for row in await ours(store, since=101.0, limit=1)] == [make_entry(2).id]
    assert len(await ours(store, since=101.0)) == 2


async def test_its_pages_go_on_where_the_last_ended(store: Database) -> None:
    await put(store, sent(1, 100.5), sent(2, 100.5), sent(3, 100.5))
    newest, middle, oldest = await ours(store)
    assert newest.position > middle.position > oldest.position
    assert await ours(store, Spot(100.5, True, newest.position)) == [middle, oldest]
    # Received of the same second stands behind ours.
    assert await ours(store, Spot(100.5, False, 2**40)) == []
    assert len(await ours(store, Spot(101.0, False, 1))) == 3


# --- what was done to messages ----------------------------------------------------------------------------------------


async def test_what_was_done_is_told_by_chat_the_latest_of_each(store: Database) -> None:
    await add(store, "M1")
    await add(store, "R1", 101, text="👍", **about("reaction", "M1"))
    await add(store, "R2", 103, text="❤", **about("reaction", "M1"))
    await add(store, "R3", 102, text="🎉", **about("reaction", "M1"))
    await add(store, "R4", 101, author=None, text="👀", **about("reaction", "M1"))
    await add(store, "E1", 104, text="better", **about("edit", "M1"))
    await add(store, "X1", 104, key=BEN, author=BEN, text="forged", chat="888@lid", **about("edit", "M1"))
    await add(store, "E2", 104, text="of another", **about("edit", "M2"))
    done = await store.read(lambda tx: tx.threads.done_to(SHOP, [MessageId("M1"), MessageId("M9")]))
    assert set(done) == {ANNA, BEN}
    assert sorted(ids(done[ANNA])) == ["E1", "R2", "R4"]
    (edit,) = done[BEN]
    assert (edit.type, edit.author, edit.text, edit.target) == ("edit", BEN, "forged", "M1")
    assert await store.read(lambda tx: tx.threads.done_to(SHOP, [])) == {}


@pytest.mark.parametrize("options", [("Confirm", "Later"), (), None])
async def test_what_a_vote_chose_is_kept(store: Database, options: tuple[str, ...] | None) -> None:
    await add(store, "V1", vote=Vote(MessageId("P1"), options), **about("vote", "P1"))
    done = await store.read(lambda tx: tx.threads.done_to(SHOP, [MessageId("P1")]))
    assert [(row.type, row.options, row.details) for row in done[ANNA]] == [("vote", options, {})]
    (received,) = await store.read(lambda tx: tx.inbox.find(SHOP, MessageId("V1")))
    assert (received.vote, received.details) == (Vote(MessageId("P1"), options), {})


async def test_who_wrote_what(store: Database) -> None:
    await add(store, "M1")
    await add(store, "M2", author=None)
    await add(store, "M3", key=GROUP, author=BEN)
    found = await store.read(lambda tx: tx.threads.authors(SHOP, [MessageId(f"M{number}") for number in (1, 2, 3, 4)]))
    assert found == {(ANNA, "M1"): ANNA, (ANNA, "M2"): None, (GROUP, "M3"): BEN}


async def test_people_are_who_they_are_now(store: Database) -> None:
    anna = Contact(ANNA, "4915551230001", "777", "Anna", START)
    ben = Contact(BEN, None, None, "Ben", START, merged_into=ANNA)
    for person in (anna, ben):
        await store.write(lambda tx, person=person: tx.people.save(SHOP, person))  # type: ignore[misc]
    found = await store.read(lambda tx: tx.threads.people(SHOP, {ANNA, BEN, "c_nobody"}))
    assert found == {ANNA: anna, BEN: anna}


# --- chats ------------------------------------------------------------------------------------------------------------


async def note(store: Database, key: str, at: int, message_id: str = "M1", text: str = "hello") -> None:
    news = ChatNews(at, MessageId(message_id), "text", text, from_me=False)
    await store.write(lambda tx: tx.chats.note(SHOP, key, news))


async def heads(store: Database, before: tuple[int, str] = (2**53, ""), limit: int = 10) -> Sequence[Head]:
    return await store.read(lambda tx: tx.threads.heads(SHOP, before, limit, 0.0))


async def test_chats_come_by_their_latest_activity(store: Database) -> None:
    await store.write(lambda tx: tx.chats.set_title(SHOP, GROUP, "Team"))
    await note(store, "c_1", 100)
    await note(store, "c_2", 102, "M7", "last")
    await note(store, "c_3", 100)
    found = await heads(store)
    assert [head.key for head in found] == ["c_2", "c_3", "c_1", GROUP]
    assert found[0] == Head("c_2", 102, None, MessageId("M7"), "text", "last", from_me=False)
    assert (found[3], found[3].is_group) == (Head(GROUP, 0, "Team"), True)
    assert [head.key for head in await heads(store, (102, "c_2"), 1)] == ["c_3"]
    assert [head.key for head in await heads(store, (100, "c_3"))] == ["c_1", GROUP]


async def test_several_chats_are_noted_at_once_and_none_is_set_back(store: Database) -> None:
    await store.write(lambda tx: tx.chats.set_title(SHOP, GROUP, "Team"))
    await note(store, "c_01", 100, "old")
    await note(store, "c_02", 300, "newer")

    def news(at: int) -> ChatNews:
        return ChatNews(at, MessageId("M1"), "text", "hello \0", from_me=True)

    latest = {f"c_{number:02}": news(200 + number) for number in reversed(range(40))} | {GROUP: news(500)}
    await store.write(lambda tx: [tx.chats.note_all(SHOP, some) for some in (latest, {})])
    found = {head.key: (head.at, head.message_id) for head in await heads(store, limit=100)}
    assert found == {key: (one.at, "M1") for key, one in latest.items()} | {"c_02": (300, "newer")}
    assert (await heads(store))[0] == Head(GROUP, 500, "Team", MessageId("M1"), "text", "hello \ufffd", from_me=True)


# --- what could not be read -------------------------------------------------------------------------------------------


async def miss(store: Database, message_id: str, at: float = 100.0, why: str = "undecryptable") -> bool:
    return await store.write(
        lambda tx: tx.missed.add(SHOP, MessageId(message_id), "1@s.whatsapp.net", "1@s.whatsapp.net", why, at)
    )


async def test_what_could_not_be_read_counts_until_it_comes(store: Database) -> None:
    assert await store.read(lambda tx: tx.missed.unreadable(SHOP, 2)) == Unreadable()
    for number in range(4):
        assert await miss(store, f"M{number}", 100.0 + number)
    assert not await miss(store, "M0", 200.0)
    await add(store, "M3")
    assert await store.read(lambda tx: tx.missed.unreadable(SHOP, 2)) == Unreadable(
        3, 102.0, (MessageId("M2"), MessageId("M1"))
    )
    assert await store.read(lambda tx: tx.missed.count()) == 3
    # What is here already was read under another key.
    assert not await miss(store, "M3")
    await add(store, "M9")
    assert not await miss(store, "M9")


# --- forgetting -------------------------------------------------------------------------------------------------------


async def stored(store: Database, message_id: str) -> Received | None:
    found = await store.read(lambda tx: tx.inbox.find(SHOP, MessageId(message_id)))
    return found[0] if found else None


async def blank(
    store: Database, after: tuple[float, int], before: float, limit: int = 10
) -> tuple[int, tuple[float, int] | None]:
    """How many were blanked, and where to go on."""

    def work(tx: Tx) -> tuple[int, tuple[float, int] | None]:
        positions, place = tx.retention.to_blank(SHOP, after, before, limit)
        tx.retention.blank(positions)
        return len(positions), place

    return await store.write(work)


async def test_a_blanked_message_is_recognised_and_says_nothing(store: Database) -> None:
    more: dict[str, Any] = {"text": "secret", "raw": "{}", "details": {"forwarded": True}, "push_name": "Anna"}
    await add(store, "M1", stored_at=50.0, **more)
    await add(store, "E1", stored_at=50.0, **about("edit", "M1"), **more)
    await add(store, "M2", stored_at=60.0, **more)
    assert await blank(store, (0.0, 0), 60.0) == (2, None)
    assert await blank(store, (0.0, 0), 60.0) == (0, None)
    found = await stored(store, "M1")
    assert found is not None
    assert (found.text, found.raw, found.details, found.push_name, found.type) == ("", None, {}, None, "")
    assert ids(await page(store)) == ["M2"]
    assert await store.read(lambda tx: tx.threads.done_to(SHOP, [MessageId("M1")])) == {}
    # Also when the person's address changed meanwhile.
    assert not await add(store, "M1", **more)
    assert not await add(store, "M1", chat="777@lid", sender="777@lid", **more)


async def test_blanking_is_done_in_parts_and_goes_on_where_it_was(store: Database) -> None:
    for number in range(5):
        # Messages that were stored together have one time.
        await add(store, f"M{number}", stored_at=7.0 if number else 6.0)
    seen, place = list[int](), (0.0, 0)
    while True:
        count, further = await blank(store, place, 8.0, 2)
        seen.append(count)
        if further is None:
            break
        place = further
    assert seen == [2, 2, 1]
    assert ids(await page(store)) == []
    await add(store, "M5", stored_at=7.5)
    assert await blank(store, (7.5, 0), 7.5) == (0, None)
    assert await blank(store, (7.5, 0), 8.0) == (1, None)


async def test_messages_are_removed_in_parts(store: Database) -> None:
    for number in range(5):
        await add(store, f"M{number}", stored_at=float(number))
    assert await store.read(lambda tx: tx.retention.is_due(SHOP, 4.0, 0.0))
    assert await store.write(lambda tx: tx.retention.forget(SHOP, 4.0, 3)) == 3
    assert await store.write(lambda tx: tx.retention.forget(SHOP, 4.0, 3)) == 1
    assert [await stored(store, f"M{number}") is not None for number in range(5)] == [False] * 4 + [True]
    assert not await store.read(lambda tx: tx.retention.is_due(SHOP, 4.0, 0.0))


async def test_a_chat_lives_as_long_as_one_of_its_messages(store: Database) -> None:
    await note(store, ANNA, 100)
    await note(store, BEN, 100)
    await note(store, "c_new", 200)
    # It was written long ago, and came late.
    await add(store, "M1", 100)
    assert await store.write(lambda tx: tx.retention.forget_chats(SHOP, 150.0, 10)) == 1
    assert [head.key for head in await heads(store)] == ["c_new", ANNA]
    assert not await store.read(lambda tx: tx.retention.is_due(SHOP, 0.0, 150.0))
    await blank(store, (0.0, 0), START + 1)
    assert await store.read(lambda tx: tx.retention.is_due(SHOP, 0.0, 150.0))
    assert await store.write(lambda tx: tx.retention.forget_chats(SHOP, 150.0, 10)) == 1


async def test_what_a_group_is_called_outlives_what_was_said_there(store: Database) -> None:
    group = "1203630001@g.us"
    await note(store, group, 100)
    await store.write(lambda tx: tx.chats.set_title(SHOP, group, "Team"))
    await store.write(lambda tx: tx.chats.set_title(SHOP, "1203630002@g.us", "Quiet"))
    assert await store.write(lambda tx: tx.retention.forget_chats(SHOP, 150.0, 10)) == 1
    assert not await store.read(lambda tx: tx.retention.is_due(SHOP, 0.0, 150.0))
    seen = {head.key: (head.title, head.at, head.message_id, head.text) for head in await heads(store)}
    assert seen == {group: ("Team", 0, None, None), "1203630002@g.us": ("Quiet", 0, None, None)}
    await note(store, group, 200)
    head = (await heads(store))[0]
    assert (head.title, head.at) == ("Team", 200)


async def test_what_could_not_be_read_is_forgotten(store: Database) -> None:
    await miss(store, "M1", 100.0)
    await miss(store, "M2", 200.0)
    assert await store.read(lambda tx: tx.retention.is_due(SHOP, 0.0, 200.0))
    assert await store.write(lambda tx: tx.retention.forget_missed(SHOP, 200.0, 10)) == 1
    assert not await store.read(lambda tx: tx.retention.is_due(SHOP, 0.0, 200.0))
    assert (await store.read(lambda tx: tx.missed.unreadable(SHOP, 9))).ids == ("M2",)
