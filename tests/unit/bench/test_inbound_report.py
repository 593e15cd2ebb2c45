"""The benchmark of received messages: what its figures say, and how its receiver keeps time."""

from __future__ import annotations

import asyncio
import time

import pytest
from bench.inbound import receiving
from bench.inbound_report import Burst, Delays, Found, result
from bench.report import Result
from bench.town import who_writes

CPU = {"plain Baileys": 1.0, "gateway": 0.5, "engine": 0.01, "sandbox": 0.2, "benchmark": 0.1}
QUICK = [float(ms) for ms in range(1, 11)]
LET_GO = {"began": 100.0, "ended": 100.1}


def burst(seconds: float, posted_after: float, others: float = 0.0) -> Burst:
    return Burst.of(1_000, LET_GO, 100.0 + seconds, 100.0 + posted_after, CPU, others)


def report(wahub: Burst, delays: list[float] = QUICK) -> Result:
    pair = burst(1.0, 1.0), wahub
    sides = Delays({"plain": QUICK, "wahub": delays}, {"plain": CPU, "wahub": CPU}, 0.0)
    return result(Found(50, 1_000, sides, {1: [pair], 5: [pair, pair]}))


def test_a_burst_counts_from_the_first_frame_to_the_last_arrival() -> None:
    made = burst(seconds=2.0, posted_after=4.0)
    assert (made.received, made.posted) == pytest.approx((500, 250))
    assert made.written == pytest.approx(10_000)


@pytest.mark.parametrize(
    ("wahub", "met"),
    [
        (burst(1.0, 1.2), [True, True, True, True, True]),
        (burst(1.2, 1.6), [True, True, False, True, False]),
        (burst(1.6, 1.6), [True, False, False, False, False]),
    ],
)
def test_the_goals_are_shares_of_what_plain_baileys_received(wahub: Burst, met: list[bool]) -> None:
    assert [verdict.met for verdict in report(wahub).verdicts] == met


def test_the_goal_of_the_delay_is_on_the_median() -> None:
    late = [12.0] * 6 + [1.0] * 4
    assert not report(burst(1.0, 1.0), late).verdicts[0].met
    assert report(burst(1.0, 1.0), [1.0] * 6 + [90.0] * 4).verdicts[0].met


def test_one_table_with_each_figure_once_and_nothing_of_processes_that_had_no_part() -> None:
    table = {row[0]: row[1:] for row in report(burst(2.0, 4.0)).table}
    assert table["at 50/s, ms from the socket: p90"] == ["9.0", "9.0"]
    assert table["1 account: messages/s received (wahub: in the log)"] == ["1000", "500"]
    assert table["5 accounts: messages/s posted to the webhook"] == ["", "250 (250 to 250)"]
    assert table["5 accounts: CPU ms, engine"] == ["", ""]
    assert len(table) == len(report(burst(2.0, 4.0)).table)


def test_a_busy_machine_is_named() -> None:
    assert "was busy" not in report(burst(1.0, 1.0)).text()
    assert "was busy" in report(burst(1.0, 1.0, others=0.5)).text()


def test_everybody_writes_to_everybody_in_turn() -> None:
    pairs = list(who_writes(["anna", "ben"], ["shop", "bar"], 6))
    assert pairs[:4] == [("anna", "shop"), ("anna", "bar"), ("ben", "shop"), ("ben", "bar")]
    assert pairs[4:] == pairs[:2]


async def test_the_receiver_notes_the_first_time_of_each_message_also_when_bodies_come_in_pieces() -> None:
    async with receiving() as receiver:
        host, _, port = receiver.url.removeprefix("http://").partition("/")[0].partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        began = time.time()
        for name, pieces in (("A", 1), ("B", 3), ("A", 1)):
            body = b'{"event":"message","data":{"message":{"id":"%s","text":"hello"}}}' % name.encode()
            whole = b"POST /hook HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            size = -(-len(whole) // pieces)
            for at in range(0, len(whole), size):
                assert len(receiver.first_times()) == {"A": 0, "B": 1}[name] or name == "A"
                writer.write(whole[at : at + size])
                await writer.drain()
                await asyncio.sleep(0)
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
        writer.close()
        times = receiver.first_times()
        assert list(times) == ["A", "B"]
        assert began <= times["A"] <= times["B"] <= time.time()
        assert len(receiver.posts) == 3
