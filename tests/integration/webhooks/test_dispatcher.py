"""The dispatcher: order, retries, fairness, what a crash leaves. Real store, real HTTP, a clock moved by hand."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.fakes.receiver import Got, receiver
from tests.integration.webhooks.conftest import Bench, Counting

from wahub.domain.webhook import RETRY_HORIZON, DeliveryState, hub_signature
from wahub.ports.poster import PostResult


def ids(got: list[Got]) -> list[str]:
    return [one.event_id for one in got]


# --- what arrives -----------------------------------------------------------------------------------------------------


async def test_an_event_arrives_signed(bench: Bench) -> None:
    bench.settings = replace(bench.settings, secret="topsecret", auth_token="tok")
    bench.start()
    async with receiver() as there:
        shop = await bench.instance("shop", there.url)
        event_id = await bench.emit(shop, data={"message": {"body": "سلام 😀", "timestamp": 1}})
        [got] = await there.wait_for(1)
        await bench.dispatcher.idle()
    assert (
        got.body.decode()
        == '{"event":"message","instanceId":"shop","data":{"message":{"body":"سلام 😀","timestamp":1}}}'
    )
    assert got.headers["x-wa-hub-signature"] == hub_signature(b"topsecret", got.body)
    assert got.headers["x-wa-hub-event-id"] == got.headers["webhook-id"] == event_id
    assert got.headers["x-wa-hub-attempt"] == "1"
    assert got.headers["x-wa-hub-sequence"] == "1"
    assert got.headers["Authorization" if "Authorization" in got.headers else "authorization"] == "Bearer tok"
    signed = f"{event_id}.{got.headers['webhook-timestamp']}.".encode() + got.body
    expected = base64.b64encode(hmac.new(b"topsecret", signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{expected}"
    assert await bench.pending() == []


async def test_the_poll_finds_what_nobody_hinted_at(bench: Bench) -> None:
    async with receiver() as there:
        shop = await bench.instance("shop", there.url)
        dispatcher = bench.start()
        await dispatcher.idle()
        await bench.emit(shop, hint=False)
        assert there.got == []
        await bench.clock.someone_sleeps()
        bench.clock.advance(2.0)
        await there.wait_for(1)


async def test_two_hundred_events_in_forty_lanes_each_once_and_in_order(bench: Bench) -> None:
    async with receiver() as there:
        shops = [await bench.instance(f"shop{n}", there.url) for n in range(4)]
        for turn in range(5):
            for shop in shops:
                for lane in range(10):
                    await bench.emit(shop, lane=f"chat{lane}", data={"turn": turn, "lane": lane}, hint=turn == 4)
        await bench.start().idle()
    assert len(there.got) == len(set(ids(there.got))) == 200
    turns: dict[Any, list[int]] = {}
    for got in there.got:
        turns.setdefault((got.json["instanceId"], got.json["data"]["lane"]), []).append(got.json["data"]["turn"])
    assert len(turns) == 40
    assert all(seen == [0, 1, 2, 3, 4] for seen in turns.values())
    sequences = [int(got.headers["x-wa-hub-sequence"]) for got in there.got if got.json["instanceId"] == "shop0"]
    assert sorted(sequences) == list(range(1, 51))


# --- retries ----------------------------------------------------------------------------------------------------------


async def test_a_failing_receiver_gets_the_same_event_again_with_growing_waits(bench: Bench) -> None:
    answers = iter([500, 404, 503, 200])
    async with receiver(answer=lambda _: next(answers)) as there:
        shop = await bench.instance("shop", there.url)
        await bench.emit(shop)
        dispatcher = bench.start()
        await dispatcher.idle()
        for attempt, wait in enumerate((1.0, 2.0, 4.0), start=1):
            assert len(there.got) == attempt
            bench.clock.advance(wait - 0.01)
            await dispatcher.idle()
            assert len(there.got) == attempt
            bench.clock.advance(0.02)
            await dispatcher.idle()
        assert [got.headers["x-wa-hub-attempt"] for got in there.got] == ["1", "2", "3", "4"]
        assert set(ids(there.got)) == {"event-1"}
        assert len({got.body for got in there.got}) == 1
        assert await bench.pending() == []


async def test_a_retry_comes_by_itself_at_its_time(bench: Bench) -> None:
    answers = iter([500, 200])
    async with receiver(answer=lambda _: next(answers)) as there:
        shop = await bench.instance("shop", there.url)
        await bench.emit(shop)
        dispatcher = bench.start()
        await dispatcher.idle()
        await bench.clock.someone_sleeps()
        bench.clock.advance(1.01)
        await there.wait_for(2)


async def test_a_failing_event_holds_its_lane_but_no_other(bench: Bench) -> None:
    broken = True
    async with receiver(answer=lambda got: 500 if broken and got.json["data"].get("bad") else 200) as there:
        shop = await bench.instance("shop", there.url)
        first = await bench.emit(shop, lane="a", data={"bad": True})
        second = await bench.emit(shop, lane="a")
        other = await bench.emit(shop, lane="b")
        life = await bench.emit(shop, "ready")
        dispatcher = bench.start()
        await dispatcher.idle()
        assert sorted(ids(there.got)) == sorted([first, other, life])
        assert [head.event_id for head in await bench.pending()] == [first]
        broken = False
        bench.clock.advance(1.01)
        await dispatcher.idle()
        assert ids(there.got)[3:] == [first, second]


async def test_after_72_hours_it_is_dead_and_its_lane_goes_on(bench: Bench) -> None:
    async with receiver(answer=lambda got: 500 if got.event_id == "event-1" else 200) as there:
        shop = await bench.instance("shop", there.url)
        await bench.emit(shop)
        dispatcher = bench.start()
        await dispatcher.idle()
        bench.clock.advance(RETRY_HORIZON - 3)
        await dispatcher.idle()
        [waits] = await bench.pending()
        assert (waits.attempts, waits.last_error) == (2, "HTTP 500")
        await bench.emit(shop)
        bench.clock.advance(2.01)
        await dispatcher.idle()
        assert ids(there.got) == ["event-1", "event-1", "event-1", "event-2"]
        assert await bench.pending() == []


async def test_a_qr_dies_with_its_code_and_is_superseded(bench: Bench) -> None:
    async with receiver() as there:
        shop = await bench.instance("shop", there.url)
        await bench.emit(shop, "qr", ttl=20.0)
        second = await bench.emit(shop, "qr", ttl=20.0)
        await bench.start().idle()
        assert ids(there.got) == [second]
        await bench.stop()
        await bench.emit(shop, "qr", ttl=20.0)
        ready = await bench.emit(shop, "ready")
        bench.clock.advance(25.0)
        await bench.start().idle()
        assert ids(there.got) == [second, ready]
        assert await bench.pending() == []


async def test_redirects_count_as_failures(bench: Bench) -> None:
    async with receiver(answer=lambda _: 307) as there:
        there.headers["Location"] = there.url + "/elsewhere"
        shop = await bench.instance("shop", there.url)
        await bench.emit(shop)
        await bench.start().idle()
        assert [got.path for got in there.got] == ["/hook"]
        [waits] = await bench.pending()
        assert "redirect" in (waits.last_error or "")


# --- many endpoints ---------------------------------------------------------------------------------------------------


async def test_a_hanging_endpoint_with_a_long_backlog_does_not_hold_up_others(bench: Bench) -> None:
    async with receiver(hold=asyncio.Event()) as stuck, receiver() as fine:
        slow = await bench.instance("slow", stuck.url)
        quick = await bench.instance("quick", fine.url)
        for lane in range(300):
            await bench.emit(slow, lane=f"chat{lane}", hint=False)
        for lane in range(30):
            await bench.emit(quick, lane=f"chat{lane}", hint=False)
        dispatcher = bench.start()
        await fine.wait_for(30)
        assert len(stuck.got) <= 8
        await stuck.wait_for(8)
        assert stuck.at_once == 8
        await bench.emit(quick)
        await fine.wait_for(31)
        stuck.hold.set()
        await stuck.wait_for(300)
        await dispatcher.idle()
        assert stuck.most_at_once == 8
    assert len(set(ids(stuck.got))) == 300


async def test_an_endpoint_is_instance_and_url(bench: Bench) -> None:
    async with receiver(hold=asyncio.Event()) as shared:
        shops = [await bench.instance(f"shop{n}", shared.url) for n in range(3)]
        for shop in shops:
            for lane in range(10):
                await bench.emit(shop, lane=f"chat{lane}", hint=False)
        bench.start()
        await shared.wait_for(24)
        assert Counter(got.json["instanceId"] for got in shared.got) == {"shop0": 8, "shop1": 8, "shop2": 8}
        shared.hold.set()
        await shared.wait_for(30)


async def test_an_endpoint_that_never_answers_gets_one_attempt_at_a_time(bench: Bench) -> None:
    poster = Counting()
    shop = await bench.instance("shop", "http://down.example/")
    for lane in range(30):
        await bench.emit(shop, lane=f"chat{lane}", hint=False)
    dispatcher = bench.start(poster=poster)
    await dispatcher.idle()
    assert (poster.most, poster.posts) == (8, 30)
    poster.most = 0
    bench.clock.advance(1.1)
    await dispatcher.idle()
    assert (poster.most, poster.posts) == (1, 60)
    poster.answer, poster.alone = PostResult(200), 61
    poster.eight.clear()
    bench.clock.advance(2.1)
    await dispatcher.idle()
    assert (poster.most, poster.posts) == (8, 90)


# --- crashes, stops, a store that fails -------------------------------------------------------------------------------


async def test_a_crash_after_the_post_means_a_second_post_with_the_same_id(bench: Bench) -> None:
    async with receiver(hold=asyncio.Event()) as there:
        shop = await bench.instance("shop", there.url)
        event_id = await bench.emit(shop)
        bench.start()
        await there.wait_for(1)
        await bench.stop(deadline=0.0)
        [left] = await bench.pending()
        assert (left.event_id, left.attempts, left.state) == (event_id, 0, DeliveryState.PENDING)
        there.hold.set()
        await bench.start().idle()
        assert ids(there.got) == [event_id, event_id]
        assert await bench.pending() == []


async def test_stop_lets_what_is_under_way_finish_and_starts_nothing_more(bench: Bench) -> None:
    async with receiver(hold=asyncio.Event()) as there:
        shop = await bench.instance("shop", there.url)
        await bench.emit(shop)
        await bench.emit(shop)
        bench.start()
        await there.wait_for(1)
        stopping = asyncio.create_task(bench.stop(deadline=10.0))
        await asyncio.sleep(0)
        there.hold.set()
        await stopping
        assert ids(there.got) == ["event-1"]
        assert [head.event_id for head in await bench.pending()] == ["event-2"]


async def test_deleting_the_instance_while_a_post_is_under_way(bench: Bench) -> None:
    async with receiver(hold=asyncio.Event()) as there:
        shop = await bench.instance("shop", there.url)
        await bench.emit(shop)
        await bench.emit(shop)
        dispatcher = bench.start()
        await there.wait_for(1)
        await bench.database.write(lambda tx: tx.instances.delete(shop.id))
        there.hold.set()
        await dispatcher.idle()
        assert ids(there.got) == ["event-1"]


class Troubled:
    """A store whose writes or reads fail, or whose reads come late, as a test wants it."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.failing: set[str] = set()
        self.late: asyncio.Event | None = None
        self.waiting = asyncio.Event()
        self.failed = asyncio.Event()
        self.reads: asyncio.Queue[None] = asyncio.Queue()

    async def write(self, work: Callable[..., Any]) -> Any:
        if "write" in self.failing:
            self.failed.set()
            raise OSError("disk full")
        return await self._inner.write(work)

    async def read(self, work: Callable[..., Any]) -> Any:
        if "read" in self.failing:
            raise OSError("gone")
        found = await self._inner.read(work)
        self.reads.put_nowait(None)
        if self.late is not None:
            self.waiting.set()
            await self.late.wait()
        return found

    async def close(self) -> None: ...


