"""The timers of contract B.4 by the moved clock: getting ready, connecting, restarts, requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.engine import ME, FakeLink
from tests.integration.runtime.world import SHOP, World

from wahub.domain.errors import InvalidFieldError
from wahub.domain.instance import Disconnect, EngineOptions, Stage, State
from wahub.domain.lifecycle import Ask, IncidentKind
from wahub.domain.outbox import ItemState
from wahub.domain.times import iso
from wahub.ports.engine import Paired, Probe, QrShown
from wahub.services import lifecycle


def hangs(link: FakeLink) -> None:
    """Gets through, and is never logged in."""
    link.probes = [Probe(logged_in=False, answered=True)]


def says_nothing(link: FakeLink) -> None:
    """Neither shows a code nor ends."""


def refused(link: FakeLink) -> None:
    link.probes = [Probe(logged_in=False, answered=True)]
    link.break_off(Disconnect.UNAVAILABLE, 503)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    running = await World(tmp_path).calm().start()
    yield running
    await running.stop()


async def scanned(world: World) -> FakeLink:
    """An account that was scanned a moment ago; the link that is to make it ready hangs."""
    await world.create()
    link = await world.engine.next_link()
    link.report(QrShown("code", 60.0))
    await world.state_becomes(State.NEEDS_QR)
    link.report(Paired(ME))
    await world.state_becomes(State.CONNECTING)
    world.engine_does(hangs)
    link.break_off(Disconnect.RESTART_REQUIRED, 515)
    return await world.engine.next_link()


# --- setting up -------------------------------------------------------------------------------------------------------


async def test_an_instance_that_shows_no_code_is_tried_twice(world: World) -> None:
    await world.create()
    await world.pass_time(119.9)
    assert len(world.engine.links) == 1
    await world.pass_time(2.2)
    assert (len(world.engine.links), world.engine.links[0].closed) == (2, True)
    await world.pass_time(119.8)
    assert await world.state_of() is State.CONNECTING
    await world.pass_time(0.3)
    seen = await world.instance()
    assert seen is not None
    assert (seen.observed.state, seen.observed.last_error) == (State.ERROR, "Failed to initialize after 2 attempts")
    assert await world.incidents() == [IncidentKind.INIT_FAILED]
    assert all(link.closed for link in world.engine.links)
    await world.pass_time(3_600)
    assert len(world.engine.links) == 2
    await world.ask(Ask.RETRY)
    await world.pass_time(1)
    assert (await world.state_of(), len(world.engine.links)) == (State.CONNECTING, 3)
    world.engine.links[-1].report(QrShown("code", 60.0))
    await world.state_becomes(State.NEEDS_QR)


async def test_links_that_break_before_the_first_code_do_not_end_the_setting_up_early(world: World) -> None:
    world.engine_does(lambda link: link.lose_network())
    await world.create()
    await world.pass_time(100)
    assert await world.state_of() is State.CONNECTING
    world.engine_does(lambda link: link.report(QrShown("code", 60.0)))
    await world.pass_time(30)
    assert await world.state_of() is State.NEEDS_QR


async def test_a_code_counts_as_success(world: World) -> None:
    await world.create()
    link = await world.engine.next_link()
    await world.pass_time(100)
    link.report(QrShown("code", 160.0))
    await world.pass_time(59)
    assert (await world.state_of(), len(world.engine.links)) == (State.NEEDS_QR, 1)


# --- ready ------------------------------------------------------------------------------------------------------------


async def test_an_account_that_does_not_get_ready_pauses_and_gets_one_soft_restart(world: World) -> None:
    await scanned(world)
    paired_at = world.clock.now()
    await world.pass_time(599)
    assert await world.state_of() is not State.PAUSED
    before = await world.state_of()
    await world.pass_time(2)
    assert await world.state_of() is State.PAUSED
    links = len(world.engine.links)
    assert all(link.closed for link in world.engine.links)
    [data] = await world.news("ready_timeout")
    assert (data["authenticatedAt"], data["state"]) == (iso(paired_at), str(before))
    assert 600_000 <= data["elapsedMs"] <= 601_000
    assert (await world.incidents())[-1] is IncidentKind.READY_TIMEOUT
    await world.pass_time(597)
    assert len(world.engine.links) == links
    await world.pass_time(3)
    assert len(world.engine.links) == links + 1
    assert (await world.record()).restart_count == 1


async def test_there_is_one_ready_timeout_for_each_authentication(tmp_path: Path) -> None:
    world = World(tmp_path).calm()
    # No other timer ends the wait, so that a second one would ring.
    patient = replace(world.settings.timers, soft_restart=1e6, connecting_watchdog=1e6)
    await world.with_settings(timers=patient).start()
    await scanned(world)
    await world.pass_time(2 * 3_600)
    assert await world.state_of() in (State.CONNECTING, State.DISCONNECTED), "it is still waited for"
    assert len(await world.news("ready_timeout")) == 1
    assert (await world.record()).restart_count == 1
    await world.stop()


async def test_the_soft_restart_after_the_pause_makes_it_ready(world: World) -> None:
    await scanned(world)
    await world.pass_time(601)
    world.engine_does(lambda link: link.open_up())
    await world.pass_time(600)
    assert await world.state_of() is State.READY
    record = await world.record()
    assert (record.ready_watchdog_at, record.ready_timed_out, record.ready_source) == (None, False, "event")


async def test_another_scan_gets_a_watchdog_of_its_own(world: World) -> None:
    await scanned(world)
    await world.pass_time(601)
    world.engine_does(lambda link: link.open_up())
    await world.pass_time(600)
    world.engine_does(says_nothing)
    world.engine.links[-1].break_off(Disconnect.LOGGED_OUT, 401)
    await world.rest()
    fresh = world.engine.links[-1]
    fresh.report(QrShown("code", 60.0), Paired(ME))
    world.engine_does(hangs)
    fresh.break_off(Disconnect.RESTART_REQUIRED, 515)
    await world.pass_time(602)
    assert len(await world.news("ready_timeout")) == 2


async def test_the_poll_finds_a_link_that_forgot_to_say_that_it_is_open(world: World) -> None:
    link = await scanned(world)
    await world.pass_time(4.9)
    assert link.probed == 0
    await world.pass_time(0.2)
    assert (link.probed, await world.state_of()) == (1, State.CONNECTING)
    assert (await world.record()).last_ready_poll_error == "not logged in yet"
    link.probes = [Probe(logged_in=True, answered=False), Probe(logged_in=True, answered=True)]
    await world.pass_time(15)
    assert (link.probed, await world.state_of()) == (2, State.CONNECTING)
    assert (await world.record()).last_ready_poll_error == "no answer"
    await world.pass_time(15)
    record = await world.record()
    assert await world.state_of() is State.READY
    assert (record.ready_source, record.ready_poll_attempts, record.last_ready_poll_error) == ("poll", 3, None)
    assert len(await world.news("ready")) == 1
    sent = await world.send("hello")
    assert await world.wire(link, 1) == ["hello"]
    await world.item_becomes(sent.id, ItemState.SENT)


async def test_a_login_that_hangs_is_given_up_after_a_minute_and_the_ladder_goes_on(world: World) -> None:
    link = await world.linked()
    world.engine_does(hangs)
    link.break_off(Disconnect.CONNECTION_CLOSED, 428)
    await world.pass_time(1 + 59.9)
    assert len(world.engine.links) == 2
    await world.pass_time(0.2)
    seen = await world.instance()
    assert seen is not None
    assert (seen.observed.state, seen.observed.last_error) == (State.DISCONNECTED, "Connection timeout")
    assert world.engine.links[-1].closed
    world.engine_does(lambda new: new.open_up())
    await world.pass_time(2)
    assert await world.state_of() is State.READY
    assert len(await world.news("disconnected")) == 1


# --- restarts ---------------------------------------------------------------------------------------------------------


async def test_a_soft_restart_opens_another_link_under_the_same_term(world: World) -> None:
    link = await world.linked()
    world.engine_does(lambda new: new.open_up())
    await world.ask(Ask.SOFT_RESTART)
    await world.pass_time(1)
    second = world.engine.links[-1]
    assert (await world.state_of(), len(world.engine.links), link.closed) == (State.READY, 2, True)
    assert second.spec.epoch == link.spec.epoch
    record = await world.record()
    assert (record.restart_count, record.asked, record.connecting_watchdog_at) == (1, None, None)
    assert [name for name, _ in await world.posted()] == ["ready", "ready"]
    assert await world.keeps_session()


async def test_a_hard_restart_opens_it_under_a_new_term(world: World) -> None:
    link = await world.linked()
    world.engine_does(lambda new: new.open_up())
    await world.ask(Ask.HARD_RESTART)
    await world.pass_time(1)
    assert (await world.state_of(), len(world.engine.links)) == (State.READY, 2)
    assert world.engine.links[-1].spec.epoch == link.spec.epoch + 1


async def test_a_restart_waits_for_the_item_on_the_wire(world: World) -> None:
    link = await world.linked()
    link.hold = asyncio.Event()
    sent = await world.send("hello")
    await world.wire(link, 1)
    world.engine_does(lambda new: new.open_up())
    await world.ask(Ask.SOFT_RESTART)
    await world.rest()
    assert len(world.engine.links) == 1
    link.hold.set()
    await world.item_becomes(sent.id, ItemState.SENT)
    await world.state_becomes(State.READY)
    await world.rest()
    assert len(world.engine.links) == 2
    assert [len(each.sent) for each in world.engine.links] == [1, 0]


async def test_a_restart_climbs_from_soft_to_hard_to_error(world: World) -> None:
    link = await world.linked()
    world.engine_does(hangs)
    await world.ask(Ask.SOFT_RESTART)
    await world.pass_time(179)
    assert {new.spec.epoch for new in world.engine.links} == {link.spec.epoch}
    await world.pass_time(1 + 4.5)
    hard = [new for new in world.engine.links if new.spec.epoch == link.spec.epoch + 1]
    assert len(hard) == 1, "hard, four seconds later"
    await world.pass_time(170)
    assert await world.state_of() is not State.ERROR
    await world.pass_time(12)
    seen = await world.instance()
    assert seen is not None and seen.observed.state is State.ERROR
    assert seen.observed.last_error == "not ready after a soft and a hard restart"
    assert IncidentKind.RESTART_FAILED in await world.incidents()
    assert await world.keeps_session(), "restarts touch no session"
    count = len(world.engine.links)
    await world.pass_time(3_600)
    assert len(world.engine.links) == count
    accepted = await world.send("queued all the same")
    world.engine_does(lambda new: new.open_up())
    await world.ask(Ask.RETRY)
    await world.pass_time(1)
    assert await world.state_of() is State.READY
    await world.item_becomes(accepted.id, ItemState.SENT)


async def test_a_restart_that_meets_a_dead_network_leaves_it_to_the_ladder(world: World) -> None:
    await world.linked()
    world.engine_does(lambda new: new.lose_network())
    await world.ask(Ask.SOFT_RESTART)
    await world.pass_time(4 * 3_600)
    assert await world.state_of() is State.DISCONNECTED
    assert IncidentKind.RESTART_FAILED not in await world.incidents()
    world.engine_does(lambda new: new.open_up())
    await world.pass_time(400)
    assert await world.state_of() is State.READY


async def test_the_connecting_watchdog_restarts_twice_and_then_gives_up(tmp_path: Path) -> None:
    world = World(tmp_path).calm()
    # The restarts themselves are given all the time they want: here the watchdog is what rings.
    patient = replace(world.settings.timers, soft_restart=1e6, hard_restart=1e6, connect=1e6)
    await world.with_settings(timers=patient).start()
    await world.linked()
    world.engine_does(hangs)
    await world.ask(Ask.SOFT_RESTART)
    counts = []
    for _ in range(3):
        await world.pass_time(599.5)
        counts.append(((await world.record()).connecting_watchdog_restarts, len(world.engine.links)))
        await world.pass_time(0.5)
    await world.rest()
    assert counts == [(0, 2), (1, 3), (2, 4)]
    assert await world.state_of() is State.ERROR
    assert (await world.incidents())[-1] is IncidentKind.RESTART_FAILED
    await world.stop()


async def test_the_connecting_watchdog_counts_nothing_while_the_network_is_dead(tmp_path: Path) -> None:
    world = World(tmp_path).calm()
    patient = replace(world.settings.timers, soft_restart=1e6, hard_restart=1e6)
    await world.with_settings(timers=patient).start()
    await world.linked()
    world.engine_does(lambda new: new.lose_network())
    await world.ask(Ask.SOFT_RESTART)
    await world.pass_time(3 * 3_600)
    assert await world.state_of() is State.DISCONNECTED
    assert (await world.record()).connecting_watchdog_restarts == 0
    world.engine_does(lambda new: new.open_up())
    await world.pass_time(400)
    assert await world.state_of() is State.READY
    await world.stop()


# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
async def test_a_restart_is_possible_while_it_is_disconnected(world: World, hard: bool) -> None:
    link = await world.linked()
    world.engine_does(refused)
    link.break_off(Disconnect.UNAVAILABLE, 503)
    await world.pass_time(200)
    assert await world.state_of() is State.DISCONNECTED
    world.engine_does(lambda new: new.open_up())
    await world.ask(Ask.HARD_RESTART if hard else Ask.SOFT_RESTART)
    await world.rest()
    assert await world.state_of() is State.READY, "at once"


async def test_a_restart_is_possible_while_it_connects(world: World) -> None:
    link = await world.linked()
    world.engine_does(hangs)
    link.break_off(Disconnect.UNAVAILABLE, 503)
    await world.pass_time(2)
    assert await world.state_of() is State.CONNECTING
    world.engine_does(lambda new: new.open_up())
    await world.ask(Ask.SOFT_RESTART)
    await world.pass_time(0.5)
    assert (await world.state_of(), world.engine.links[1].closed) == (State.READY, True)


async def test_a_restart_ends_a_pause(world: World) -> None:
    link = await world.linked()
    link.break_off(Disconnect.REPLACED, 440)
    await world.state_becomes(State.PAUSED)
    world.engine_does(lambda new: new.open_up())
    await world.ask(Ask.SOFT_RESTART)
    await world.rest()
    assert await world.state_of() is State.READY


async def test_a_restart_of_an_error_is_a_retry(world: World) -> None:
    link = await world.linked()
    link.break_off(Disconnect.CREDENTIALS_UNREADABLE)
    await world.state_becomes(State.ERROR)
    world.engine_does(lambda new: new.open_up())
    await world.ask(Ask.SOFT_RESTART)
    await world.pass_time(1)
    assert await world.state_of() is State.READY


async def test_what_may_not_be_restarted_says_what_to_do_instead(world: World) -> None:
    link = await world.linked()
    with pytest.raises(InvalidFieldError, match="error or failed_qr_timeout only"):
        await world.ask(Ask.RETRY)
    link.break_off(Disconnect.BANNED, 403)
    await world.state_becomes(State.RESTRICTED)
    with pytest.raises(InvalidFieldError, match="restricted by WhatsApp until"):
        await world.ask(Ask.SOFT_RESTART)


async def test_waiting_for_a_scan_is_not_ended_by_a_restart(world: World) -> None:
    await world.create()
    (await world.engine.next_link()).report(QrShown("code", 60.0))
    await world.state_becomes(State.NEEDS_QR)
    with pytest.raises(InvalidFieldError, match="waits for a QR scan"):
        await world.ask(Ask.HARD_RESTART)


@pytest.mark.parametrize("what", [Ask.SOFT_RESTART, Ask.HARD_RESTART])
async def test_a_request_outlives_the_gateway(world: World, what: Ask) -> None:
    await world.linked()
    await world.die()
    await world.while_down(lambda tx: lifecycle.ask(tx, SHOP, what, world.clock.now()))
    world.engine_does(lambda new: new.open_up())
    await world.start()
    await world.pass_time(world.settings.poll_every + 5)
    record = await world.record()
    assert (record.asked, record.restart_count) == (None, 1)
    assert await world.state_of() is State.READY


async def test_a_retry_outlives_the_gateway(world: World) -> None:
    link = await world.linked()
    link.break_off(Disconnect.CREDENTIALS_UNREADABLE)
    await world.state_becomes(State.ERROR)
    await world.die()
    await world.while_down(lambda tx: lifecycle.ask(tx, SHOP, Ask.RETRY, world.clock.now()))
    world.engine_does(lambda new: new.open_up())
    await world.start()
    await world.pass_time(5)
    assert (await world.state_of(), (await world.record()).asked) == (State.READY, None)


async def test_another_proxy_means_another_link(world: World) -> None:
    link = await world.linked()
    world.engine_does(lambda new: new.open_up())
    await world.reconfigure(proxy="socks5://127.0.0.1:9")
    await world.rest()
    second = world.engine.links[-1]
    assert (link.closed, len(world.engine.links), second.spec.proxy) == (True, 2, "socks5://127.0.0.1:9")
    assert await world.state_of() is State.READY
    await world.reconfigure(name="another name")
    await world.pass_time(10)
    assert len(world.engine.links) == 2, "nothing that concerns the link"
    assert [name for name, _ in await world.posted()] == ["ready", "ready"]


async def test_another_proxy_is_tried_at_once_when_the_old_one_is_dead(world: World) -> None:
    """Those behind the same dead proxy wait for one probe; the one that was moved must not wait with them."""
    proxy, names = "http://127.0.0.1:9", ["one", "two", "three", "shop"]
    for name in names:
        link = await world.linked(name)
        world.engine_does(lambda new: new.open_up())
        await world.reconfigure(wanted=link.spec.instance, proxy=proxy)
        await world.rest()
        world.engine_does(says_nothing)
        await world.engine.next_link()

    def dead_proxy(new: FakeLink) -> None:
        if new.spec.proxy == proxy:
            new.lose_network()
        else:
            new.open_up()

    world.engine_does(dead_proxy)
    for link in world.engine.links:
        link.lose_network()
    await world.pass_time(1_000)
    assert await world.state_of() is State.DISCONNECTED
    await world.reconfigure(proxy=None)
    await world.pass_time(1)
    assert await world.state_of() is State.READY
    assert world.engine.of(SHOP)[-1].spec.proxy is None


async def test_other_engine_settings_mean_another_link(world: World) -> None:
    await world.linked()
    world.engine_does(lambda new: new.open_up())
    await world.reconfigure(engine=EngineOptions(mark_online=True))
    await world.rest()
    assert [link.spec.options.mark_online for link in world.engine.links] == [None, True]


async def test_a_link_that_breaks_at_the_moment_of_the_pause_does_not_end_the_pause(world: World) -> None:
    await scanned(world)
    await world.pass_time(590)
    last = world.engine.links[-1]
    closing = last.close

    async def quicker() -> None:
        last.break_off(Disconnect.CONNECTION_CLOSED, 428, Stage.REACHED)
        await closing()

    last.close = quicker  # type: ignore[method-assign]
    await world.pass_time(12)
    assert await world.state_of() is State.PAUSED
    await world.pass_time(500)
    assert await world.state_of() is State.PAUSED


async def test_another_proxy_while_the_link_is_being_opened_is_not_missed(world: World) -> None:
    link = await world.linked()
    proxy = "http://127.0.0.1:9"
    changing = list[asyncio.Task[None]]()

    def changes_meanwhile(new: FakeLink) -> None:
        world.engine_does(lambda later: later.open_up())
        runner = world.supervisor._runners[SHOP]
        assert runner.sight.instance is not None and runner.serving is None
        changing.append(asyncio.ensure_future(world.reconfigure(proxy=proxy)))
        runner.reconfigured(replace(runner.sight.instance.config, proxy=proxy))

    world.engine_does(changes_meanwhile)
    link.break_off(Disconnect.RESTART_REQUIRED, 515)
    await world.pass_time(5)
    await asyncio.gather(*changing)
    assert [each.spec.proxy for each in world.engine.links] == [None, None, proxy]
    assert await world.state_of() is State.READY


async def test_what_was_given_up_for_want_of_a_scan_is_not_restarted_but_retried(world: World) -> None:
    link = await world.linked()
    world.engine_does(lambda new: new.break_off(Disconnect.QR_EXPIRED))
    link.break_off(Disconnect.LOGGED_OUT, 401)
    await world.state_becomes(State.FAILED_QR_TIMEOUT)
    with pytest.raises(InvalidFieldError, match="/retry"):
        await world.ask(Ask.SOFT_RESTART)
    world.engine_does(says_nothing)
    await world.ask(Ask.RETRY)
    await world.state_becomes(State.CONNECTING)
