"""What the engine knows of a link's health, and what a probe does, with the real engine."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from tests.integration.engine.conftest import StartEngine, lent
from tests.integration.engine.network import Account, Box
from tests.integration.engine.waiting import until, until_asked

from wahub.adapters.engines.baileys import process
from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.ports.engine import CaughtUp, Closed, Inbound, Opened, Probe, SendAcked

PEER = "15550002222"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def talkative_engine(
    shared_engine: BaileysEngine, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[BaileysEngine]:
    """Signs of life come with the answers to pings; here they come all the time."""
    directory = tmp_path_factory.mktemp("talkative")
    settings = replace(shared_engine._settings, run_dir=directory / "run", spool_dir=directory / "spool")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(process, "_PING_SECONDS", 0.02)
        engine = BaileysEngine(settings)
        await engine.start()
        yield engine
        await engine.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def engine(box: Box, talkative_engine: BaileysEngine) -> AsyncIterator[BaileysEngine]:
    async with lent(talkative_engine) as engine:
        yield engine


@pytest.mark.usefixtures("talkative_engine")
async def test_silence_is_seen_while_pings_go_unanswered(
    start_engine: StartEngine, box: Box, away: Account, box_settings: BaileysSettings
) -> None:
    before = time.monotonic()
    # Lost after twice that: a login on a busy machine must not take so long.
    engine = await start_engine(box_settings, keep_alive=1.5)
    await away.login(engine)
    link = away.link
    assert before <= link.vitals.heard_at <= time.monotonic()
    first = link.vitals.heard_at
    await until(lambda: link.vitals.heard_at > first + 1)
    await until(lambda: link.vitals.unhandled_since is None)
    await box.inject(away.number, silent={})
    # What was answered before may be told as under way until the next sign of life.
    told = engine.vitals[0].n
    await until(lambda: engine.vitals[0].n > told + 2 and link.vitals.unanswered_since)
    heard, since = link.vitals.heard_at, link.vitals.unanswered_since
    assert first + 1 < heard < since <= time.monotonic()
    await away.watcher.first(Closed)
    assert (link.vitals.heard_at, link.vitals.unanswered_since) == (heard, since)


async def test_a_stall_of_ours_ends_no_link(
    start_engine: StartEngine, box: Box, away: Account, box_settings: BaileysSettings
) -> None:
    """The process did not run for longer than a server may be silent: it asks before it judges."""
    keep_alive = 2
    engine = await start_engine(box_settings, keep_alive=keep_alive)
    await away.login(engine)
    attempts = (await box.get("stats"))["attempts"]
    [pid] = engine.pids
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(2 * keep_alive + 1)
    os.kill(pid, signal.SIGCONT)
    awake = time.monotonic()
    await until(lambda: away.link.closed or away.link.vitals.heard_at > awake + keep_alive)
    assert not away.link.closed
    assert (await box.get("stats"))["attempts"] == attempts


async def test_times_are_never_later_than_the_truth(account: Account, box: Box) -> None:
    """Even right after the frame that they speak of."""
    await box.phone(PEER)
    for number in range(20):
        await box.post(f"phones/{PEER}/send", to=account.number, text=str(number))
        await account.watcher.first(Inbound, after=number)
        assert account.link.vitals.heard_at <= time.monotonic()


async def test_a_message_that_does_not_get_through_is_seen(account: Account, box: Box) -> None:
    await box.phone(PEER)
    await account.watcher.first(CaughtUp)
    # What has to be looked up for it is not found out; that its keys are written late would hold nothing up.
    account.vault.readable.clear()
    before = time.monotonic()
    await box.post(f"phones/{PEER}/send", to=account.number, text="stuck")
    await until(lambda: account.link.vitals.unhandled_since)
    since = account.link.vitals.unhandled_since
    assert before - 0.05 <= since <= time.monotonic()
    await box.post(f"phones/{PEER}/send", to=account.number, text="behind it")
    await until(lambda: account.vault.reads)
    # The same message; the clocks of two processes are compared anew with each sign of life.
    assert account.link.vitals.unhandled_since == pytest.approx(since, abs=0.05)
    account.vault.readable.set()
    await account.watcher.first(Inbound, after=1)
    await until(lambda: account.link.vitals.unhandled_since is None)


@pytest.mark.parametrize("fault", ["corrupt", "duplicate"])
async def test_what_cannot_be_read_and_what_comes_twice_is_finished(account: Account, box: Box, fault: str) -> None:
    await box.phone(PEER)
    await account.watcher.first(CaughtUp)
    await box.fault({"number": account.number, "stanza": "message"}, **{fault: {}})
    heard = account.link.vitals.heard_at
    await box.post(f"phones/{PEER}/send", to=account.number, text="odd")
    await box.post(f"phones/{PEER}/send", to=account.number, text="plain")
    await until(lambda: "plain" in [event.body["text"] for event in account.watcher.all(Inbound)])
    await until(lambda: account.link.vitals.heard_at > heard and account.link.vitals.unhandled_since is None)


async def test_other_kinds_of_messages_are_finished(account: Account, box: Box) -> None:
    """From the own phone, reactions, deletions: whatever comes, nothing stays unhandled."""
    await box.phone(PEER)
    await account.watcher.first(CaughtUp)
    sent = await box.post(f"phones/{PEER}/send", to=account.number, text="first")
    await box.post(f"phones/{PEER}/send", to=account.number, reaction={"messageId": sent["messageId"], "emoji": "x"})
    await box.post(f"phones/{PEER}/send", to=account.number, delete={"messageId": sent["messageId"]})
    await box.post(f"phones/{account.number}/send", to=PEER, text="own")
    await account.watcher.first(Inbound, after=3)
    await until(lambda: account.link.vitals.unhandled_since is None)


# --- probes -----------------------------------------------------------------------------------------------------------


async def _connect_with(
    account: Account, engine: BaileysEngine, box: Box, stanza: str, **do: dict[str, object]
) -> None:
    await account.settled()
    await account.link.close()
    await box.fault({"number": account.number, "stanza": stanza}, **do)
    await account.connect(engine)


async def _settled(account: Account, expected: Probe) -> None:
    """Probe until the login has come as far as it comes."""

    async def is_as_expected() -> bool:
        return await account.link.probe() == expected

    await until_asked(is_as_expected)


async def test_a_probe_opens_what_is_logged_in_and_answers(account: Account, engine: BaileysEngine, box: Box) -> None:
    """The first question of the login is lost: Baileys would wait a minute for its answer."""
    await box.phone(PEER)
    await _connect_with(account, engine, box, "iq", dropStanza={})

    async def has_struck() -> bool:
        return not (await box.get("faults"))["faults"]

    await until_asked(has_struck)
    assert account.watcher.all(Opened) == []
    assert await account.link.probe() == Probe(logged_in=True, answered=True)
    opened = await account.watcher.first(Opened)
    assert opened.polled
    assert opened.me.phone == account.number
    assert await account.send(PEER, "all the same") == SendAcked()
    await box.post(f"phones/{PEER}/send", to=account.number, text="and back")
    assert (await account.watcher.first(Inbound)).body["text"] == "and back"
    assert await account.link.probe() == Probe(True, True)
    assert len(account.watcher.all(Opened)) == 1


async def test_a_probe_of_a_link_that_is_open_says_so_and_no_more(account: Account) -> None:
    assert await account.link.probe() == Probe(True, True)
    assert [opened.polled for opened in account.watcher.all(Opened)] == [False]
    await account.link.close()
    assert await account.link.probe() == Probe(False, False)


async def test_a_probe_of_a_login_that_is_never_confirmed(account: Account, engine: BaileysEngine, box: Box) -> None:
    await _connect_with(account, engine, box, "login", neverReady={})
    await _settled(account, Probe(logged_in=False, answered=True))
    assert account.watcher.all(Opened) == []


async def test_a_probe_ends_with_its_link(account: Account, box: Box) -> None:
    await box.inject(account.number, silent={})
    probing = asyncio.create_task(account.link.probe())
    done, _ = await asyncio.wait([probing], timeout=0.3)
    assert not done
    await account.link.close()
    assert not (await probing).answered
