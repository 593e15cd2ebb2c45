"""From a request to the server's ack, one message at a time on an idle system, through wahub and with plain Baileys.

One clock: the request's time is taken by this process (or by Node, just before `sendMessage`), the ack's by the
sandbox as it sends it, all on this machine. Sides alternate message by message, so that both meet the same weather.
"""

from __future__ import annotations

import asyncio
import time

from bench.report import Result, Verdict, percentile
from bench.stage import Stage, plain_account, wahub_account

PEOPLE = 3
GOAL_MS = 10.0
WARM_UP = 20
# Long enough for receipts, webhooks and clean-up of the last message to be over.
PAUSE = 0.03


async def run(stage: Stage, messages: int) -> Result:
    """Measure `messages` on each side."""
    people = await stage.make_people(PEOPLE)
    await stage.link_wahub(1)
    await stage.link_plain(1)
    await stage.get_acquainted(people, 1)
    phones = [await _Phone.of(stage, number) for number in people]
    plain, wahub, accepts = [], [], []
    for number in range(WARM_UP + messages):
        phone = phones[number % len(phones)]
        plain_ms = await _plain_ms(stage, phone, number)
        wahub_ms, accept_ms = await _wahub_ms(stage, phone, number)
        if number >= WARM_UP:
            plain.append(plain_ms)
            wahub.append(wahub_ms)
            accepts.append(accept_ms)
    await stage.check_clean()
    return _result(plain, wahub, accepts)


class _Phone:
    """A phone that receives, and how far we have read it."""

    def __init__(self, stage: Stage, number: str) -> None:
        self.number = number
        self._stage = stage
        self._seen = 0

    @classmethod
    async def of(cls, stage: Stage, number: str) -> _Phone:
        """The phone of this number, with everything read that it has."""
        phone = cls(stage, number)
        await phone.read(0)
        return phone

    async def read(self, wait_ms: int) -> None:
        """Read what is new, waiting for something if there is nothing."""
        path = f"/control/phones/{self.number}/messages?after={self._seen}&wait={wait_ms}"
        for message in (await self._stage.control.call("GET", path))["messages"]:
            self._seen = int(message["seq"])

    async def until_shown(self) -> None:
        """Wait for a message, and then until all that follows from it is over."""
        await self.read(20_000)
        await asyncio.sleep(PAUSE)


async def _plain_ms(stage: Stage, to: _Phone, number: int) -> float:
    name = plain_account(0)
    stage.plain.tell(do="one", name=name, to=to.number, text=f"Latency {number}")
    sent = await stage.plain.hear("acked")
    await to.until_shown()
    return (await _last_ack(stage, name)) * 1000 - float(sent["began"])


async def _wahub_ms(stage: Stage, to: _Phone, number: int) -> tuple[float, float]:
    began = time.time()
    await stage.send(stage.hub, 0, to.number, f"Latency {number}, {began}")
    accepted = time.time()
    await to.until_shown()
    return (await _last_ack(stage, wahub_account(0)) - began) * 1000, (accepted - began) * 1000


async def _last_ack(stage: Stage, number: str) -> float:
    return (await stage.acks(number))[-1][1]


def _result(plain: list[float], wahub: list[float], accepts: list[float]) -> Result:
    rows = [["milliseconds", "p50", "p95", "p99"]]
    sides = {"plain Baileys, send to ack": plain, "wahub, request to ack": wahub, "wahub, request to 202": accepts}
    for name, values in sides.items():
        rows.append([name, *(f"{percentile(values, share):.1f}" for share in (0.5, 0.95, 0.99))])
    added = percentile(wahub, 0.5) - percentile(plain, 0.5)
    verdict = Verdict(f"added p50 under {GOAL_MS:.0f} ms", f"{added:.1f} ms", added < GOAL_MS)
    figures = {"addedP50Ms": added, "plainMs": plain, "wahubMs": wahub, "acceptMs": accepts}
    return Result("Latency", rows, (verdict,), figures, ("", f"{len(plain)} messages on each side."))