async def test_a_store_that_cannot_save_does_not_become_a_flood_of_posts(bench: Bench) -> None:
    store = Troubled(bench.database)
    async with receiver() as there:
        shop = await bench.instance("shop", there.url)
        await bench.emit(shop)
        store.failing = {"write"}
        bench.start(store)
        await store.failed.wait()
        for _ in range(5):
            await bench.emit(shop)
            while not store.reads.empty():
                store.reads.get_nowait()
            bench.wakeup.notify("webhooks")
            await store.reads.get()
        assert len(there.got) == 1
        store.failing = set()
        for _ in range(3):
            await bench.clock.someone_sleeps()
            bench.clock.advance(1.1)
        await there.wait_for(7)
        await bench.dispatcher.idle()
    assert ids(there.got) == ["event-1", "event-1", *(f"event-{n}" for n in range(2, 7))]


async def test_a_store_that_cannot_be_read_is_asked_again(bench: Bench) -> None:
    store = Troubled(bench.database)
    store.failing = {"read"}
    async with receiver() as there:
        shop = await bench.instance("shop", there.url)
        await bench.emit(shop)
        bench.start(store)
        await bench.clock.someone_sleeps()
        store.failing = set()
        bench.clock.advance(2.0)
        await there.wait_for(1)


async def test_a_read_that_comes_back_late_starts_no_attempt_twice(bench: Bench) -> None:
    store = Troubled(bench.database)
    async with receiver(hold=asyncio.Event()) as there:
        shop = await bench.instance("shop", there.url)
        await bench.emit(shop)
        dispatcher = bench.start(store)
        await there.wait_for(1)
        store.late = asyncio.Event()
        bench.wakeup.notify("webhooks")
        await store.waiting.wait()
        # The read has seen the delivery as pending; now its attempt ends, and only then the read returns.
        there.hold.set()
        await asyncio.wait(dispatcher._under_way)
        await asyncio.sleep(0)
        assert dispatcher.under_way == 0
        store.late.set()
        await dispatcher.idle()
    assert ids(there.got) == ["event-1"]


async def test_forbidden_targets_are_not_called(bench: Bench) -> None:
    shop = await bench.instance("shop", "http://169.254.169.254/latest")
    await bench.emit(shop)
    await bench.start().idle()
    [waits] = await bench.pending()
    assert waits.attempts == 1
    assert "not allowed" in (waits.last_error or "")


async def test_a_secret_that_cannot_be_used_is_told_at_once(bench: Bench) -> None:
    bench.settings = replace(bench.settings, secret="whsec_!")
    with pytest.raises(ValueError, match="WEBHOOK_SECRET"):
        bench.start()
