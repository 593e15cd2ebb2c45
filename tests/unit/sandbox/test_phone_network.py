"""Phones on the real network (without sockets): each message once, in order, through off times and restarts."""

from __future__ import annotations

from pathlib import Path

from wahub.sandbox.network.network import Network
from wahub.sandbox.network.store import Store
from wahub.sandbox.network.trust import keys_from_seed
from wahub.sandbox.phone.content import Edit, Text
from wahub.sandbox.phone.phone import Phone
from wahub.sandbox.world import World

ANNA, BEN = "201000000001", "201000000002"


def world_of(store: Store | None = None) -> World:
    network = Network(keys_from_seed("phones"), store)
    world = World(network, trust_root=network.trust_root, journal=store)
    world.restore({} if store is None else dict(store.rows("")))
    return world


def people(world: World) -> tuple[Phone, Phone]:
    return world.create_phone(ANNA, "Anna")[0], world.create_phone(BEN, "Ben")[0]


async def texts(phone: Phone, count: int) -> list[str]:
    """The texts of the inbox once it holds `count` messages (the network delivers in later turns of the loop)."""
    await phone.state.inbox.wait_after(count - 1, 5)
    return [entry["text"] for entry in phone.state.inbox.after(0)]


async def test_conversation() -> None:
    anna, ben = people(world_of())
    for turn in range(10):
        anna.send(BEN, Text(f"a{turn}"))
        ben.send(ANNA, Text(f"b{turn}"))
    assert await texts(anna, 10) == [f"b{turn}" for turn in range(10)]
    assert await texts(ben, 10) == [f"a{turn}" for turn in range(10)]
    assert anna.undecryptable == ben.undecryptable == 0


async def test_a_phone_that_is_off_gets_everything_later_in_order() -> None:
    world = world_of()
    anna, ben = people(world)
    world.set_online(ben, False)
    message_id = anna.send(BEN, Text("one"))
    anna.send(BEN, Edit(message_id, "one, corrected"))
    anna.send(BEN, Text("two"))
    world.set_online(ben, True)
    assert await texts(ben, 3) == ["one", "one, corrected", "two"]


async def test_a_lost_session_is_healed_by_a_retry() -> None:
    world = world_of()
    anna, ben = people(world)
    anna.send(BEN, Text("one"))
    assert await texts(ben, 1) == ["one"]
    ben.send(ANNA, Text("two"))
    assert await texts(anna, 1) == ["two"]
    ben.state.sessions.forget(f"{ANNA}:0")
    anna.send(BEN, Text("three"))
    assert await texts(ben, 2) == ["one", "three"]
    assert ben.undecryptable == 1
    assert world.network.stats()["messages"]["undecryptable"] == 1


async def test_nobody_violates_anything() -> None:
    world = world_of()
    anna, ben = people(world)
    anna.send(BEN, Text("one"))
    await texts(ben, 1)
    ben.mark_read(ben.state.inbox.after(0)[0]["messageId"])
    ben.send(ANNA, Text("two"))
    await texts(anna, 1)
    stats = world.network.stats()
    assert stats["violations"] == []
    assert stats["messages"]["accepted"] == 2


async def test_the_state_file_brings_people_their_queue_and_their_sessions_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    world = world_of(store)
    anna, ben = people(world)
    anna.send(BEN, Text("before"))
    await texts(ben, 1)
    ben.send(ANNA, Text("answer"))
    await texts(anna, 1)
    world.set_online(ben, False)
    anna.send(BEN, Text("while off"))
    store.close()

    store = Store(tmp_path / "state")
    world = world_of(store)
    anna, ben = world.phones[ANNA], world.phones[BEN]
    assert (anna.name, anna.online, ben.online) == ("Anna", True, False)
    world.set_online(ben, True)
    anna.send(BEN, Text("after"))
    assert await texts(ben, 3) == ["before", "while off", "after"]
    assert ben.undecryptable == 0
    store.close()


async def test_reset_forgets_the_state_file_too(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    world = world_of(store)
    people(world)
    world.reset()
    store.close()
    store = Store(tmp_path / "state")
    assert world_of(store).phones == {}
    store.close()
