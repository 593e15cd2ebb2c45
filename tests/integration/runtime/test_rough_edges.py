"""What goes wrong between two steps: crashes, late words of the server, callers that ask for two things at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.engine import ME, FakeLink
from tests.integration.runtime.world import SHOP, World, eventually

from wahub.domain.errors import NotRetryableError
from wahub.domain.instance import Disconnect, State
from wahub.domain.outbox import ItemState, SendRefused
from wahub.domain.pacing import Pace, TypingPolicy
from wahub.ports.engine import CaughtUp, Inbound, KeyVault, LinkSpec, Opened, QrShown
from wahub.ports.store import Tx
from wahub.ports.wakeup import INSTANCES
from wahub.services import instance as instances
from wahub.services import outbox

OTHER = replace(ME, phone="209999999999")


async def test_a_failed_item_is_not_tried_again_once_its_key_stands_for_another(world: World) -> None:
    link = await world.linked()
    link.answer = lambda *_: SendRefused(400)
    first = await world.send("hello", explicit_key="order-1")
    await world.item_becomes(first.id, ItemState.FAILED)
    link.hold = None
    link.answer = world.engine.answer
    second = await world.send("hello", explicit_key="order-1")
    await world.item_becomes(second.id, ItemState.SENT)
    with pytest.raises(NotRetryableError, match=second.id):
        await world.act(lambda tx: outbox.retry(tx, SHOP, first.id, world.clock.now()))
    assert len(link.sent) == 2


async def test_another_number_that_shows_only_when_the_link_opens_holds_the_queue(world: World) -> None:
    link = await world.linked()
    link.break_off(Disconnect.CONNECTION_CLOSED, 428)
    await world.state_becomes(State.DISCONNECTED)
    waiting = await world.send("for the customers of the old number")
    # The engine kept the new credentials, and the gateway died before it heard of the pairing.
    await world.pass_time(1.5)
    again = await world.engine.next_link()
    again.report(Opened(OTHER), CaughtUp(0))
    await world.state_becomes(State.READY)
    assert (await world.entry(waiting.id)).state is ItemState.HELD
    assert again.sent == []
    assert [news["reason"] for news in await world.news("queue_held")] == [outbox.ACCOUNT_CHANGED]


async def test_a_banned_account_can_be_unlinked_with_its_queue_kept(world: World) -> None:
    link = await world.linked()
    link.break_off(Disconnect.BANNED, 403)
    await world.state_becomes(State.RESTRICTED)
    kept = await world.send("kept")
    await world.database.write(lambda tx: instances.ask_unlink(tx, SHOP))
    world.wakeup.notify(INSTANCES)
    done = await world.state_becomes(State.NEEDS_QR)
    assert not done.unlinking
    assert (await world.entry(kept.id)).state is ItemState.QUEUED


async def test_the_servers_own_word_during_an_unlink_is_told_once(world: World) -> None:
    link = await world.linked()

    async def logout() -> None:
        link.logged_out = True
        link.break_off(Disconnect.LOGGED_OUT, 401)
        await world.rest()

    link.logout = logout  # type: ignore[method-assign]
    await world.database.write(lambda tx: instances.ask_unlink(tx, SHOP))
    world.wakeup.notify(INSTANCES)
    await world.engine.next_link()
    found = await world.instance()
    assert found is not None and not found.unlinking, "the next link was opened before the account was unlinked"
    assert found.observed.state is State.NEEDS_QR
    assert len(await world.news("disconnected")) == 1


async def test_an_instance_that_was_created_anew_does_not_suffer_from_an_old_delete(world: World) -> None:
    await world.linked()
    await world.database.write(lambda tx: instances.ask_delete(tx, SHOP))
    world.wakeup.notify(INSTANCES)

    async def gone() -> bool:
        return await world.instance() is None

    await eventually(gone, "deleted")
    await world.rest()
    made = await world.create()
    # As from a round whose read of the store was older than the delete.
    world.supervisor._start_delete(SHOP)
    world.supervisor._start_unlink(SHOP)
    (await world.engine.next_link()).open_up()
    await world.state_becomes(State.READY)
    await world.pass_time(world.settings.delete_patience + 1)
    found = await world.instance()
    assert found is not None and found.created_at == made.created_at and found.observed.state is State.READY


async def test_a_link_that_ends_by_a_fault_of_ours_is_not_listed_as_ready(world: World) -> None:
    link = await world.linked()
    world.database.failing = True
    link.report(Inbound(1, {}))
    await world.rest()
    assert link.closed, "what cannot be stored comes again with the next link"
    world.database.failing = False
    await world.pass_time(1.1)
    await world.state_becomes(State.DISCONNECTED)
    await world.pass_time(1.1)
    again = await world.engine.next_link()
    again.open_up()
    await world.state_becomes(State.READY)


async def test_nobody_forecasts_what_stands_behind_a_held_item(world: World) -> None:
    await world.create()
    link = await world.engine.next_link()
    link.open_up()
    await world.state_becomes(State.READY)
    link.break_off(Disconnect.CONNECTION_CLOSED, 428)
    await world.state_becomes(State.DISCONNECTED)
    held = await world.send("held")

    def hold(tx: Tx) -> None:
        found = tx.instances.get(SHOP)
        assert found is not None
        outbox.hold_for_new_account(tx, found, world.clock.now())

    await world.database.write(hold)
    behind, free = await world.send("behind it"), await world.send("free", chat="202222222222")
    now = world.clock.now()
    view = await world.database.read(
        lambda tx: outbox.overview(tx, SHOP, now, Pace(0, 0, 0), TypingPolicy(enabled=False))
    )
    shown = {item.entry.id: (item.next_attempt_at, item.eligible) for item in view.items}
    assert shown == {held.id: (None, False), behind.id: (None, False), free.id: (now, True)}


async def test_one_round_of_codes_follows_the_other_however_many_there_were(world: World) -> None:
    await world.create()
    for number in range(8):
        link = await world.engine.next_link()  # no pause, no clock moved
        link.report(QrShown(f"code {number}", 60.0))
        link.break_off(Disconnect.QR_EXPIRED, 408)
    await world.state_becomes(State.NEEDS_QR)


async def test_a_link_that_was_being_opened_during_an_unlink_does_not_bring_the_account_back(tmp_path: Path) -> None:
    # The unlinking waits in vain for a link to log out by.
    world = await World(tmp_path).with_settings(delete_patience=0.2).start()
    link = await world.linked()
    link.break_off(Disconnect.CONNECTION_CLOSED, 428)
    await world.state_becomes(State.DISCONNECTED)
    gate, open_at_once = asyncio.Event(), world.engine.open

    async def open_slowly(spec: LinkSpec, vault: KeyVault) -> FakeLink:
        opened = await open_at_once(spec, vault)
        opened.open_up()
        await gate.wait()
        return opened

    world.engine.open = open_slowly  # type: ignore[method-assign]
    await world.pass_time(1.5)
    late = await world.engine.next_link()
    await world.database.write(lambda tx: instances.ask_unlink(tx, SHOP))
    world.wakeup.notify(INSTANCES)
    await world.state_becomes(State.NEEDS_QR)
    world.engine.open = open_at_once  # type: ignore[method-assign]
    gate.set()
    await world.engine.next_link()
    assert late.logged_out and late.closed
    await world.rest()
    found = await world.instance()
    assert found is not None and found.observed.state is State.NEEDS_QR
    await world.stop()
