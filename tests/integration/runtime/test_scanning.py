"""An instance that waits for a scan: rounds of codes, recoveries, the end of the wait, codes to type (contract B.7)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.fakes.engine import ME, FakeLink
from tests.integration.runtime.world import World

from wahub.domain.errors import InvalidFieldError, PairingRefusedError
from wahub.domain.instance import Disconnect, State
from wahub.domain.lifecycle import Ask, IncidentKind
from wahub.ports.engine import Paired, PairingCode, QrShown

PHONE = "201234567890"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    running = await World(tmp_path).calm().start()
    yield running
    await running.stop()


class Rounds:
    """Links that show three codes, 20 s each, and end then, as WhatsApp does."""

    def __init__(self, world: World, codes: int = 3) -> None:
        self.world = world
        self.codes = codes
        self.shown: list[str] = []
        self.opened: list[float] = []
        self._left: dict[int, int] = {}

    def __call__(self, link: FakeLink) -> None:
        self.opened.append(round(self.world.clock.monotonic() - 1_000.0, 3))
        self._left[id(link)] = self.codes
        self.next_code(link)

    def next_code(self, link: FakeLink) -> None:
        if link.closed:
            return
        if not self._left[id(link)]:
            link.break_off(Disconnect.QR_EXPIRED, 408)
            return
        self._left[id(link)] -= 1
        self.shown.append(f"code-{len(self.shown)}")
        link.report(QrShown(self.shown[-1], 20.0))

    async def pass_time(self, seconds: float) -> None:
        """Every 20 s the codes change."""
        for _ in range(round(seconds / 20)):
            await self.world.pass_time(20)
            for link in self.world.engine.links:
                self.next_code(link)
            await self.world.rest()


async def seen_code(world: World) -> str | None:
    found = await world.instance()
    assert found is not None
    return found.observed.qr


async def test_codes_follow_each_other_over_rounds_until_the_wait_is_too_old(world: World) -> None:
    rounds = Rounds(world)
    world.engine_does(rounds)
    await world.create()
    await world.rest()
    for _ in range(14):
        assert (await world.state_of(), await seen_code(world)) == (State.NEEDS_QR, rounds.shown[-1])
        await rounds.pass_time(20)
    assert len(rounds.opened) >= 4, "a round follows the next at once"
    assert len(await world.news("qr")) >= 1
    await rounds.pass_time(200)
    seen = await world.instance()
    assert seen is not None and (seen.observed.state, seen.observed.qr) == (State.FAILED_QR_TIMEOUT, None)
    assert seen.observed.last_error is not None and "/retry" in seen.observed.last_error
    assert await world.incidents() == [IncidentKind.QR_TIMEOUT]
    opened = len(rounds.opened)
    await rounds.pass_time(600)
    assert len(rounds.opened) == opened
    assert all(link.closed for link in world.engine.links)
    await world.ask(Ask.RETRY)
    await world.rest()
    assert (await world.state_of(), await seen_code(world)) == (State.NEEDS_QR, rounds.shown[-1])
    assert (await world.record()).qr_recovery_attempts == 0


async def test_the_recoveries_when_no_code_comes_at_all(world: World) -> None:
    first = await scan_wanted(world)
    began = world.clock.monotonic()
    opened = list[float]()
    world.engine_does(lambda _link: opened.append(world.clock.monotonic() - began))
    await world.pass_time(1_000)
    assert opened == [10, 40, 100]
    assert await world.state_of() is State.FAILED_QR_TIMEOUT
    epochs = [link.spec.epoch - first.spec.epoch for link in world.engine.links[-3:]]
    assert epochs == [0, 1, 2], "the first recovery is a new link, the others come under a new term"
    assert await world.incidents() == [IncidentKind.LOGGED_OUT, IncidentKind.QR_TIMEOUT]


async def test_the_recoveries_when_each_link_shows_one_code_and_hangs(world: World) -> None:
    opened = list[float]()

    def opens(link: FakeLink) -> None:
        opened.append(world.clock.monotonic())
        link.report(QrShown(f"code-{len(opened)}", 20.0))

    world.engine_does(opens)
    await world.create()
    await world.pass_time(1_000)
    waits = [later - earlier for earlier, later in itertools.pairwise(opened)]
    assert len(waits) == 3 and all(90 < wait <= 101 for wait in waits), waits
    assert await world.state_of() is State.FAILED_QR_TIMEOUT
    assert await world.incidents() == [IncidentKind.QR_TIMEOUT]


async def scan_wanted(world: World) -> FakeLink:
    """An account that was never linked and shows no code yet, in `needs_qr` from now on."""
    link = await world.linked()
    link.break_off(Disconnect.LOGGED_OUT, 401)
    await world.rest()
    assert await world.state_of() is State.NEEDS_QR
    return world.engine.links[-1]


async def test_after_a_logout_there_is_one_fresh_round_and_then_it_waits_for_someone(world: World) -> None:
    link = await world.linked()
    rounds = Rounds(world)
    world.engine_does(rounds)
    link.break_off(Disconnect.LOGGED_OUT, 401)
    await world.rest()
    assert (await world.state_of(), len(world.engine.links)) == (State.NEEDS_QR, 2)
    assert not await world.keeps_session()
    await rounds.pass_time(60)
    assert await world.state_of() is State.FAILED_QR_TIMEOUT
    await rounds.pass_time(1_200)
    assert len(world.engine.links) == 2
    assert [name for name, _ in await world.posted()][:2] == ["ready", "disconnected"]
    assert await world.incidents() == [IncidentKind.LOGGED_OUT, IncidentKind.QR_TIMEOUT]
    await world.ask(Ask.RETRY)
    await rounds.pass_time(120)
    assert await world.state_of() is State.NEEDS_QR, "a person is there: rounds follow each other again"
    assert await world.news("ready_timeout") == []


async def test_a_retry_hours_later_meets_no_old_watchdog(world: World) -> None:
    link = await world.linked()
    rounds = Rounds(world)
    world.engine_does(rounds)
    link.break_off(Disconnect.LOGGED_OUT, 401)
    await rounds.pass_time(60)
    assert await world.state_of() is State.FAILED_QR_TIMEOUT
    await world.pass_time(3 * 3_600)
    world.engine_does(lambda _link: None)
    await world.ask(Ask.RETRY)
    await world.pass_time(30)
    assert await world.state_of() is State.CONNECTING
    assert await world.news("ready_timeout") == []


async def test_a_scan_at_the_moment_of_giving_up_is_found_by_the_retry(world: World) -> None:
    await scan_wanted(world)
    await world.pass_time(150)
    last = world.engine.links[-1]
    closing = last.close

    async def scanned() -> None:
        last.report(Paired(ME))
        await closing()

    last.close = scanned  # type: ignore[method-assign]
    await world.pass_time(30)
    assert await world.state_of() is State.FAILED_QR_TIMEOUT
    seen = await world.instance()
    assert seen is not None and seen.observed.linked
    count = len(world.engine.links)
    await world.pass_time(600)
    assert len(world.engine.links) == count
    world.engine_does(lambda new: new.open_up())
    await world.ask(Ask.RETRY)
    await world.rest()
    assert await world.state_of() is State.READY


async def test_a_pairing_that_breaks_keeps_its_code_and_goes_on(world: World) -> None:
    await world.create()
    link = await world.engine.next_link()
    link.report(QrShown("code", 60.0))
    await world.state_becomes(State.NEEDS_QR)
    link.break_off(Disconnect.CONNECTION_CLOSED, 428)
    await world.rest()
    assert (await world.state_of(), await seen_code(world)) == (State.NEEDS_QR, "code")
    await world.pass_time(1.9)
    assert len(world.engine.links) == 1
    await world.pass_time(0.2)
    world.engine.links[-1].report(QrShown("another", 60.0))
    await world.rest()
    assert await seen_code(world) == "another"
    assert await world.news("disconnected") == []


async def test_another_proxy_during_the_wait_leaves_the_wait_as_it_is(world: World) -> None:
    await world.create()
    link = await world.engine.next_link()
    link.report(QrShown("code", 60.0))
    await world.state_becomes(State.NEEDS_QR)
    since = (await world.record()).needs_qr_since
    await world.pass_time(30)
    await world.reconfigure(proxy="http://127.0.0.1:9")
    await world.rest()
    assert (link.closed, len(world.engine.links)) == (True, 2)
    assert (await world.state_of(), (await world.record()).needs_qr_since) == (State.NEEDS_QR, since)


# --- codes to type ----------------------------------------------------------------------------------------------------


async def test_a_code_to_type_is_given_when_the_link_is_ready_for_it(world: World) -> None:
    await world.create()
    link = await world.engine.next_link()
    await world.ask_code(PHONE)
    await world.rest()
    assert link.codes_asked == []
    link.report(QrShown("code", 60.0))
    await world.rest()
    record = await world.record()
    assert (link.codes_asked, record.pairing_code, record.pairing_phone) == ([PHONE], "ABCD1234", PHONE)
    assert record.pairing_code_expires_at == world.clock.now() + 150
    assert (record.asked, record.pairing_error) == (None, None)
    link.report(Paired(ME))
    await world.rest()
    record = await world.record()
    assert (record.pairing_code, record.pairing_phone) == (None, None)


async def test_a_code_to_type_while_a_picture_is_shown_is_given_at_once(world: World) -> None:
    await world.create()
    link = await world.engine.next_link()
    link.report(QrShown("code", 60.0))
    await world.state_becomes(State.NEEDS_QR)
    await world.ask_code(PHONE)
    await world.rest()
    assert (await world.record()).pairing_code == "ABCD1234"
    await world.pass_time(1)
    await world.ask_code("209876543210")
    await world.rest()
    assert link.codes_asked == [PHONE, "209876543210"]


async def test_a_number_that_is_refused_is_told_and_may_be_asked_again(world: World) -> None:
    await world.create()
    link = await world.engine.next_link()
    link.code = PairingRefusedError("WhatsApp refuses this number")
    link.report(QrShown("code", 60.0))
    await world.state_becomes(State.NEEDS_QR)
    await world.ask_code(PHONE)
    await world.rest()
    record = await world.record()
    assert (record.asked, record.pairing_code, record.pairing_error) == (None, None, "WhatsApp refuses this number")
    link.code = PairingCode("WXYZ9876", 150.0)
    await world.pass_time(1)
    await world.ask_code(PHONE)
    await world.rest()
    record = await world.record()
    assert (record.pairing_code, record.pairing_error) == ("WXYZ9876", None)


async def test_a_code_that_would_die_while_it_is_typed_is_asked_of_a_fresh_link(world: World) -> None:
    await world.create()
    link = await world.engine.next_link()
    link.code = PairingCode("DYING111", 59.0)
    link.report(QrShown("code", 20.0))
    await world.state_becomes(State.NEEDS_QR)
    world.engine_does(lambda new: new.report(QrShown("fresh", 60.0)))
    await world.ask_code(PHONE)
    await world.rest()
    assert (len(world.engine.links), link.closed) == (2, True)
    assert (await world.record()).pairing_code == "ABCD1234"
    assert world.engine.links[-1].codes_asked == [PHONE]


async def test_a_code_is_renewed_once_only(world: World) -> None:
    def short(new: FakeLink) -> None:
        new.code = PairingCode("SHORT111", 30.0)
        new.report(QrShown("code", 20.0))

    world.engine_does(short)
    await world.create()
    await world.state_becomes(State.NEEDS_QR)
    await world.ask_code(PHONE)
    await world.rest()
    assert len(world.engine.links) == 2
    assert (await world.record()).pairing_code == "SHORT111", "better than none"


async def test_a_code_is_given_after_all_rounds_are_over(world: World) -> None:
    link = await world.linked()
    link.break_off(Disconnect.MULTIDEVICE_MISMATCH, 411)
    await world.pass_time(100)
    assert (await world.state_of(), len(world.engine.links)) == (State.NEEDS_QR, 1)
    world.engine_does(lambda new: new.report(QrShown("code", 60.0)))
    await world.ask_code(PHONE)
    await world.rest()
    assert (len(world.engine.links), await world.keeps_session()) == (2, False)
    record = await world.record()
    assert (record.pairing_code, record.credentials_dead, record.needs_qr_since) == (
        "ABCD1234",
        False,
        world.clock.now(),
    )


async def test_a_wish_for_a_code_outlives_the_gateway(world: World) -> None:
    await world.create()
    await world.engine.next_link()
    await world.ask_code(PHONE)
    await world.rest()
    await world.die()
    world.engine_does(lambda new: new.report(QrShown("code", 60.0)))
    await world.start()
    await world.pass_time(5)
    assert (await world.record()).pairing_code == "ABCD1234"


async def test_no_code_for_an_account_that_is_linked_or_given_up(world: World) -> None:
    link = await world.linked()
    with pytest.raises(InvalidFieldError, match="linked already"):
        await world.ask_code(PHONE)
    link.break_off(Disconnect.CREDENTIALS_UNREADABLE)
    await world.state_becomes(State.ERROR)
    with pytest.raises(InvalidFieldError, match="/retry first"):
        await world.ask_code(PHONE)


async def test_a_code_at_the_moment_of_giving_up_is_nobodys(world: World) -> None:
    await scan_wanted(world)
    await world.pass_time(150)
    last = world.engine.links[-1]
    closing, told = last.close, await world.news("disconnected")

    async def shown() -> None:
        last.report(QrShown("too late", 20.0))
        await closing()

    last.close = shown  # type: ignore[method-assign]
    with capture_logs() as logs:
        await world.pass_time(300)
    assert (await world.state_of(), await seen_code(world)) == (State.FAILED_QR_TIMEOUT, None)
    assert await world.news("disconnected") == told
    assert world.engine.links[-1] is last
    assert [line["event"] for line in logs if line["log_level"] == "error"] == []
