"""Phones on the real network (without sockets): each message once, in order, through off times and restarts."""

from __future__ import annotations

from pathlib import Path

from wahub.sandbox.control.app import build_control_app
from wahub.sandbox.network.asgi import Committed
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


class WatchedStore(Store):
    """Tells after each commit which rows a kill would leave."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.durable_keys: list[set[str]] = []

    def commit(self) -> None:
        dirty = self._dirty
        super().commit()
        if dirty and not self._dirty:
            self.durable_keys.append({key for key, _ in self.rows("")})


async def test_a_kill_at_any_moment_leaves_the_message_waiting_or_read_with_its_receipt(tmp_path: Path) -> None:
    store = WatchedStore(tmp_path / "state.db")
    anna, ben = people(world_of(store))
    store.commit()
    store.durable_keys.clear()
    anna.send(BEN, Text("one"))
    assert await texts(ben, 1) == ["one"]
    await anna.state.inbox.wait_after(0, 0.05)
    handed_in = [keys for keys in store.durable_keys if has(keys, f"mail/{BEN}/") or f"phone/{BEN}/inbox/1" in keys]
    assert len(handed_in) >= 2
    for keys in handed_in:
        assert has(keys, f"mail/{BEN}/") != (f"phone/{BEN}/inbox/1" in keys)
    first_read = next(keys for keys in handed_in if f"phone/{BEN}/inbox/1" in keys)
    assert has(first_read, f"mail/{ANNA}/0/")


def has(keys: set[str], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in keys)


async def test_the_control_api_answers_what_is_stored(tmp_path: Path) -> None:
    """The copies for others are handed in after the sender's own state: the answer waits for them too."""
    store = WatchedStore(tmp_path / "state.db")
    network = Network(keys_from_seed("phones"), store)
    world = World(network, journal=store)
    people(world)
    told: list[bool] = []

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            told.append(not store._dirty and has(store.durable_keys[-1], f"mail/{BEN}/"))

    body = b'{"to":"%s","text":"x"}' % BEN.encode()

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/control/phones/{ANNA}/send",
        "raw_path": b"",
        "query_string": b"",
        "headers": [],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("localhost", 80),
    }
    await Committed(network, build_control_app(world))(scope, receive, send)
    assert told == [True]
