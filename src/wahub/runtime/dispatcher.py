"""The dispatcher: posts what is queued for the instances' webhook URLs.

Promise: an event that was committed is posted until a receiver takes it or its time is over, with the same event id on
every attempt. Inside a lane (one chat, or the lifecycle of an instance) the next event is posted only after the one
before is settled. Not promised: that a receiver gets an event once, or order between lanes.

The store knows everything; this loop holds only what is under way. One pass reads the heads of lanes that are due,
leaving out endpoints that have no free slot, and starts what is not already running. A pass follows each hint, each
finished attempt, the next retry time, and every `poll_every` seconds, since hints may be lost.

- *One endpoint cannot hold up others*: an endpoint is (instance, URL) and has `concurrency` slots. A full one is left
  out of the read, so its backlog never fills a batch. The limit of a read is larger than what is under way; so a full
  batch always has something new to start, and the pass repeats until a batch is not full.
- *Fair*: from one batch the first of every endpoint starts before the second of any.
- *An endpoint that does not answer at all* gets one attempt at a time until it answers; each costs a whole timeout.
- *No attempt on stale news*: a read may have begun before an attempt was saved and end after it; what finished in
  between is left for the next pass.
- *Reading costs no more than half the time*: under load a pass waits as long as the last read took, and finds more.

A crash
- before the POST leaves the delivery pending: the next run posts it;
- between POST and saved result: the next run posts it again, with the same event id and attempt number;
- after the save: nothing is repeated.

A result that cannot be saved (the store is out of order) holds its lane back for as long as a failed attempt would, so
that a broken disk does not become a flood of repeated POSTs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from wahub.domain.ids import InstanceId
from wahub.domain.webhook import Delivery, Signer, WebhookSettings, stale
from wahub.ports.clock import Clock
from wahub.ports.poster import Poster, PostResult
from wahub.ports.store import Database, Tx
from wahub.ports.wakeup import WEBHOOKS, Wakeup
from wahub.services import webhook

log = structlog.get_logger("wahub.webhooks")

EndpointKey = tuple[InstanceId, str]

_BATCH = 128
_MOST_UNDER_WAY = 1024
"""Sockets that all endpoints together may hold."""

_LONGEST_HOLD = 60.0
"""Seconds for which a lane waits at most after a result could not be saved."""

_MOST_REMEMBERED = 10_000
"""Endpoints without an answer that are remembered while nothing is under way to them."""

_QUIET_SECONDS = 300.0
"""The same failure of an instance is logged once in this time (contract D.3)."""


@dataclass(slots=True)
class _Endpoint:
    """What is under way to one (instance, URL)."""

    lanes: set[str] = field(default_factory=set)
    answers: bool = True

    def is_full(self, concurrency: int) -> bool:
        return len(self.lanes) >= (concurrency if self.answers else 1)


class Dispatcher:
    """Runs until stopped. ValueError when the settings hold a secret that cannot be used."""

    def __init__(
        self,
        database: Database,
        poster: Poster,
        clock: Clock,
        wakeup: Wakeup,
        settings: WebhookSettings,
        *,
        unit: Callable[[], float] = random.random,
        poll_every: float = 2.0,
    ) -> None:
        self._database = database
        self._poster = poster
        self._clock = clock
        self._wakeup = wakeup
        self._settings = settings
        self._signer = Signer(settings)
        self._unit = unit
        self._poll_every = poll_every
        self._endpoints: dict[EndpointKey, _Endpoint] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._finished_meanwhile: set[str] = set()
        """Events whose attempt ended since the last read of the store began."""
        self._kick = asyncio.Event()
        self._quiet = asyncio.Event()
        self._stopping = False
        self._finished = asyncio.Event()
        self._finished.set()
        self._logged: dict[tuple[InstanceId, str], float] = {}

    @property
    def under_way(self) -> int:
        """How many attempts are running."""
        return len(self._under_way)

    async def run(self) -> None:
        """Dispatch until `stop`. What is under way is left to `stop`, also when this task is cancelled."""
        self._finished.clear()
        hints = asyncio.create_task(self._listen(), name="webhook-hints")
        try:
            while not self._stopping:
                await self._round()
        finally:
            hints.cancel()
            self._finished.set()
            await asyncio.gather(hints, return_exceptions=True)

    async def stop(self, deadline: float = 5.0) -> None:
        """Start nothing more; give attempts under way up to `deadline` seconds, then let go of them.

        What was let go of stays pending, and the next run posts it again.
        """
        self._stopping = True
        self._kick.set()
        await self._finished.wait()
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=deadline)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def idle(self) -> None:
        """Wait until nothing is under way and a look at the store, begun after this call, found nothing due."""
        self._quiet.clear()
        self._kick.set()
        await self._quiet.wait()

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        while True:
            try:
                await self._wakeup.wait(WEBHOOKS, self._poll_every)
            except Exception as error:  # noqa: BLE001 - hints may fail, the poll goes on
                log.warning("webhook hints failed", error=type(error).__name__)
                await self._clock.sleep(self._poll_every)
            self._kick.set()

    async def _round(self) -> None:
        """Start what is due, then wait for a reason to look again."""
        self._kick.clear()
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            next_at = await self._start_due()
        except Exception as error:  # noqa: BLE001 - whatever ails the store may pass
            log.error("webhooks wait for the store", error=type(error).__name__)
            await self._wait(self._clock.now() + self._poll_every)
            return
        cost = loop.time() - began
        if not self._under_way and not self._kick.is_set():
            self._quiet.set()
        await self._wait(next_at)
        if self._under_way and not self._stopping:
            await asyncio.sleep(cost)

    async def _start_due(self) -> float | None:
        """Start everything that is due and has a slot; returns the next time at which something will be."""
        while True:
            room = _MOST_UNDER_WAY - len(self._under_way)
            if room <= 0 or self._stopping:
                return None
            now = self._clock.now()
            full = [key for key, endpoint in self._endpoints.items() if endpoint.is_full(self._settings.concurrency)]
            limit = _BATCH + len(self._under_way)
            self._finished_meanwhile.clear()
            due, next_at = await self._database.read(partial(_look, now=now, limit=limit, full=full))
            self._start([delivery for delivery in due if delivery.event_id not in self._finished_meanwhile], room)
            if len(due) < limit:
                return next_at

    def _start(self, due: Sequence[Delivery], room: int) -> None:
        """Start deliveries, one of each endpoint in turn, as far as there are slots."""
        turns: dict[EndpointKey, list[Delivery]] = {}
        for delivery in due:
            turns.setdefault((delivery.instance, delivery.url), []).append(delivery)
        while turns and room > 0:
            for key in list(turns):
                delivery = turns[key].pop(0)
                if not turns[key]:
                    del turns[key]
                endpoint = self._endpoints.setdefault(key, _Endpoint())
                if endpoint.is_full(self._settings.concurrency):
                    turns.pop(key, None)
                elif delivery.lane not in endpoint.lanes and room > 0:
                    room -= 1
                    self._begin(key, endpoint, delivery)

    def _begin(self, key: EndpointKey, endpoint: _Endpoint, delivery: Delivery) -> None:
        endpoint.lanes.add(delivery.lane)
        task = asyncio.create_task(self._deliver(endpoint, delivery))
        self._under_way.add(task)
        task.add_done_callback(lambda done: self._end(done, key, delivery))

    async def _wait(self, next_at: float | None) -> None:
        """Wait for a kick or for `next_at`. The poll kicks through `_listen`."""
        if self._kick.is_set():
            return
        if next_at is None:
            await self._kick.wait()
            return
        timer = asyncio.ensure_future(self._clock.sleep(next_at - self._clock.now()))
        timer.add_done_callback(lambda done: None if done.cancelled() else self._kick.set())
        try:
            await self._kick.wait()
        finally:
            timer.cancel()

    # --- one attempt -------------------------------------------------------------------------------------------------

    async def _deliver(self, endpoint: _Endpoint, delivery: Delivery) -> None:
        """One attempt and its saved result."""
        try:
            await self._attempt(endpoint, delivery)
        except Exception as error:  # noqa: BLE001 - any fault of the store, or a bug: neither may end the loop
            log.error(
                "webhook result not saved",
                instance=delivery.instance,
                event_id=delivery.event_id,
                error=type(error).__name__,
            )
            await self._clock.sleep(min(self._settings.backoff.delay(delivery.attempts + 1), _LONGEST_HOLD))

    def _end(self, task: asyncio.Task[None], key: EndpointKey, delivery: Delivery) -> None:
        """The attempt is over, also when it was cancelled before it began: its lane is free."""
        self._under_way.discard(task)
        self._finished_meanwhile.add(delivery.event_id)
        endpoint = self._endpoints[key]
        endpoint.lanes.discard(delivery.lane)
        if not endpoint.lanes and (endpoint.answers or len(self._endpoints) > _MOST_REMEMBERED):
            del self._endpoints[key]
        self._kick.set()

    async def _attempt(self, endpoint: _Endpoint, delivery: Delivery) -> None:
        now = self._clock.now()
        if stale(delivery, now):
            await self._database.write(lambda tx: webhook.give_up(tx, delivery, "expired before it could be posted"))
            return
        body = delivery.body.encode()
        answer = await self._poster.post(delivery.url, body, self._signer.headers(delivery, body, now))
        endpoint.answers = answer.status is not None
        now, unit, policy = self._clock.now(), self._unit(), self._settings.backoff
        after = await self._database.write(lambda tx: webhook.note_result(tx, delivery, answer, now, unit, policy))
        self._tell(after, answer)

    def _tell(self, delivery: Delivery, answer: PostResult) -> None:
        if answer.ok:
            log.debug("webhook delivered", instance=delivery.instance, event_name=delivery.event)
            return
        error = delivery.last_error or ""
        now = self._clock.monotonic()
        seen = self._logged.get((delivery.instance, error))
        if seen is not None and now - seen < _QUIET_SECONDS:
            return
        if len(self._logged) >= _MOST_REMEMBERED:
            self._logged.clear()
        self._logged[delivery.instance, error] = now
        log.warning(
            "webhook not delivered",
            instance=delivery.instance,
            event_name=delivery.event,
            event_id=delivery.event_id,
            attempt=delivery.attempts,
            state=str(delivery.state),
            error=error,
        )


def _look(tx: Tx, now: float, limit: int, full: Sequence[EndpointKey]) -> tuple[Sequence[Delivery], float | None]:
    return tx.webhooks.due(now, limit, full), tx.webhooks.next_attempt_at(now)
