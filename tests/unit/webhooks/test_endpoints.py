"""The dispatcher's books: slots, lanes, turns. Checked against any order of events."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from wahub.domain.ids import InstanceId
from wahub.domain.webhook import Delivery
from wahub.runtime.endpoints import Endpoints

EMPTY = Delivery("", InstanceId(""), "message", "", "http://x", "{}", 1, 0.0, 1.0, 0.0)


def delivery(number: int, instance: str = "a", lane: str | None = None) -> Delivery:
    name = InstanceId(instance)
    return replace(EMPTY, event_id=f"e{number}", instance=name, lane=lane or f"lane{number}", position=number)


def test_one_of_each_endpoint_in_turn() -> None:
    books = Endpoints(concurrency=2, most_running=100, most_held=100)
    started = books.accept([*(delivery(n) for n in range(5)), delivery(5, "b"), delivery(6, "c"), delivery(7, "b")])
    assert [one.event_id for one in started] == ["e0", "e5", "e6", "e1", "e7"]
    assert (books.running, books.held) == (5, 8)
    assert [one.event_id for one in books.finish(started[0])] == ["e2"]


def test_a_lane_is_reserved_from_acceptance_to_the_end() -> None:
    books = Endpoints(concurrency=1, most_running=100, most_held=100)
    [first] = books.accept([delivery(1, lane="x"), delivery(2, lane="x"), delivery(3, lane="y")])
    assert books.accept([delivery(2, lane="x"), delivery(3, lane="y")]) == []
    [second] = books.finish(first)
    assert (first.event_id, second.event_id) == ("e1", "e3")
    books.finish(second)
    assert (books.running, books.held) == (0, 0)
    assert [one.event_id for one in books.accept([delivery(2, lane="x")])] == ["e2"]


def test_an_endpoint_without_an_answer_gets_one_at_a_time_and_lets_the_rest_go() -> None:
    books = Endpoints(concurrency=4, most_running=100, most_held=100)
    started = books.accept([delivery(n) for n in range(10)])
    assert (len(started), books.held) == (4, 10)
    books.note_answer(started[0], answered=False)
    assert books.held == 4
    for one in started:
        assert books.finish(one) == []
    assert books.full() == []
    [probe] = books.accept([delivery(n) for n in range(10)])
    assert books.full() == [(probe.instance, probe.url)]
    books.note_answer(probe, answered=True)
    assert books.finish(probe) == []
    assert len(books.accept([delivery(n) for n in range(10)])) == 4


def test_when_all_sockets_are_taken_the_next_free_one_goes_to_whoever_waits() -> None:
    books = Endpoints(concurrency=8, most_running=2, most_held=100)
    first, second = books.accept([delivery(0, "a"), delivery(1, "a"), delivery(2, "b"), delivery(3, "b")])
    assert {first.instance, second.instance} == {"a", "b"}
    books.forget_waiting()
    assert (books.running, books.held) == (2, 2)
    assert books.accept([delivery(3, "b")]) == []
    assert [one.event_id for one in books.finish(first)] == ["e3"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_slot_is_ever_overrun_or_lost(data: st.DataObject) -> None:
    concurrency, most_running, most_held = 3, 7, 20
    books = Endpoints(concurrency, most_running, most_held)
    running: list[Delivery] = []
    waiting = {n: delivery(n, data.draw(st.sampled_from("abcde")), f"l{n % 9}") for n in range(40)}
    for _ in range(300):
        action = data.draw(st.sampled_from(["read", "finish", "finish", "silence"])) if waiting or running else "end"
        if action == "end":
            break
        if action == "silence" and running:
            books.note_answer(data.draw(st.sampled_from(running)), answered=data.draw(st.booleans()))
        if action == "finish" and running:
            done = running.pop(data.draw(st.integers(0, len(running) - 1)))
            waiting.pop(int(done.event_id[1:]))
            running += books.finish(done)
        if action == "read":
            heads = {(one.instance, one.lane): one for one in reversed(waiting.values())}
            due = [one for one in reversed(heads.values()) if (one.instance, one.url) not in books.full()]
            new = [one for one in due if one not in running]
            before = books.held
            running += books.accept(due)
            if new and before < most_held and before == len(running):
                assert books.held > before or books.running == most_running
        assert len(running) == books.running <= most_running
        assert len({one.event_id for one in running}) == len(running)
        assert len({(one.instance, one.lane) for one in running}) == len(running)
        assert all(sum(one.instance == name for one in running) <= concurrency for name in "abcde")
        assert books.running <= books.held <= most_held
        assert len(books.positions()) == books.held
        assert {one.position for one in running} <= set(books.positions())
    while waiting:
        heads = {(one.instance, one.lane): one for one in reversed(waiting.values())}
        running += books.accept(reversed(heads.values()))
        assert running, "work waits, nothing runs: a slot was lost"
        done = running.pop(0)
        waiting.pop(int(done.event_id[1:]))
        running += books.finish(done)
    assert (books.running, books.held) == (0, 0)
