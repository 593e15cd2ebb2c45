"""Instances, received messages and session material."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import sqlalchemy as sa
from tests.contract.makers import (
    SHOP,
    START,
    add_delivery,
    add_entries,
    add_instance,
    add_received,
    make_delivery,
    make_entry,
    make_instance,
    make_received,
)

from wahub.adapters.sql.tables import instances
from wahub.adapters.sql.transaction import SqlTx
from wahub.domain.endpoint import Secrets, Trouble
from wahub.domain.errors import InstanceNotFoundError
from wahub.domain.ids import InstanceId, QueueId
from wahub.domain.instance import Config, EngineOptions, Observed, State
from wahub.domain.lifecycle import Ask, Incident, IncidentKind, Lifecycle
from wahub.domain.outbox import IdempotencyKey, KeyKind
from wahub.domain.session import CREDS, KeyChanges, KeyName
from wahub.ports.messages import Filed
from wahub.ports.store import Database, KeyRecord, Tx


class OurError(Exception):
    pass


async def test_an_instance_comes_back_as_it_was_saved(store: Database) -> None:
    await add_instance(store)
    full = make_instance(
        config=Config(
            "Shop é",
            "http://localhost/hook",
            ("qr", "message"),
            False,
            ("customer", "owner"),
            "socks5://é:p%40ss@localhost:1080",
            EngineOptions("Büro 👋", mark_online=False),
        ),
        observed=Observed(
            state=State.RESTRICTED,
            state_at=1.5,
            phone="4915551230001",
            lid="99@lid",
            display_name="Shop 👋",
            qr="code",
            qr_expires_at=2.5,
            last_event="opened",
            last_event_at=3.5,
            last_error="nul \0 half \ud83d",
            last_disconnect_reason="banned",
            last_disconnect_at=4.5,
            authenticated_at=5.5,
            ready_at=6.5,
            last_ready_at=7.5,
            restart_attempts=8,
        ),
        deleting=True,
        unlinking=True,
    )
    await store.write(lambda tx: tx.instances.save(full))
    found = await store.write(lambda tx: tx.instances.get(SHOP, for_update=True))
    assert found == replace(full, observed=replace(full.observed, last_error="nul \ufffd half \ufffd"))
    assert await store.read(lambda tx: tx.instances.get(SHOP)) == found
    assert await store.read(lambda tx: tx.instances.get(InstanceId("other"))) is None


async def test_engine_options_that_are_not_set_stay_so(store: Database) -> None:
    await add_instance(store)
    for options in (EngineOptions(), EngineOptions("Shop"), EngineOptions(mark_online=True), EngineOptions()):
        changed = make_instance(config=Config("shop", engine=options))
        await store.write(lambda tx, changed=changed: tx.instances.save(changed))  # type: ignore[misc]
        assert await store.read(lambda tx: tx.instances.get(SHOP)) == changed
        assert await store.read(lambda tx: tx.instances.list()) == [changed]


async def test_engine_options_of_a_later_version_are_ignored(store: Database) -> None:
    await add_instance(store)
    later = sa.update(instances).values(engine='{"invented": 1, "device_name": "Shop"}')

    def alter(tx: Tx) -> None:
        assert isinstance(tx, SqlTx)
        tx._runner.run(later, {})

    await store.write(alter)
    found = await store.read(lambda tx: tx.instances.get(SHOP))
    assert found is not None
    assert found.config.engine == EngineOptions("Shop")


async def test_a_refusal_does_not_tell_the_proxy(store: Database) -> None:
    await add_instance(store)
    instance = make_instance("gone", config=Config("gone", proxy="http://u:hunter2@localhost:1"))
    with pytest.raises(InstanceNotFoundError) as caught:
        await store.write(lambda tx: tx.instances.save(instance))
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(instance)


async def test_instances_are_listed_by_creation(store: Database) -> None:
    for name, at in (("b", 3.0), ("c", 1.0), ("a", 2.0)):
        await store.write(lambda tx, name=name, at=at: tx.instances.add(make_instance(name, created_at=at)))  # type: ignore[misc]
    assert [found.id for found in await store.read(lambda tx: tx.instances.list())] == ["c", "a", "b"]


async def test_instances_are_counted_by_state(store: Database) -> None:
    assert await store.read(lambda tx: tx.instances.count()) == {}
    for name, state, deleting in (
        ("a", State.READY, False),
        ("b", State.NEEDS_QR, False),
        ("c", State.READY, False),
        ("d", State.READY, True),
        ("e", State.ERROR, True),
    ):
        made = make_instance(name, observed=Observed(state=state), deleting=deleting)
        await store.write(lambda tx, made=made: tx.instances.add(made))  # type: ignore[misc]
    assert await store.read(lambda tx: tx.instances.count()) == {State.READY: 2, State.NEEDS_QR: 1}


async def test_sequences_have_no_gaps(store: Database) -> None:
    await add_instance(store)

    def take(number: int, tx: Tx) -> int:
        taken = tx.instances.next_sequences(SHOP, 1)
        if number % 3 == 0:
            raise OurError
        return taken

    tasks = [store.write(lambda tx, number=number: take(number, tx)) for number in range(30)]  # type: ignore[misc]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    taken = [result for result in results if isinstance(result, int)]
    assert sorted(taken) == list(range(1, 21))
    # Saving the record does not set it back.
    await store.write(lambda tx: tx.instances.save(make_instance()))
    assert await store.write(lambda tx: tx.instances.next_sequences(SHOP, 1)) == 21


async def test_several_numbers_are_taken_at_once(store: Database) -> None:
    await add_instance(store)
    counts = (1, 3, 200, 1)
    firsts = await store.write(lambda tx: [tx.instances.next_sequences(SHOP, count) for count in counts])
    assert firsts == [1, 2, 5, 205]
    with pytest.raises(InstanceNotFoundError):
        await store.write(lambda tx: tx.instances.next_sequences(InstanceId("other"), 2))


async def test_deleting_an_instance_removes_all_that_hangs_on_it(store: Database) -> None:
    for name in ("shop", "other"):
        instance = InstanceId(name)
        await add_instance(store, name)
        await add_entries(store, make_entry(1, instance=instance))

        def fill(tx: Tx, instance: InstanceId = instance) -> None:
            key = IdempotencyKey("k", KeyKind.EXPLICIT, "h")
            tx.keys.put(instance, KeyRecord(key, QueueId("q"), START))
            tx.keys.add_claim(instance, START, 0)
            tx.tally.add_disconnect(instance, START)
            add_received(tx, make_received(instance=instance), START)
            add_delivery(tx, make_delivery(1, instance=instance, event_id=f"event-{instance}"))
            tx.sessions.write(instance, KeyChanges({CREDS: b"secret"}))
            tx.lifecycles.save(Lifecycle(instance, mutes=1, asked=Ask.RETRY))
            tx.lifecycles.add_incident(instance, Incident(IncidentKind.BANNED, "", START))
            tx.endpoints.note(Trouble(instance, "http://localhost/hook", 1, START, "HTTP 500"))
            tx.endpoints.set_secrets(instance, Secrets("secret"))

        await store.write(fill)

    def left(tx: Tx, name: str) -> list[object]:
        instance = InstanceId(name)
        return [
            tx.instances.get(instance) is not None,
            tx.line.depth(instance),
            tx.keys.get(instance, "k") is not None,
            len(tx.keys.claims_since(instance, 0)),
            tx.tally.counters(instance, START).disconnects_1h,
            len(tx.sessions.read(instance, [CREDS])),
            sum(delivery.instance == instance for delivery in tx.webhooks.due(START, 10)),
            tx.lifecycles.get(instance).mutes,
            sum(asked == instance for asked in tx.lifecycles.asked()),
            len(tx.lifecycles.incidents(instance, 10)),
            tx.inbox.last_received_at(instance),
            len(tx.events.after(instance, 0, 10)),
            tx.endpoints.trouble(instance, "http://localhost/hook") is not None,
            tx.endpoints.secrets(instance).current,
        ]

    await store.write(lambda tx: tx.instances.delete(SHOP))
    assert await store.read(lambda tx: left(tx, "shop")) == [
        *(False, 0, False, 0, 0, 0, 0, 0, 0, 0, None),
        *(0, False, None),
    ]
    assert await store.read(lambda tx: left(tx, "other")) == [
        *(True, 1, True, 1, 1, 1, 1, 1, 1, 1, START),
        *(1, True, "secret"),
    ]
    # Created again it starts empty: the same message is new to it.
    await add_instance(store)
    assert await store.write(lambda tx: add_received(tx, make_received(), START))
    assert await store.write(lambda tx: tx.instances.next_sequences(SHOP, 1)) == 1


async def test_what_hangs_on_an_instance_can_be_removed_in_parts(store: Database) -> None:
    for name in ("shop", "other"):
        instance = InstanceId(name)
        await add_instance(store, name)
        await add_entries(store, *(make_entry(number, instance=instance) for number in range(2)))

        def fill(tx: Tx, instance: InstanceId = instance) -> None:
            for number in range(3):
                event_id = f"event-{instance}-{number}"
                add_delivery(tx, make_delivery(number + 1, instance=instance, event_id=event_id))
            add_received(tx, make_received(instance=instance), START)

        await store.write(fill)

    def left(tx: Tx, name: str) -> list[object]:
        instance = InstanceId(name)
        waiting = sum(delivery.instance == instance for delivery in tx.webhooks.due(START, 10))
        stored = tx.inbox.last_received_at(instance)
        return [len(tx.events.after(instance, 0, 10)), waiting, stored, tx.line.depth(instance)]

    assert await store.write(lambda tx: tx.instances.shed(SHOP, 2)) == 2
    assert await store.read(lambda tx: left(tx, "shop")) == [1, 1, START, 2]
    assert [await store.write(lambda tx: tx.instances.shed(SHOP, 2)) for _ in range(3)] == [2, 2, 0]
    assert await store.read(lambda tx: left(tx, "shop")) == [0, 0, None, 0]
    assert await store.read(lambda tx: left(tx, "other")) == [3, 1, START, 2]


async def test_a_message_is_stored_once(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    again = make_received(text="another text")
    assert await store.write(lambda tx: add_received(tx, make_received(), START))
    assert not await store.write(lambda tx: add_received(tx, again, START))
    for different in (
        make_received("3A02"),
        make_received(chat="1@g.us"),
        make_received(sender="2@s.whatsapp.net"),
        make_received(instance=InstanceId("other")),
    ):
        assert await store.write(lambda tx, received=different: add_received(tx, received, START))  # type: ignore[misc]


@pytest.mark.parametrize("count", [1, 2, 17, 200])
async def test_several_messages_are_stored_as_if_one_after_the_other(store: Database, count: int) -> None:
    await add_instance(store)
    # Ids may hold any characters; every third message is there already, and every fifth stands there twice.
    received = [make_received(f"3A{number} \"'%,{{}}[]?:é\0", text=f"text {number}") for number in range(count)]
    for one in received[::3]:
        assert await store.write(lambda tx, one=one: add_received(tx, one, START))  # type: ignore[misc]
    filed = [Filed(one, f"c_{one.chat}", f"c_{one.sender}") for one in received]
    again = filed + filed[::5]
    new = await store.write(lambda tx: tx.inbox.add_all(again, START + 1))
    assert new == [number % 3 != 0 for number in range(count)] + [False] * len(filed[::5])
    assert await store.write(lambda tx: tx.inbox.add_all(again, START + 2)) == [False] * len(again)
    for one in received:
        (found,) = await store.read(lambda tx, one=one: tx.inbox.find(SHOP, one.message_id))  # type: ignore[misc]
        assert found.text == one.text
    assert await store.read(lambda tx: tx.inbox.guards(SHOP, 1000)) == count


async def test_a_copy_is_known_by_its_address_or_by_its_author_also_within_one_call(store: Database) -> None:
    await add_instance(store)
    other = "1@lid"
    first, moved = make_received("1"), make_received("1", chat=other, sender=other)
    cases = [
        (Filed(first, "c_anna", "c_anna"), True),
        (Filed(moved, "c_anna", "c_anna"), False),  # of the same person in the same chat
        (Filed(first, "c_ben", "c_ben"), False),  # from the same address
        (Filed(moved, "c_ben", "c_ben"), True),
        (Filed(make_received("2"), "c_anna", "c_anna"), True),
        (Filed(make_received("2", from_me=True, sender="me"), "c_anna", None), True),
        (Filed(make_received("2", from_me=True, sender="me@lid"), "c_anna", None), False),
        (Filed(make_received("3\0"), "c_anna", "c_anna"), True),
        (Filed(make_received("3\ud800", chat=other), "c_anna", "c_anna"), False),  # both are stored as 3\ufffd
        (Filed(make_received("4", chat="g\0@g.us"), "g\0@g.us", "c_anna"), True),
        (Filed(make_received("4", chat="g\0@g.us", sender=other), "g\udc00@g.us", "c_anna"), False),
    ]
    filed = [one for one, _ in cases]

    def apart(tx: Tx) -> list[bool]:
        return [tx.inbox.add_all([one], START)[0] for one in filed]

    def together_then_not(tx: Tx) -> None:
        assert tx.inbox.add_all(filed, START) == [new for _, new in cases]
        assert not any(tx.inbox.add_all(filed, START))
        raise OurError

    with pytest.raises(OurError):
        await store.write(together_then_not)
    assert await store.write(apart) == [new for _, new in cases]
    assert await store.write(lambda tx: tx.inbox.add_all([], START)) == []


async def test_of_equal_batches_at_the_same_moment_each_message_is_new_once(store: Database) -> None:
    await add_instance(store)
    filed = [Filed(make_received(f"3A{number}"), "c_anna", "c_anna") for number in range(20)]
    arrivals = await asyncio.gather(*(store.write(lambda tx: tx.inbox.add_all(filed, START)) for _ in range(6)))
    assert [sum(each) for each in zip(*arrivals, strict=True)] == [1] * 20


async def test_of_equal_messages_at_the_same_moment_one_is_new(store: Database) -> None:
    await add_instance(store)
    arrivals = await asyncio.gather(
        *(store.write(lambda tx: add_received(tx, make_received(), START)) for _ in range(10))
    )
    assert sorted(arrivals) == [False] * 9 + [True]


async def test_what_guards_against_a_second_copy_is_counted_up_to_a_limit(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")

    def receive(tx: Tx) -> list[int]:
        for number in range(3):
            add_received(tx, make_received(f"3A0{number}"), START)
        add_received(tx, make_received("3A00"), START)
        return [tx.inbox.guards(SHOP, most) for most in (2, 3, 10)]

    assert await store.write(receive) == [2, 3, 3]
    assert await store.read(lambda tx: tx.inbox.guards(InstanceId("other"), 10)) == 0


async def test_when_the_latest_message_was_stored(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    assert await store.read(lambda tx: tx.inbox.last_received_at(SHOP)) is None
    for number, at in enumerate((START + 1, START + 5, START + 3)):
        received = make_received(f"3A0{number}")
        await store.write(lambda tx, received=received, at=at: add_received(tx, received, at))  # type: ignore[misc]
    await store.write(lambda tx: add_received(tx, make_received(instance=InstanceId("other")), START + 9))
    # Seen again: nothing new was stored.
    await store.write(lambda tx: add_received(tx, make_received("3A00"), START + 7))
    assert await store.read(lambda tx: tx.inbox.last_received_at(SHOP)) == START + 5


@pytest.mark.parametrize("timestamp", [-5, 2**70])
async def test_what_a_sender_made_up_is_stored_all_the_same(store: Database, timestamp: int) -> None:
    await add_instance(store)
    odd = make_received(text="nul \0 half \udc00", raw='{"a":"\0"}', timestamp=timestamp, type="\0")
    assert await store.write(lambda tx: add_received(tx, odd, START))
    assert not await store.write(lambda tx: add_received(tx, odd, START))


# --- session material -------------------------------------------------------------------------------------------------


async def test_session_material_is_written_read_and_removed(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    a, b, c = KeyName("session", "a.0"), KeyName("session", "b.0"), KeyName("pre-key", "1")
    value = bytes(range(256)) * 40
    await store.write(lambda tx: tx.sessions.write(SHOP, KeyChanges({CREDS: b"{}", a: value, b: b"", c: b"old"})))
    await store.write(lambda tx: tx.sessions.write(InstanceId("other"), KeyChanges({a: b"another's"})))
    await store.write(lambda tx: tx.sessions.write(SHOP, KeyChanges({c: b"new", b: None, KeyName("x", "y"): None})))
    await store.write(lambda tx: tx.sessions.write(SHOP, KeyChanges({})))
    found = await store.read(lambda tx: tx.sessions.read(SHOP, [CREDS, a, b, c, KeyName("pre-key", "a.0")]))
    assert found == {CREDS: b"{}", a: value, c: b"new"}
    assert await store.write(lambda tx: tx.sessions.purge(SHOP)) == 3
    assert await store.read(lambda tx: tx.sessions.read(SHOP, [CREDS, a, c])) == {}
    assert await store.read(lambda tx: tx.sessions.read(InstanceId("other"), [a])) == {a: b"another's"}


async def test_many_keys_at_once(store: Database) -> None:
    await add_instance(store)
    values = {KeyName("pre-key", str(n)): f"value {n}".encode() for n in range(900)}
    values |= {KeyName("session", str(n)): b"s" for n in range(20)}
    await store.write(lambda tx: tx.sessions.write(SHOP, KeyChanges(values)))
    wanted = [*values, *(KeyName("pre-key", f"none-{n}") for n in range(20))]
    assert await store.read(lambda tx: tx.sessions.read(SHOP, wanted)) == values
    assert await store.read(lambda tx: tx.sessions.read(SHOP, [])) == {}
