"""Each way in which a link ends, end to end (contract B.6, 0.12): state, webhooks in order, links, session material."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.engine import ME, FakeLink
from tests.integration.runtime.world import SHOP, World

from wahub.domain.instance import Disconnect, Stage, State
from wahub.domain.lifecycle import Ask, IncidentKind
from wahub.domain.outbox import ItemState
from wahub.domain.times import iso
from wahub.ports.engine import Paired, Probe, QrShown

READY = ("ready", {"status": "ready"})


def lost(reason: Disconnect) -> tuple[str, dict[str, Any]]:
    return ("disconnected", {"reason": str(reason)})


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    running = await World(tmp_path).calm().start()
    yield running
    await running.stop()


@dataclass(frozen=True)
class Row:
    """A ready instance whose link ends with `code`. `opens` says how many links there are two minutes later."""

    reason: Disconnect
    code: int | None
    state: State
    """At once."""
    events: list[str]
    """After `ready`, within two minutes, while new links do nothing by themselves."""
    opens: int
    keeps: bool = True
    incidents: tuple[IncidentKind, ...] = ()


ROWS = [
    Row(Disconnect.LOGGED_OUT, 401, State.NEEDS_QR, ["disconnected", "qr"], 2, False, (IncidentKind.LOGGED_OUT,)),
    Row(Disconnect.BANNED, 403, State.RESTRICTED, ["restricted", "disconnected"], 1, True, (IncidentKind.BANNED,)),
    Row(Disconnect.TIMED_OUT, 408, State.DISCONNECTED, ["disconnected"], 3),
    Row(
        Disconnect.MULTIDEVICE_MISMATCH,
        411,
        State.NEEDS_QR,
        ["disconnected"],
        1,
        True,
        (IncidentKind.MULTIDEVICE_MISMATCH,),
    ),
    Row(Disconnect.CONNECTION_CLOSED, 428, State.DISCONNECTED, ["disconnected"], 3),
    Row(Disconnect.REPLACED, 440, State.PAUSED, ["disconnected"], 2),
    Row(Disconnect.BAD_SESSION, 500, State.DISCONNECTED, ["disconnected"], 3),
    Row(Disconnect.UNAVAILABLE, 503, State.DISCONNECTED, ["disconnected"], 3),
    Row(Disconnect.RESTART_REQUIRED, 515, State.CONNECTING, ["disconnected"], 3),
    Row(Disconnect.UNKNOWN, 418, State.DISCONNECTED, ["disconnected"], 3),
    Row(Disconnect.ENGINE_DIED, None, State.DISCONNECTED, ["disconnected"], 3),
    Row(Disconnect.TERM_EXPIRED, None, State.CONNECTING, ["disconnected"], 3),
    Row(
        Disconnect.CREDENTIALS_UNREADABLE,
        None,
        State.ERROR,
        ["disconnected"],
        1,
        True,
        (IncidentKind.CREDENTIALS_UNREADABLE,),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=[str(row.reason) for row in ROWS])
async def test_a_ready_link_that_ends(world: World, row: Row) -> None:
    link = await world.linked()
    other = await world.linked("other")
    # New links show a code if they wait for a scan, and else get no answer to their login.
    world.engine_does(_shows_a_code if row.reason is Disconnect.LOGGED_OUT else _never_ready)
    link.break_off(row.reason, row.code)
    await world.rest()
    assert await world.state_of() is row.state
    await world.pass_time(119)
    assert [name for name, _ in await world.posted()] == ["ready", *row.events]
    assert len(world.engine.of(SHOP)) == row.opens
    assert await world.keeps_session() is row.keeps
    assert await world.incidents() == list(row.incidents)
    assert (await world.posted(other.spec.instance), await world.state_of(other.spec.instance)) == (
        [READY],
        State.READY,
    )


def _never_ready(link: FakeLink) -> None:
    link.probes = [Probe(logged_in=False, answered=True)]


def _shows_a_code(link: FakeLink) -> None:
    link.report(QrShown("code", 60.0))


RETURNING = [
    Disconnect.TIMED_OUT,
    Disconnect.CONNECTION_CLOSED,
    Disconnect.BAD_SESSION,
    Disconnect.UNAVAILABLE,
    Disconnect.UNKNOWN,
    Disconnect.ENGINE_DIED,
]


@pytest.mark.parametrize("reason", RETURNING)
async def test_the_link_comes_back_after_a_second(world: World, reason: Disconnect) -> None:
    link = await world.linked()
    world.engine_does(lambda opened: opened.open_up())
    link.break_off(reason, 1)
    await world.pass_time(0.9)
    assert len(world.engine.links) == 1
    await world.pass_time(0.2)
    assert await world.state_of() is State.READY
    assert await world.posted() == [READY, lost(reason), READY]
    assert len(world.engine.links) == 2
    seen = await world.instance()
    assert seen is not None
    assert (seen.observed.last_disconnect_reason, seen.observed.restart_attempts) == (str(reason), 0)
    assert seen.observed.last_error is None


async def test_the_ladder_has_five_fast_attempts_one_incident_and_no_end(world: World) -> None:
    link = await world.linked()
    opened = list[float]()

    def refused(new: FakeLink) -> None:
        opened.append(world.clock.monotonic())
        new.break_off(Disconnect.UNAVAILABLE, 503)

    world.engine_does(refused)
    link.break_off(Disconnect.UNAVAILABLE, 503)
    began = world.clock.monotonic()
    await world.pass_time(31.5)
    assert await world.incidents() == [IncidentKind.MAX_RECONNECT_ATTEMPTS]
    assert await world.state_of() is State.DISCONNECTED
    await world.pass_time(30 + 60 + 120 + 240 + 300 * 3)
    waits = [round(later - earlier, 3) for earlier, later in zip([began, *opened], opened, strict=False)]
    assert waits == [1, 2, 4, 8, 16, 30, 60, 120, 240, 300, 300, 300]
    assert await world.posted() == [READY, lost(Disconnect.UNAVAILABLE)], "one webhook for one loss"
    assert await world.incidents() == [IncidentKind.MAX_RECONNECT_ATTEMPTS]
    accepted = await world.send("while it is away")
    world.engine_does(lambda new: new.open_up())
    await world.pass_time(300)
    assert await world.state_of() is State.READY
    assert (await world.entry(accepted.id)).state is ItemState.SENT
    assert await world.keeps_session()


async def test_a_bad_session_is_purged_when_the_ladder_is_used_up(world: World) -> None:
    link = await world.linked()
    world.engine_does(lambda new: new.break_off(Disconnect.BAD_SESSION, 500, Stage.REACHED))
    link.break_off(Disconnect.BAD_SESSION, 500)
    await world.pass_time(15.5)
    assert (await world.state_of(), await world.keeps_session()) == (State.DISCONNECTED, True)
    world.engine_does(lambda new: None)
    world.engine.links[-1].break_off(Disconnect.BAD_SESSION, 500)
    await world.pass_time(16)
    assert await world.state_of() is State.CONNECTING
    world.engine.links[-1].break_off(Disconnect.BAD_SESSION, 500)
    await world.rest()
    assert (await world.state_of(), await world.keeps_session()) == (State.NEEDS_QR, False)
    assert len(world.engine.links) == 7, "one fresh pairing"
    names = [name for name, _ in await world.posted()]
    assert names == ["ready", "disconnected", "auth_failure", "disconnected"]
    assert IncidentKind.BAD_SESSION in await world.incidents()


async def test_a_server_that_fails_by_itself_ends_no_session(world: World) -> None:
    """A 500 that is no refusal of the login says nothing about the credentials, however often it comes."""
    link = await world.linked()
    world.engine_does(lambda new: new.break_off(Disconnect.BAD_SESSION, 500, Stage.REACHED, ""))
    link.break_off(Disconnect.BAD_SESSION, 500)
    await world.pass_time(3_600)
    assert (await world.state_of(), await world.keeps_session()) == (State.DISCONNECTED, True)
    world.engine_does(lambda new: new.open_up())
    await world.pass_time(400)
    assert await world.state_of() is State.READY


async def test_a_login_that_is_refused_for_good_is_a_failed_authentication(world: World) -> None:
    link = await world.linked()
    link.break_off(Disconnect.CONNECTION_CLOSED, 428)
    await world.pass_time(1.1)
    world.engine.links[-1].break_off(Disconnect.LOGGED_OUT, 401)
    await world.rest()
    assert (await world.state_of(), await world.keeps_session()) == (State.NEEDS_QR, False)
    assert await world.posted() == [
        READY,
        lost(Disconnect.CONNECTION_CLOSED),
        ("auth_failure", {"message": "login_refused"}),
        lost(Disconnect.LOGGED_OUT),
    ]
    assert (await world.record()).last_auth_failure_at == world.clock.now()


async def test_a_ban_says_until_when_and_nothing_is_tried_before_someone_asks(world: World) -> None:
    link = await world.linked()
    link.break_off(Disconnect.BANNED, 403)
    await world.rest()
    until = world.clock.now() + 72 * 3_600
    [_, (name, data), second] = await world.posted()
    assert (name, data["restrictedUntil"], data["reason"]) == ("restricted", iso(until), "banned")
    assert second == lost(Disconnect.BANNED)
    waiting = await world.send("later")
    await world.pass_time(3_600)
    await world.die()
    await world.start()
    await world.pass_time(3_600)
    assert (await world.state_of(), len(world.engine.links)) == (State.RESTRICTED, 0)
    world.clock.advance(72 * 3_600)
    await world.rest()
    assert (await world.state_of(), len(world.engine.links)) == (State.RESTRICTED, 0), "nor when it is over"
    assert (await world.entry(waiting.id)).state in (ItemState.QUEUED, ItemState.EXPIRED)
    world.engine_does(lambda new: new.open_up())
    await world.ask(Ask.SOFT_RESTART)
    await world.pass_time(1)
    assert await world.state_of() is State.READY
    assert (await world.record()).restricted_until is None


async def test_the_first_replacement_is_followed_by_one_attempt_the_second_waits_for_someone(world: World) -> None:
    link = await world.linked()
    link.break_off(Disconnect.REPLACED, 440)
    await world.pass_time(59.9)
    assert (await world.state_of(), len(world.engine.links)) == (State.PAUSED, 1)
    await world.pass_time(0.2)
    second = world.engine.links[-1]
    second.open_up()
    await world.rest()
    assert await world.state_of() is State.READY
    second.break_off(Disconnect.REPLACED, 440)
    await world.pass_time(7_200)
    assert (await world.state_of(), len(world.engine.links)) == (State.PAUSED, 2)
    assert await world.incidents() == [IncidentKind.REPLACED]
    await world.die()
    await world.start()
    await world.pass_time(7_200)
    assert (await world.state_of(), len(world.engine.links)) == (State.PAUSED, 0), "also after a restart of the gateway"
    world.engine_does(lambda new: new.open_up())
    await world.ask(Ask.SOFT_RESTART)
    await world.pass_time(1)
    assert await world.state_of() is State.READY
    assert await world.posted() == [READY, lost(Disconnect.REPLACED)] * 2 + [READY]
    assert await world.keeps_session()


async def test_a_restart_that_whatsapp_requires_is_no_failure(world: World) -> None:
    link = await world.linked()
    world.engine_does(lambda new: new.open_up())
    link.break_off(Disconnect.RESTART_REQUIRED, 515)
    await world.rest()
    assert await world.state_of() is State.READY, "no clock moved"
    assert await world.posted() == [READY, READY]
    seen = await world.instance()
    assert seen is not None and seen.observed.last_disconnect_reason is None


async def test_required_restarts_in_a_loop_come_every_two_seconds_and_then_by_the_ladder(world: World) -> None:
    link = await world.linked()
    opened = list[float]()

    def again(new: FakeLink) -> None:
        opened.append(world.clock.monotonic())
        new.break_off(Disconnect.RESTART_REQUIRED, 515)

    began = world.clock.monotonic()
    world.engine_does(again)
    link.break_off(Disconnect.RESTART_REQUIRED, 515)
    await world.pass_time(100)
    waits = [round(later - earlier, 3) for earlier, later in zip([began, *opened], opened, strict=False)]
    assert waits[:10] == [0, 1, 2, 2, 2, 1, 2, 4, 8, 16]
    assert await world.state_of() is State.DISCONNECTED


async def test_after_a_scan_the_next_link_comes_at_once(world: World) -> None:
    await world.create()
    link = await world.engine.next_link()
    link.report(QrShown("code", 60.0))
    await world.state_becomes(State.NEEDS_QR)
    link.report(Paired(ME))
    await world.state_becomes(State.CONNECTING)
    link.break_off(Disconnect.RESTART_REQUIRED, 515)
    (await world.engine.next_link()).open_up()
    ready = await world.state_becomes(State.READY)
    assert [name for name, _ in await world.posted()] == ["authenticated", "ready"], (
        "a code that was used is posted no more"
    )
    assert ready.observed.qr is None
    assert await world.incidents() == []


async def test_a_mismatch_is_not_tried_again_before_someone_asks_and_then_with_new_credentials(world: World) -> None:
    link = await world.linked()
    link.break_off(Disconnect.MULTIDEVICE_MISMATCH, 411)
    await world.pass_time(250)
    assert (await world.state_of(), len(world.engine.links)) == (State.NEEDS_QR, 1)
    assert await world.keeps_session()
    await world.pass_time(100)
    assert (await world.state_of(), len(world.engine.links)) == (State.FAILED_QR_TIMEOUT, 1)
    await world.ask(Ask.RETRY)
    await world.pass_time(1)
    assert (len(world.engine.links), await world.keeps_session()) == (2, False), "cleared before the next pairing"


async def test_opened_twice_is_told_once(world: World) -> None:
    link = await world.linked()
    before = await world.instance()
    await world.pass_time(10)
    link.open_up()
    await world.rest()
    after = await world.instance()
    assert before is not None and after is not None
    assert await world.posted() == [READY]
    assert (after.observed.state_at, after.observed.ready_at) == (before.observed.state_at, before.observed.ready_at)
    assert after.observed.last_event_at == world.clock.now()


async def test_a_code_in_ready_is_spurious(world: World) -> None:
    link = await world.linked()
    link.report(QrShown("code", 60.0))
    await world.rest()
    seen = await world.instance()
    assert seen is not None and (seen.observed.state, seen.observed.qr) == (State.READY, None)
    assert await world.posted() == [READY]


async def test_a_code_on_a_link_that_was_paired_a_moment_ago_is_spurious(world: World) -> None:
    await world.create()
    link = await world.engine.next_link()
    link.report(QrShown("code", 60.0), Paired(ME), QrShown("another", 60.0))
    await world.rest()
    seen = await world.instance()
    assert seen is not None and (seen.observed.state, seen.observed.qr) == (State.CONNECTING, None)
    assert [name for name, _ in await world.posted()] == ["authenticated"]


async def test_the_fifth_loss_in_ten_minutes_pauses_for_more_than_an_hour(world: World) -> None:
    link = await world.linked()
    world.engine_does(lambda new: new.open_up())
    for _ in range(4):
        link.break_off(Disconnect.CONNECTION_CLOSED, 428)
        await world.pass_time(60)
        assert await world.state_of() is State.READY
        link = world.engine.links[-1]
    link.break_off(Disconnect.CONNECTION_CLOSED, 428)
    await world.rest()
    assert await world.state_of() is State.PAUSED
    assert await world.incidents() == [IncidentKind.RESTART_LIMIT]
    assert (await world.posted())[-1] == lost(Disconnect.CONNECTION_CLOSED)
    half = 600 + 3_600 + 15
    assert (await world.record()).paused_until == world.clock.now() + half
    await world.pass_time(half - 1)
    assert len(world.engine.links) == 5
    await world.pass_time(2)
    assert (await world.state_of(), len(world.engine.links)) == (State.READY, 6)


@pytest.mark.parametrize("killed", [False, True])
async def test_a_pause_outlives_the_gateway(world: World, killed: bool) -> None:
    link = await world.linked()
    link.break_off(Disconnect.REPLACED, 440)
    await world.pass_time(20)
    await (world.die() if killed else world.stop())
    world.clock.advance(10)
    world.engine_does(lambda new: new.open_up())
    await world.start()
    await world.pass_time(29)
    assert (await world.state_of(), len(world.engine.links)) == (State.PAUSED, 0)
    await world.pass_time(1.5)
    assert await world.state_of() is State.READY


async def test_a_pause_that_ended_while_the_gateway_was_down_is_over(world: World) -> None:
    link = await world.linked()
    link.break_off(Disconnect.REPLACED, 440)
    await world.rest()
    await world.die()
    world.clock.advance(3_600)
    world.engine_does(lambda new: new.open_up())
    await world.start()
    await world.pass_time(1)
    assert await world.state_of() is State.READY


async def test_nothing_comes_back_by_itself_with_auto_reconnect_off(tmp_path: Path) -> None:
    world = World(tmp_path).calm()
    quiet = replace(world.settings.reconnect, auto=False)
    await world.with_settings(reconnect=quiet).start()
    link = await world.linked()
    link.break_off(Disconnect.TIMED_OUT, 408)
    await world.pass_time(7_200)
    assert (await world.state_of(), len(world.engine.links)) == (State.DISCONNECTED, 1)
    world.engine_does(lambda new: new.open_up())
    await world.ask(Ask.SOFT_RESTART)
    await world.pass_time(1)
    assert await world.state_of() is State.READY
    await world.stop()


async def test_the_old_rule_asks_for_a_scan_and_may_simply_come_back(tmp_path: Path) -> None:
    world = World(tmp_path).calm()
    old = replace(world.settings.reconnect, exhausted_needs_qr=True)
    await world.with_settings(reconnect=old).start()
    link = await world.linked()
    world.engine_does(lambda new: new.break_off(Disconnect.UNAVAILABLE, 503))
    link.break_off(Disconnect.UNAVAILABLE, 503)
    await world.pass_time(31.5)
    assert (await world.state_of(), await world.keeps_session()) == (State.NEEDS_QR, True)
    world.engine_does(lambda new: new.open_up())
    await world.pass_time(5)
    assert await world.state_of() is State.READY
    await world.stop()


async def test_a_cooldown_comes_before_the_ladder_if_the_operator_wants_one(tmp_path: Path) -> None:
    world = World(tmp_path).calm()
    slow = replace(world.settings.reconnect, cooldown=300.0)
    await world.with_settings(reconnect=slow).start()
    link = await world.linked()
    world.engine_does(lambda new: new.open_up())
    link.break_off(Disconnect.TIMED_OUT, 408)
    await world.pass_time(299)
    assert (await world.state_of(), len(world.engine.links)) == (State.PAUSED, 1)
    await world.pass_time(2)
    assert await world.state_of() is State.READY
    await world.stop()
