"""Events that are never taken, endpoints that are down for long or gone, and what brings them back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import structlog
from tests.fakes.receiver import Got, receiver
from tests.integration.webhooks.conftest import PATIENCE, Bench

from wahub.domain.endpoint import PAUSE_AFTER_FAILURES, Held, Secrets, Trouble
from wahub.domain.instance import Instance
from wahub.domain.lifecycle import IncidentKind
from wahub.domain.retry import Backoff
from wahub.domain.webhook import RETRY_HORIZON, Delivery, hub_signature
from wahub.ports.poster import PostResult
from wahub.runtime.dispatcher import Dispatcher
from wahub.services import webhook


def ids(got: list[Got]) -> list[str]:
    return [one.event_id for one in got]


async def trouble(bench: Bench, shop: Instance) -> Trouble | None:
    url = shop.config.webhook_url or ""
    return await bench.database.read(lambda tx: tx.endpoints.trouble(shop.id, url))


async def later(bench: Bench, dispatcher: Dispatcher, seconds: float) -> None:
    bench.clock.advance(seconds)
    await dispatcher.idle()


@pytest.mark.parametrize(
    "codes", [(), (200,), (500,), (200, 200, 500), (500, 200), (200, 500, 200), (200, 500, 200, 500)]
)
async def test_of_results_written_together_the_last_ones_count(bench: Bench, codes: tuple[int, ...]) -> None:
    shop, other = await bench.instance("shop", "http://x/1"), await bench.instance("other", "http://x/1")
    for at in range(2 + len(codes)):
        await bench.emit(shop if at else other, lane=f"chat{at}")
    of_other, first, *waiting = await bench.pending()
    policy, now = Backoff(1.0, 10.0), bench.clock.now()

    def attempt(delivery: Delivery, code: int) -> webhook.Attempt:
        return webhook.Attempt(delivery, PostResult(code), now, 0.5)

    before = [attempt(first, 410), attempt(of_other, 410)]
    await bench.database.write(lambda tx: webhook.note_results(tx, before, policy))
    together = [attempt(delivery, code) for delivery, code in zip(waiting, codes, strict=True)]
    noted = await bench.database.write(lambda tx: webhook.note_results(tx, together, policy))
    assert [one.delivery.event_id for one in noted] == [one.event_id for one in waiting]
    assert [one.recovered for one in noted] == [
        codes[: at + 1].count(200) == 1 and code == 200 for at, code in enumerate(codes)
    ]
    known = await trouble(bench, shop)
    refused = codes[::-1].index(200) if 200 in codes else len(codes) + 1
    assert (0 if known is None else known.failures) == refused
    of_others = await trouble(bench, other)
    assert of_others is not None and of_others.held is Held.DISABLED


# --- stepping aside ---------------------------------------------------------------------------------------------------


async def test_an_event_that_is_never_taken_steps_aside_and_its_lane_goes_on(bench: Bench) -> None:
    async with receiver(answer=lambda got: 500 if got.json["data"].get("bad") else 200) as there:
        shop = await bench.instance("shop", there.url)
        bad = await bench.emit(shop, lane="a", data={"bad": True})
        after = [await bench.emit(shop, lane="a") for _ in range(3)]
        dispatcher = bench.start()
        await dispatcher.idle()
        for attempt in range(2, 6):
            # Something of another lane is taken meanwhile: the endpoint is not down.
            other = await bench.emit(shop, lane="b")
            await dispatcher.idle()
            assert not set(after) & set(ids(there.got)), "its lane waits"
            await later(bench, dispatcher, 2.0 ** (attempt - 2) + 0.01)
            assert ids(there.got).count(bad) == attempt
            assert other in ids(there.got)
        assert [one for one in ids(there.got) if one in after] == after
        numbers = [int(got.headers["x-wa-hub-sequence"]) for got in there.got if got.event_id in after]
        assert numbers == [2, 3, 4], "the gap shows"
        await later(bench, dispatcher, 17)
        assert ids(there.got)[-1] == bad, "it goes on alone"
        there.answer = lambda _: 200
        await later(bench, dispatcher, 33)
        assert ids(there.got)[-1] == bad
        assert await bench.pending() == []


async def test_nothing_steps_aside_while_the_endpoint_takes_nothing(bench: Bench) -> None:
    async with receiver(answer=lambda _: 500) as there:
        shop = await bench.instance("shop", there.url)
        first = await bench.emit(shop, lane="a")
        second = await bench.emit(shop, lane="a")
        dispatcher = bench.start()
        await dispatcher.idle()
        for attempt in range(7):
            await later(bench, dispatcher, 2.0**attempt + 0.01)
        assert ids(there.got) == [first] * 8
        there.answer = lambda _: 200
        await later(bench, dispatcher, 130)
        assert ids(there.got)[8:] == [first, second]


async def test_a_success_after_an_outage_lets_all_retries_go_at_once(bench: Bench) -> None:
    async with receiver(answer=lambda _: 500) as there:
        shop = await bench.instance("shop", there.url)
        for lane in range(5):
            await bench.emit(shop, lane=f"chat{lane}")
        dispatcher = bench.start()
        await dispatcher.idle()
        for _ in range(6):
            await later(bench, dispatcher, 100)
        there.got.clear()
        there.answer = lambda _: 200
        await bench.emit(shop, lane="new")
        await dispatcher.idle()
        assert len(there.got) == 6, "no retry waits for its own time"
        assert await bench.pending() == []


# --- paused -----------------------------------------------------------------------------------------------------------


async def down_for_long(bench: Bench, shop: Instance, dispatcher: Dispatcher) -> list[str]:
    """Fail until the endpoint is paused; returns what waits, in order of creation."""
    waiting = [await bench.emit(shop, lane=f"chat{n % 10}", hint=n == 19) for n in range(20)]
    for _ in range(12):
        await later(bench, dispatcher, 100)
        known = await trouble(bench, shop)
        assert known is not None
        if known.held is not None:
            return waiting
    raise AssertionError("never paused")


@pytest.mark.parametrize("answer", [500, 404, 302])
async def test_an_endpoint_that_fails_for_long_is_paused_and_probed_and_loses_nothing(
    bench: Bench, answer: int
) -> None:
    async with receiver(answer=lambda _: answer) as there:
        shop = await bench.instance("shop", there.url)
        dispatcher = bench.start()
        with structlog.testing.capture_logs() as logs:
            waiting = await down_for_long(bench, shop, dispatcher)
            for _ in range(3):
                await later(bench, dispatcher, 1)
        assert [line["event"] for line in logs].count("webhook endpoint paused") == 1
        incidents = await bench.database.read(lambda tx: tx.lifecycles.incidents(shop.id, 10))
        assert [found.kind for found in incidents] == [IncidentKind.WEBHOOK_PAUSED]
        assert there.url not in repr(logs) + repr(incidents)
        tried = len(there.got)
        assert tried >= PAUSE_AFTER_FAILURES
        waiting += [await bench.emit(shop, lane="new"), await bench.emit(shop, "ready")]
        await later(bench, dispatcher, 20)
        assert len(there.got) == tried, "what comes meanwhile waits"
        for wait in (12, 62, 122, 242):
            before = len(there.got)
            await later(bench, dispatcher, wait)
            assert len(there.got) == before + 1, "one probe at a time"
        there.got.clear()
        there.answer = lambda _: 200
        with structlog.testing.capture_logs() as logs:
            await later(bench, dispatcher, 500)
        assert "webhook endpoint is back" in [line["event"] for line in logs]
        assert sorted(ids(there.got)) == sorted(waiting), "each once"
        for lane in range(10):
            mine = [one for one in waiting[:20] if int(one.partition("-")[2]) % 10 == (lane + 1) % 10]
            assert [one for one in ids(there.got) if one in mine] == mine
        assert await trouble(bench, shop) is None
        assert await bench.pending() == []


async def test_a_probe_comes_by_itself(bench: Bench) -> None:
    async with receiver(answer=lambda _: 500) as there:
        shop = await bench.instance("shop", there.url)
        dispatcher = bench.start()
        await down_for_long(bench, shop, dispatcher)
        there.answer = lambda _: 200
        there.got.clear()
        async with asyncio.timeout(PATIENCE):
            while not there.got:
                bench.clock.advance(await bench.clock.someone_sleeps())
                await asyncio.sleep(0.001)
        await there.wait_for(20)


async def test_what_waits_for_a_held_endpoint_too_long_becomes_a_dead_letter(bench: Bench) -> None:
    async with receiver(answer=lambda _: 410) as there:
        shop = await bench.instance("shop", there.url)
        first = await bench.emit(shop)
        second = await bench.emit(shop)
        dispatcher = bench.start()
        await dispatcher.idle()
        bury = lambda tx: tx.dead.bury_overdue(bench.clock.now(), "held")  # noqa: E731
        bench.clock.advance(RETRY_HORIZON - 1)
        assert await bench.database.write(bury) == 0
        bench.clock.advance(2)
        assert await bench.database.write(bury) == 2
        dead = await bench.database.read(lambda tx: tx.dead.list(shop.id, 10))
        assert {found.event_id: found.last_error for found in dead} == {first: "held", second: "held"}
        assert len(there.got) == 1


async def test_presence_that_waited_too_long_is_no_dead_letter(bench: Bench) -> None:
    async with receiver(answer=lambda _: 410) as there:
        shop = await bench.instance("shop", there.url, "*")
        await bench.emit(shop)
        await bench.start().idle()
        await bench.emit(shop, "presence", ttl=60.0)
        late = await bench.emit(shop, "presence", ttl=120.0)
        bench.clock.advance(61)
        assert await bench.database.write(lambda tx: tx.dead.bury_overdue(bench.clock.now(), "held")) == 0
        assert await bench.database.read(lambda tx: tx.dead.list(shop.id, 10)) == []
        left = await bench.database.read(lambda tx: tx.events.since(0, 10))
        assert [event.event_id for event in left if event.event == "presence"] == [late]


# --- gone -------------------------------------------------------------------------------------------------------------


async def test_gone_disables_the_endpoint_until_the_url_is_set_again(bench: Bench) -> None:
    async with receiver(answer=lambda _: 410) as there:
        shop = await bench.instance("shop", there.url)
        event_id = await bench.emit(shop)
        dispatcher = bench.start()
        with structlog.testing.capture_logs() as logs:
            await dispatcher.idle()
        assert "webhook endpoint disabled" in [line["event"] for line in logs]
        known = await trouble(bench, shop)
        assert known is not None
        assert known.held is Held.DISABLED
        later_id = await bench.emit(shop)
        await later(bench, dispatcher, 86_400)
        assert len(there.got) == 1
        assert await bench.database.read(lambda tx: tx.webhooks.next_attempt_at()) is None
        there.answer = lambda _: 200
        await bench.database.write(lambda tx: webhook.enable(tx, shop.id, there.url, bench.clock.now()))
        await dispatcher.idle()
        assert ids(there.got) == [event_id, event_id, later_id]


async def test_a_replay_enables_it_and_begins_to_count_anew(bench: Bench) -> None:
    async with receiver(answer=lambda got: 410 if len(there.got) == 1 else 200) as there:
        shop = await bench.instance("shop", there.url)
        event_id = await bench.emit(shop)
        dispatcher = bench.start()
        await dispatcher.idle()
        bench.clock.advance(RETRY_HORIZON + 1)
        await bench.database.write(lambda tx: tx.dead.bury_overdue(bench.clock.now(), "held"))
        assert await bench.database.write(lambda tx: webhook.replay(tx, shop, None, bench.clock.now())) == 1
        await dispatcher.idle()
        assert ids(there.got) == [event_id, event_id]
        assert [got.headers["x-wa-hub-attempt"] for got in there.got] == ["1", "1"]
        assert await trouble(bench, shop) is None


async def test_trouble_of_an_instance_that_is_deleted_meanwhile_leaves_nothing(bench: Bench) -> None:
    async with receiver(hold=asyncio.Event(), answer=lambda _: 500) as there:
        shop = await bench.instance("shop", there.url)
        await bench.emit(shop)
        dispatcher = bench.start()
        await there.wait_for(1)
        await bench.database.write(lambda tx: tx.instances.delete(shop.id))
        there.hold.set()
        with structlog.testing.capture_logs() as logs:
            await dispatcher.idle()
        assert "webhook result not saved" not in [line["event"] for line in logs]
        assert await trouble(bench, shop) is None


# --- secrets, tests, presence -----------------------------------------------------------------------------------------


async def test_an_instance_signs_with_its_own_secret_from_the_next_attempt(bench: Bench) -> None:
    bench.settings = replace(bench.settings, secret="common-secret")
    answers = iter([500, 200, 200])
    async with receiver(answer=lambda _: next(answers)) as there:
        shop, other = await bench.instance("shop", there.url), await bench.instance("other", there.url)
        await bench.emit(shop)
        dispatcher = bench.start()
        await dispatcher.idle()
        await bench.database.write(lambda tx: webhook.set_secret(tx, shop.id, "own-secret", bench.clock.now(), 60.0))
        await later(bench, dispatcher, 2)
        await bench.emit(other)
        await dispatcher.idle()
        keys = (b"common-secret", b"own-secret", b"common-secret")
        for got, key in zip(there.got, keys, strict=True):
            assert got.headers["x-wa-hub-signature"] == hub_signature(key, got.body)
        counts = [len(got.headers["webhook-signature"].split(" ")) for got in there.got]
        assert counts == [1, 2, 1]


async def test_a_test_post_goes_out_at_once_and_leaves_nothing(bench: Bench) -> None:
    async with receiver(answer=lambda got: 503 if got.json["event"] == "webhook_test" else 200) as there:
        shop, mute = await bench.instance("shop", there.url), await bench.instance("mute", None)
        await bench.database.write(lambda tx: tx.endpoints.set_secrets(shop.id, Secrets("own-secret")))
        dispatcher = bench.start()
        tried = await dispatcher.test(shop, "test-1")
        assert tried is not None
        assert (tried.status, tried.error, tried.event_id) == (503, "HTTP 503", "test-1")
        [got] = there.got
        assert got.json["event"] == "webhook_test"
        assert got.headers["x-wa-hub-signature"] == hub_signature(b"own-secret", got.body)
        assert "x-wa-hub-sequence" not in got.headers
        assert await dispatcher.test(mute, "test-2") is None
        assert await trouble(bench, shop) is None
        assert await bench.database.read(lambda tx: tx.events.after(shop.id, 0, 10)) == []


async def test_presence_is_posted_once_and_gone(bench: Bench) -> None:
    async with receiver(answer=lambda _: 500) as there:
        shop = await bench.instance("shop", there.url, "*")
        await bench.emit(shop, "presence")
        dispatcher = bench.start()
        await dispatcher.idle()
        await later(bench, dispatcher, 10_000)
        assert len(there.got) == 1
        assert await bench.database.read(lambda tx: tx.events.since(0, 10)) == []


async def test_a_farewell_is_signed_with_the_own_secret(bench: Bench) -> None:
    async with receiver() as there:
        shop = await bench.instance("shop", there.url)
        await bench.database.write(lambda tx: tx.endpoints.set_secrets(shop.id, Secrets("own-secret")))
        await bench.start().farewell(shop, ())
        [got] = there.got
        assert got.headers["x-wa-hub-signature"] == hub_signature(b"own-secret", got.body)
