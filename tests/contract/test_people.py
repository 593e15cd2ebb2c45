"""Contacts and their chats, on every store: a person who moves between number and LID stays one person."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

import pytest
from tests.contract.makers import SHOP, START, add_instance, make_entry, make_instance

from wahub.domain.contact import Contact
from wahub.domain.ids import MessageId, WorkerId
from wahub.domain.inbox import Address, PollKey, Received, from_engine
from wahub.domain.instance import Config
from wahub.domain.lease import Lease
from wahub.domain.thread import END
from wahub.ports.store import Database, Tx
from wahub.services import contact, inbox

NUMBER, LID = "4915551230001", "990001"
GROUP = "1203630@g.us"


@pytest.fixture
async def lease(store: Database) -> Lease:
    """The lease of an instance that has a webhook for everything."""
    config = Config("shop", webhook_url="http://localhost/hook", webhook_events=("*",))
    await store.write(lambda tx: tx.instances.add(make_instance(config=config)))
    found = await store.write(lambda tx: tx.leases.claim(SHOP, WorkerId("w"), 60.0))
    assert found is not None
    return found


def _received(message_id: str, **changes: Any) -> Received:
    body = {
        "message_id": message_id,
        "chat": f"{NUMBER}@s.whatsapp.net",
        "sender": f"{NUMBER}@s.whatsapp.net",
        "timestamp": int(START),
        "type": "text",
        "text": message_id,
        "from_me": False,
    }
    return from_engine(SHOP, {**body, **changes})


def _by_lid(message_id: str, phone: str | None = None, **changes: Any) -> Received:
    jid = f"{LID}@lid"
    return _received(message_id, **{"chat": jid, "sender": jid, "sender_phone": phone, "chat_phone": phone, **changes})


async def _ingest(store: Database, lease: Lease, *received: Received) -> list[bool]:
    new = []
    for number, one in enumerate(received):
        now, event_id = START + number, f"event-{one.message_id}-{number}"
        new.append(await store.write(partial(inbox.ingest, lease=lease, received=one, now=now, event_id=event_id)))
    return new


async def _events(store: Database) -> list[tuple[str, str]]:
    """Name and lane of what is to be posted, in order."""
    logged = await store.read(lambda tx: tx.events.after(SHOP, 0, 100))
    lanes = {due.event_id: due.lane for due in await store.read(lambda tx: tx.webhooks.due(START + 100, 100))}
    return [(event.event, lanes.get(event.event_id, "")) for event in logged]


async def _person(store: Database, **wanted: str) -> Contact | None:
    if "phone" in wanted:
        return await store.read(lambda tx: tx.people.by_phone(SHOP, wanted["phone"]))
    return await store.read(lambda tx: tx.people.by_lid(SHOP, wanted["lid"]))


async def test_one_who_writes_by_number_and_by_lid_is_one_contact(store: Database, lease: Lease) -> None:
    assert await _ingest(store, lease, _received("A1", sender_lid=LID), _by_lid("A2"), _received("A3"))
    person = await _person(store, phone=NUMBER)
    assert person is not None
    assert person == await _person(store, lid=LID)
    assert {lane for _, lane in await _events(store)} <= {person.id, ""}


async def test_two_who_turn_out_to_be_one_are_merged_and_nothing_waits_in_the_old_lane(
    store: Database, lease: Lease
) -> None:
    await _ingest(store, lease, _received("A1"), _by_lid("A2"))
    first, second = await _person(store, phone=NUMBER), await _person(store, lid=LID)
    assert first is not None
    assert second is not None
    assert first.id != second.id
    await _ingest(store, lease, _by_lid("A3", phone=NUMBER))
    kept = await _person(store, lid=LID)
    assert kept == replace(first, lid=LID)
    gone = await store.read(lambda tx: tx.people.get(SHOP, second.id))
    assert gone is not None
    assert gone.merged_into == kept.id
    told = [name for name, _ in await _events(store)]
    assert told == ["message", "message", "contact_merged", "message"]
    lanes = await store.read(lambda tx: {due.lane for due in tx.webhooks.due(START + 100, 100)})
    assert lanes == {kept.id}


async def test_a_merge_moves_messages_and_the_chat(store: Database, lease: Lease) -> None:
    await _ingest(store, lease, _received("A1"), _by_lid("A2", timestamp=int(START) + 5))
    first = await _person(store, phone=NUMBER)
    assert first is not None
    await store.write(lambda tx: contact.connect(tx, lease, Address(NUMBER, LID), START + 9, "seed"))
    # The same message again under the other address of the same chat: it is known.
    assert await _ingest(store, lease, _by_lid("A1"), _received("A2")) == [False, False]

    def keys(tx: Tx) -> set[str]:
        return {key for _, key, _ in tx.inbox._known(SHOP, {"A1", "A2"})[0]}  # type: ignore[attr-defined]

    assert await store.read(keys) == {first.id}


async def test_nobody_is_made_of_a_mapping_alone(store: Database, lease: Lease) -> None:
    await store.write(lambda tx: contact.connect(tx, lease, Address(NUMBER, LID), START, "seed"))
    assert await _person(store, lid=LID) is None


async def test_a_transaction_that_runs_again_makes_the_same_contact(store: Database, lease: Lease) -> None:
    def meet(tx: Tx) -> str:
        return contact.meet(tx, SHOP, Address(NUMBER, None), None, now=START, seed="seed").id

    with pytest.raises(ZeroDivisionError):
        await store.write(lambda tx: (meet(tx), 1 // 0))
    assert await store.write(meet) == await store.write(meet)


async def test_in_a_group_the_author_is_a_contact_and_the_chat_the_group(store: Database, lease: Lease) -> None:
    await _ingest(store, lease, _by_lid("A1", chat=GROUP, chat_phone=None))
    person = await _person(store, lid=LID)
    assert person is not None
    assert await _events(store) == [("message", GROUP)]
    authors = await store.read(lambda tx: tx.inbox.authors_of(SHOP, MessageId("A1")))
    assert authors == {person.id}


async def test_what_the_own_phone_sent_is_stored_and_told_to_nobody(store: Database, lease: Lease) -> None:
    own = _received("A1", sender="4915550000000@s.whatsapp.net", from_me=True)
    assert await _ingest(store, lease, own, own) == [True, False]
    assert await _events(store) == []
    assert await _person(store, phone="4915550000000") is None
    assert await _person(store, phone=NUMBER) is not None


@pytest.mark.parametrize(
    ("kind", "writer", "told"),
    [
        ("edit", NUMBER, True),
        ("edit", "4915551230009", False),
        ("delete", NUMBER, True),
        ("delete", "4915551230009", False),
    ],
)
async def test_only_its_author_changes_a_message(
    store: Database, lease: Lease, kind: str, writer: str, told: bool
) -> None:
    jid = f"{writer}@s.whatsapp.net"
    change = _received("B1", type=kind, target="A1", sender=jid, chat=f"{writer}@s.whatsapp.net")
    await _ingest(store, lease, _received("A1"), change)
    assert len(await _events(store)) == (2 if told else 1)


@pytest.mark.parametrize("kind", ["edit", "delete"])
async def test_nobody_changes_what_we_sent(store: Database, lease: Lease, kind: str) -> None:
    await store.write(lambda tx: tx.outbox.add(make_entry(1, chat=NUMBER, message_id=MessageId("A1"))))
    await _ingest(store, lease, _received("B1", type=kind, target="A1"))
    assert await _events(store) == []


async def test_in_a_group_admins_delete_and_nobody_else_edits(store: Database, lease: Lease) -> None:
    other = {"chat": GROUP, "sender": "4915551230009@s.whatsapp.net", "target": "A1"}
    await _ingest(
        store,
        lease,
        _received("A1", chat=GROUP),
        _received("B1", type="edit", **other),
        _received("B2", type="delete", **other),
        _received("B3", type="delete", details={"byAdmin": True}, **other),
    )
    told = await store.read(lambda tx: tx.events.after(SHOP, 0, 100))
    assert [(event.event, '"id":"B3"' in event.body) for event in told] == [
        ("message", False),
        ("message_revoked", True),
    ]


async def test_the_key_of_a_poll_of_somebody_else_is_found(store: Database, lease: Lease) -> None:
    poll = {"poll": {"name": "?", "options": ["Ja", "Nein"], "selectable": 1}}
    raw = '{"messageContextInfo":{"messageSecret":"AQI="}}'
    await _ingest(store, lease, _received("A1", type="poll", details=poll, raw=raw))
    found = await store.read(lambda tx: inbox.find_poll(tx, SHOP, MessageId("A1")))
    assert found == PollKey(("Ja", "Nein"), b"\1\2", (f"{NUMBER}@s.whatsapp.net",))
    assert await store.read(lambda tx: inbox.find_poll(tx, SHOP, MessageId("A2"))) is None


async def test_instances_know_different_people(store: Database, lease: Lease) -> None:
    other = (await add_instance(store, "other")).id
    await _ingest(store, lease, _received("A1"))
    assert await store.read(lambda tx: tx.people.by_phone(other, NUMBER)) is None


async def test_what_a_sender_calls_another_message_may_be_of_any_length(store: Database, lease: Lease) -> None:
    long = secrets.token_hex(20_000)
    vote = {"type": "vote", "target": long, "poll_id": long, "options": None}
    assert await _ingest(store, lease, _received("A1", type="reaction", target=long), _received("A2", **vote))
    assert [name for name, _ in await _events(store)] == ["reaction", "vote_update"]


@pytest.mark.parametrize("kind", ["reaction", "vote", "edit", "delete"])
async def test_what_is_about_nothing_is_stored_and_not_told(store: Database, lease: Lease, kind: str) -> None:
    assert await _ingest(store, lease, _received("A1"), _received("A2", type=kind, text="x", target=None)) == [
        True,
        True,
    ]
    assert [name for name, _ in await _events(store)] == ["message"]
    [head] = await store.read(lambda tx: tx.threads.heads(SHOP, (2**53, ""), 2, 0.0))
    assert head.message_id == "A1"


class _Undone(Exception):
    """No error: takes back what was written only to be looked at."""


def _somebody(random: Random, number: int) -> Received:
    """A message by one of few people, under few addresses and names: they become one, and change their numbers."""
    phone, lid = random.choice(["4915551", "4915552", None]), random.choice(["9901", "9902", None])
    jid = f"{phone}@s.whatsapp.net" if phone and random.random() < 0.6 else f"{lid or 9903}@lid"
    direct = {"chat": jid, "chat_phone": phone, "chat_lid": lid}
    said = {
        "sender": jid,
        "sender_phone": phone,
        "sender_lid": lid,
        "push_name": random.choice(["Anna", "Ann", None]),
        "from_me": random.random() < 0.1,
        "timestamp": int(START) + random.randrange(3),
        **(direct if random.random() < 0.7 else {"chat": GROUP}),
        **_something(random, number),
    }
    return _received(f"M{random.randrange(number + 1)}", **said)  # some come twice


def _something(random: Random, number: int) -> dict[str, Any]:
    """What it says: most are texts; others are about earlier ones, or tell of the group."""
    target = f"M{random.randrange(number + 1)}"
    match random.choice(["text"] * 6 + ["edit", "delete", "reaction", "vote", "group_update"]):
        case "text":
            return {}
        case "vote":
            return {"type": "vote", "target": target, "poll_id": target, "options": ["A"]}
        case "group_update":
            return {"type": "group_update", "chat": GROUP, "details": {"group": {"subject": f"Group {number}"}}}
        case about_another:
            return {"type": about_another, "target": target}


def _standing(tx: Tx) -> list[object]:
    """All that receiving leaves."""
    heads = tx.threads.heads(SHOP, (2**53, ""), 1_000, 0.0)
    rows = [(row.message_id, head.key, row.author) for head in heads for row in _rows(tx, head.key)]
    people = [tx.people.by_phone(SHOP, phone) for phone in ("4915551", "4915552")]
    people += [tx.people.by_lid(SHOP, lid) for lid in ("9901", "9902", "9903")]
    events = [(event.event_id, event.event, event.body) for event in tx.events.after(SHOP, 0, 1_000)]
    queued = [(due.event_id, due.lane, due.body) for due in tx.webhooks.due(START, 1_000)]
    return [heads, rows, people, events, queued]


def _rows(tx: Tx, key: str) -> list[Any]:
    return list(tx.threads.received(SHOP, key, END, 0.0, 1_000))


def _apart(tx: Tx, lease: Lease, received: Sequence[tuple[Received, str]], now: float) -> list[Received]:
    return [one for one, event_id in received if inbox.ingest(tx, lease, one, now, event_id)]


def _looked_at(found: list[list[object]], work: Callable[[Tx], list[Received]], tx: Tx) -> None:
    found.append([work(tx), *_standing(tx)])
    raise _Undone


async def _either_way(store: Database, lease: Lease, received: Sequence[tuple[Received, str]]) -> list[object]:
    """What messages leave; together they have to leave what each by itself leaves."""
    found: list[list[object]] = []
    for store_them in (_apart, inbox.ingest_all):
        with pytest.raises(_Undone):
            await store.write(
                partial(_looked_at, found, partial(store_them, lease=lease, received=received, now=START))
            )
    assert found[0] == found[1]
    return found[0]


async def test_messages_that_are_stored_together_leave_what_each_by_itself_leaves(
    store: Database, lease: Lease
) -> None:
    merged = 0
    for seed in range(12):
        random = Random(seed)
        received = [(_somebody(random, number), f"e{number}") for number in range(25)]
        merged += "contact_merged" in str((await _either_way(store, lease, received))[4])
    assert merged > 3


async def test_what_came_before_two_turned_out_to_be_one_is_stored_before(store: Database, lease: Lease) -> None:
    received = [_received("M1"), _by_lid("M2"), _received("M3"), _by_lid("M4", NUMBER), _by_lid("M5")]
    left = await _either_way(store, lease, [(one, f"e-{one.message_id}") for one in received])
    heads, events = left[1], left[4]
    assert isinstance(heads, list) and isinstance(events, list)
    assert len(heads) == 1
    assert [name for _, name, _ in events] == ["message"] * 3 + ["contact_merged"] + ["message"] * 2


@pytest.mark.parametrize("kind", ["edit", "delete"])
async def test_who_may_change_a_message_is_judged_by_what_came_before(store: Database, lease: Lease, kind: str) -> None:
    other = {"chat": GROUP, "sender": "4915551230009@s.whatsapp.net"}
    mine, change = {"chat": GROUP}, {"chat": GROUP, "type": kind, "target": "M1"}
    received = [_received("M1", **mine), _received("C1", **{**other, **change}), _received("C2", **change)]
    early = [_received("C3", **{**change, "target": "M2"}), _received("M2", **other)]
    left = await _either_way(store, lease, [(one, f"e-{one.message_id}") for one in received + early])
    events = left[4]
    assert isinstance(events, list)
    assert [event_id for event_id, _, _ in events] == ["e-M1", "e-C2", "e-C3", "e-M2"]
