"""The life of a link: pairing, loss, replacement, logout, leases, deletion, restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.engine import ME
from tests.integration.runtime.world import SHOP, World, eventually

from wahub.domain.errors import StaleLeaseError
from wahub.domain.ids import WorkerId
from wahub.domain.instance import Disconnect, State
from wahub.domain.lease import Lease
from wahub.domain.session import CREDS, KeyChanges
from wahub.ports.engine import Paired, QrShown
from wahub.ports.store import Tx
from wahub.ports.wakeup import INSTANCES
from wahub.services import instance as instances


async def test_a_new_instance_is_paired_by_qr_and_becomes_ready_at_once(world: World) -> None:
    await world.create()
    link = await world.engine.next_link()
    link.report(QrShown("https://example.invalid/#ref-1", 60.0))
    shown = await world.state_becomes(State.NEEDS_QR)
    assert shown.observed.qr == "https://example.invalid/#ref-1"
    link.report(Paired(ME))
    link.break_off(Disconnect.RESTART_REQUIRED, 515)
    second = await world.engine.next_link()  # no pause, no clock moved
    second.open_up()
    ready = await world.state_becomes(State.READY)
    assert ready.observed.qr is None
    assert ready.observed.phone == ME.phone
    assert (await world.events())[-1:] != []
    assert world.clock.next_wake is not None


async def test_a_lost_link_comes_back_by_the_ladder_and_never_asks_for_a_qr(world: World) -> None:
    link = await world.linked()
    waits = []
    for _ in range(7):
        link.break_off(Disconnect.CONNECTION_CLOSED, 428)
        await world.state_becomes(State.DISCONNECTED)
        lost_at, before = world.clock.now(), len(world.engine.links)
        while len(world.engine.links) == before:
            await world.pass_time(0.5)
        waits.append(world.clock.now() - lost_at)
        link = await world.engine.next_link()
    assert waits == pytest.approx([1, 2, 4, 8, 16, 30, 60], abs=0.01)
    found = await world.instance()
    assert found is not None and found.observed.state is not State.NEEDS_QR


async def test_a_session_that_whatsapp_ended_is_purged_and_offers_a_new_code(world: World) -> None:
    link = await world.linked()
    await link.vault.write(KeyChanges({CREDS: b"{}"}))
    link.break_off(Disconnect.LOGGED_OUT, 401)
    fresh = await world.engine.next_link()
    await world.state_becomes(State.NEEDS_QR)
    assert await fresh.vault.read([CREDS]) == {}
    fresh.report(QrShown("code", 60.0))

    async def shown() -> bool:
        found = await world.instance()
        return found is not None and found.observed.qr == "code"

    await eventually(shown, "a new code")


async def test_a_replaced_session_is_left_alone_for_a_minute(world: World) -> None:
    link = await world.linked()
    link.break_off(Disconnect.REPLACED, 440)
    await world.state_becomes(State.PAUSED)
    await world.pass_time(59.0)
    assert len(world.engine.links) == 1
    await world.pass_time(1.5)
    assert len(world.engine.links) == 2


async def test_a_term_that_ran_out_goes_on_under_the_next_epoch_and_the_old_one_writes_nothing(world: World) -> None:
    link = await world.linked()
    link.break_off(Disconnect.TERM_EXPIRED)
    second = await world.engine.next_link()
    assert second.spec.epoch == link.spec.epoch + 1
    with pytest.raises(StaleLeaseError):
        await link.vault.write(KeyChanges({CREDS: b"stale"}))
    assert await second.vault.read([CREDS]) == {CREDS: b"{}"}


async def test_a_takeover_by_another_worker_closes_the_link_and_is_not_fought(world: World) -> None:
    link = await world.linked()
    world.clock.advance(world.settings.lease_ttl - 0.5)  # the renewal loop has not run yet at this instant
    thief = WorkerId("thief")

    async def stolen() -> bool:
        taken = await world.database.write(lambda tx: tx.leases.claim(SHOP, thief, 60.0))
        if taken is None:
            world.clock.jump(30.0)  # the wall clock says that the term is over; our worker has not noticed
        return taken is not None

    await eventually(stolen, "the lease taken over")
    with pytest.raises(StaleLeaseError):
        await link.vault.write(KeyChanges({CREDS: b"stale"}))
    await world.pass_time(world.settings.lease_renew_every)
    assert link.closed
    assert len(world.engine.links) == 1


async def test_terms_are_renewed_and_links_are_told(world: World) -> None:
    link = await world.linked()
    before = len(link.extended)
    world.clock.advance(world.settings.lease_renew_every + 0.1)

    async def extended() -> bool:
        return len(link.extended) > before

    await eventually(extended, "a longer term")
    assert link.extended[-1] > link.extended[0]


async def test_delete_unlinks_at_the_server_and_leaves_no_rows(world: World) -> None:
    link = await world.linked()
    await link.vault.write(KeyChanges({CREDS: b"{}"}))
    assert await world.database.write(lambda tx: instances.ask_delete(tx, SHOP))
    world.wakeup.notify(INSTANCES)

    async def gone() -> bool:
        return await world.instance() is None

    await eventually(gone, "the instance gone")
    assert link.logged_out
    assert await world.database.read(lambda tx: tx.sessions.read(SHOP, [CREDS])) == {}


async def test_a_delete_never_takes_long_in_one_piece(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes meanwhile waits for a part at most. The last part removes the instance itself."""
    monkeypatch.setattr(instances, "SHED_AT_ONCE", 2)
    parts: list[int] = []

    def shed(tx: Tx, lease: Lease) -> int:
        parts.append(real(tx, lease))
        return parts[-1]

    real = instances.shed
    monkeypatch.setattr(instances, "shed", shed)
    await world.linked()
    for number in range(4):
        await world.send(f"number {number}")
    await world.rest()
    logged = len(await world.database.read(lambda tx: tx.events.after(SHOP, 0, 100)))
    await world.database.write(lambda tx: instances.ask_delete(tx, SHOP))
    world.wakeup.notify(INSTANCES)

    async def gone() -> bool:
        return await world.instance() is None

    await eventually(gone, "the instance gone")
    assert sum(parts) >= logged + 4
    assert parts[-1] == 0 and max(parts) == 2


async def test_after_a_kill_every_linked_instance_comes_back_without_a_code(tmp_path: Path) -> None:
    world = await World(tmp_path).start()
    for name in ("one", "two", "three"):
        await world.linked(name)
    await world.die()
    await world.start()
    for _ in range(3):
        (await world.engine.next_link()).open_up()
    await world.pass_time(0.1)
    assert world.restored[-1] == (3, 3)
    await world.stop()


async def test_the_engine_being_down_is_survived(world: World) -> None:
    link = await world.linked()
    world.engine.down = True
    link.break_off(Disconnect.ENGINE_DIED)
    await world.state_becomes(State.DISCONNECTED)
    world.engine.down = False
    await world.pass_time(1.1)
    assert len(world.engine.links) == 2
