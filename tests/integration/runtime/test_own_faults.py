"""Faults of our own: a store that fails for a moment or for an hour, alarms that come too late, bad messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.runtime.world import SHOP, World

from wahub.domain.errors import StoreBusyError
from wahub.domain.ids import InstanceId, WorkerId
from wahub.domain.instance import Disconnect, State
from wahub.domain.lifecycle import Ask, IncidentKind
from wahub.domain.outbox import SendAcked, SendNotStarted
from wahub.domain.restore import RestorePolicy
from wahub.ports.engine import CaughtUp, Inbound, LinkVitals, Opened, OwnIdentity, Paired, QrShown
from wahub.ports.wakeup import INSTANCES, watch_topic
from wahub.runtime import reports, runner
from wahub.services import instance as instances
from wahub.services.lifecycle import links

ME = OwnIdentity("201234567890", None, "Shop")


class Once:
    """Fails the first `times` calls of what it stands for."""

    def __init__(self, real: Callable[..., Any], times: int = 1, error: type[Exception] = StoreBusyError) -> None:
        self.real, self.left, self.error = real, times, error

    def __call__(self, *given: Any, **named: Any) -> Any:
        if self.left:
            self.left -= 1
            raise self.error("a test says so")
        return self.real(*given, **named)


async def fleet(folder: Path, count: int, **restore: Any) -> World:
    """A gateway that was killed with so many linked instances; its next start is up to the test."""
    world = World(folder).calm().with_settings(restore=RestorePolicy(**restore))
    await world.start()
    for number in range(count):
        await world.linked(f"i{number}")
    await world.die()
    world.engine_does(lambda link: link.open_up())
    return world


async def states(world: World, count: int) -> list[State]:
    return [await world.state_of(InstanceId(f"i{number}")) for number in range(count)]


async def test_a_fault_of_the_store_does_not_end_the_row(tmp_path: Path) -> None:
    world = await fleet(tmp_path, 6, jitter=(1.0, 1.0), concurrency=1)
    await world.start()
    await world.pass_time(1.5)
    real, failures = world.database.read, [1]

    async def read(work: Callable[..., Any]) -> Any:
        if failures and "_restore_one" in work.__qualname__:
            failures.pop()
            raise StoreBusyError("a test says so")
        return await real(work)

    world.database.read = read  # type: ignore[method-assign]
    await world.pass_time(60)
    assert not failures
    assert await states(world, 6) == [State.READY] * 6
    assert world.restored[-1][1] == 6
    await world.stop()


async def test_an_instance_that_was_deleted_in_the_row_can_be_created_again(tmp_path: Path) -> None:
    world = await fleet(tmp_path, 3, jitter=(5.0, 5.0), concurrency=1)
    await world.start()
    await world.pass_time(1)
    last = InstanceId("i2")
    assert world.engine.of(last) == [], "it waits in the row"
    await world.database.write(lambda tx: instances.ask_delete(tx, last))
    world.wakeup.notify(INSTANCES)
    await world.pass_time(30)
    assert await world.instance(last) is None
    before = len(world.engine.of(last))
    await world.create("i2")
    await world.pass_time(5)
    assert len(world.engine.of(last)) > before
    await world.stop()


async def test_giving_up_that_fails_leaves_nothing_half_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = await fleet(tmp_path, 1, jitter=(0.0, 0.0), max_attempts=1)
    broken = Once(runner.outbox.recover, 2, RuntimeError)
    monkeypatch.setattr(runner.outbox, "recover", broken)
    monkeypatch.setattr(runner.lifecycle, "failed", Once(runner.lifecycle.failed))
    await world.start()
    await world.pass_time(120)
    state = await world.state_of(InstanceId("i0"))
    if state is State.ERROR:
        await world.ask(Ask.RETRY, InstanceId("i0"))
        await world.pass_time(30)
    assert await world.state_of(InstanceId("i0")) is State.READY
    await world.stop()


async def test_a_pause_until_someone_asks_survives_a_fault_at_the_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await world.linked()
    link.break_off(Disconnect.REPLACED, 440)
    await world.state_becomes(State.PAUSED)
    await world.pass_time(61)
    world.engine.links[-1].open_up()
    await world.state_becomes(State.READY)
    world.engine.links[-1].break_off(Disconnect.REPLACED, 440)
    await world.state_becomes(State.PAUSED)
    await world.die()
    monkeypatch.setattr(runner.outbox, "recover", Once(runner.outbox.recover))
    await world.start()
    await world.pass_time(600)
    assert (await world.state_of(), len(world.engine.links)) == (State.PAUSED, 0)


ENDS = {
    Disconnect.LOGGED_OUT: (401, State.NEEDS_QR, IncidentKind.LOGGED_OUT, 2),
    Disconnect.MULTIDEVICE_MISMATCH: (411, State.NEEDS_QR, IncidentKind.MULTIDEVICE_MISMATCH, 1),
    Disconnect.BANNED: (403, State.RESTRICTED, IncidentKind.BANNED, 1),
    Disconnect.REPLACED: (440, State.PAUSED, None, 1),
}


@pytest.mark.parametrize("reason", ENDS)
async def test_an_end_that_is_stored_late_is_what_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch, reason: Disconnect
) -> None:
    code, state, incident, opened = ENDS[reason]
    link = await world.linked()
    monkeypatch.setattr(links, "after_close", Once(links.after_close, 3))
    link.break_off(reason, code)
    await world.pass_time(8)
    assert (await world.state_of(), len(world.engine.links)) == (state, opened)
    assert await world.incidents() == ([] if incident is None else [incident])
    assert [data for name, data in await world.posted() if name == "disconnected"] == [{"reason": str(reason)}]


async def test_a_store_that_is_gone_for_an_hour_is_not_asked_without_end(world: World) -> None:
    link = await world.linked()
    tries = 0
    real = world.database.write

    async def write(work: Callable[..., Any]) -> Any:
        nonlocal tries
        tries += "runner" in work.__module__ or "ending" in work.__module__ or "leaser" in work.__module__
        return await real(work)

    world.database.write = write  # type: ignore[method-assign]
    world.database.failing = True
    link.break_off(Disconnect.CONNECTION_CLOSED, 428)
    await world.pass_time(3_600)
    # The ladder over an hour is about 20 tries, each of at most three writes; terms are renewed every 15 s.
    assert tries < 60 + 3_600 / 15 + 10
    world.database.failing = False
    await world.pass_time(400)
    assert "disconnected" in [name for name, _ in await world.posted()]
    assert await world.state_of() in (State.CONNECTING, State.DISCONNECTED)


def slow(world: World, name: str) -> asyncio.Event:
    """Writes of that name wait for the event."""
    gate, real = asyncio.Event(), world.database.write

    async def write(work: Callable[..., Any]) -> Any:
        if name in work.__qualname__:
            await gate.wait()
        return await real(work)

    world.database.write = write  # type: ignore[method-assign]
    return gate


async def test_an_alarm_of_one_link_does_not_close_the_next(world: World) -> None:
    link = await world.linked()
    gate = slow(world, "Watch._ring")
    link.seen = LinkVitals(heard_at=world.clock.monotonic() - 400)
    world.wakeup.notify(watch_topic(SHOP))
    await world.rest()
    link.break_off(Disconnect.CONNECTION_CLOSED, 428)
    await world.pass_time(1.5)
    following = world.engine.links[-1]
    assert following is not link
    following.open_up()
    await world.state_becomes(State.READY)
    gate.set()
    await world.pass_time(20)
    assert (following.closed, await world.state_of()) == (False, State.READY)


async def test_an_account_that_got_ready_meanwhile_is_not_paused(world: World) -> None:
    await world.create()
    link = await world.engine.next_link()
    link.report(QrShown("code", 60.0))
    await world.state_becomes(State.NEEDS_QR)
    link.report(Paired(ME))
    link.break_off(Disconnect.RESTART_REQUIRED, 515)
    gate = slow(world, "_ready_timeout")
    second = await world.engine.next_link()
    world.clock.advance(601)
    world.wakeup.notify(watch_topic(SHOP))
    await world.rest()
    second.report(Opened(ME), CaughtUp(0))
    await world.state_becomes(State.READY)
    gate.set()
    await world.pass_time(5)
    assert (await world.state_of(), second.closed) == (State.READY, False)
    assert "ready_timeout" not in [name for name, _ in await world.posted()]


async def test_a_restart_is_not_forgotten_when_the_term_was_lost(world: World) -> None:
    world.engine_does(lambda link: link.open_up())
    await world.create()
    await world.state_becomes(State.READY)
    # The process was frozen beyond its term, and another worker held it for a moment.
    world.clock.jump(26)
    assert await world.database.write(lambda tx: tx.leases.claim(SHOP, WorkerId("thief"), 1.0))
    world.clock.jump(2)
    await world.ask(Ask.HARD_RESTART)
    await world.pass_time(120)
    record = await world.record()
    assert (record.asked, record.restart_count, await world.state_of()) == (None, 1, State.READY)


async def test_a_message_that_the_store_refuses_ends_no_link(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    link = await world.linked()
    real = reports.inbox.ingest_all

    def ingest_all(tx: Any, lease: Any, received: Any, now: float) -> Any:
        if any(message.message_id == "BAD" for message, _ in received):
            raise RuntimeError("no column can hold this")
        return real(tx, lease, received, now)

    monkeypatch.setattr(reports.inbox, "ingest_all", ingest_all)
    link.report(*(Inbound(seq, message(name)) for seq, name in enumerate(("ONE", "BAD", "TWO"), start=1)))
    await world.pass_time(60)
    assert (link.acked, link.closed, await world.state_of()) == ([1, 3], False, State.READY)
    assert await world.incidents() == [IncidentKind.MESSAGE_REFUSED]
    assert len(await world.news("message")) == 2


def message(name: str) -> dict[str, Any]:
    sender = "201111111111@s.whatsapp.net"
    return {
        "message_id": name,
        "chat": sender,
        "sender": sender,
        "sender_phone": "201111111111",
        "sender_lid": None,
        "from_me": False,
        "push_name": None,
        "timestamp": 1,
        "type": "text",
        "text": "hello",
        "raw": "{}",
    }


@pytest.mark.parametrize("wish", ["delete", "unlink"])
async def test_an_account_at_rest_is_unlinked_at_the_server(world: World, wish: str) -> None:
    link = await world.linked()
    await world.send("for later", send_at=world.clock.now() + 3_600)
    for _ in range(2):
        link.break_off(Disconnect.REPLACED, 440)
        await world.state_becomes(State.PAUSED)
        await world.pass_time(61)
        link = world.engine.links[-1]
        link.open_up()
    world.engine_does(lambda new: new.open_up())
    assert (await world.state_of(), link.opened) == (State.PAUSED, True)
    ask: Callable[..., Any] = instances.ask_delete if wish == "delete" else instances.ask_unlink
    await world.database.write(lambda tx: ask(tx, SHOP))
    world.wakeup.notify(INSTANCES)
    await world.pass_time(20)
    assert [each.logged_out for each in world.engine.links].count(True) == 1
    assert all(not each.sent for each in world.engine.links)
    found = await world.instance()
    assert found is None if wish == "delete" else found is not None and not found.unlinking


async def test_links_that_never_get_as_far_as_the_wire_are_mute_too(world: World) -> None:
    """To a stranger the question for his devices comes first; a mute server does not answer that either."""
    link = await world.linked()
    world.engine_does(lambda new: new.open_up())
    answers = [SendNotStarted("prepare_timeout"), SendNotStarted("prepare_timeout"), SendAcked()]
    link.answer = lambda *_: answers.pop(0)
    for chat in ("201111111111", "201111111112"):
        await world.send("hello", chat)
    await world.pass_time(30)
    assert "change_state" in [name for name, _ in await world.posted()]
    assert len(world.engine.links) == 2
