"""The dispatcher: posts what is queued for the instances' webhook URLs.

Promise: an event that was committed is posted until a receiver takes it or its time is over, with the same event id on
every attempt. Inside a lane (one chat, or the lifecycle of an instance) the next event is posted only after the one
before is settled. Not promised: that a receiver gets an event once, or order between lanes.

The store knows everything; this loop holds what is under way and a little more (runtime/endpoints.py). One pass reads
the heads of lanes that are due, leaving out endpoints that hold enough, and starts what has a free slot. A pass follows
each hint, each finished attempt, the next retry time, and every `_POLL_EVERY` seconds, since hints may be lost.

- *One endpoint cannot hold up others*: an endpoint is (instance, URL) and has `concurrency` slots. A full one is left
  out of the read, so its backlog never fills a batch, and so is what is held already. The limit of a read is larger
  than what is held; so a full batch always has a lane to take, and the pass repeats until a batch is not full.
- *Fair*: the first of every endpoint starts before the second of any.
- *An endpoint that does not answer at all* gets one attempt at a time until it answers; each costs a whole timeout.
- *An endpoint that fails for long* is paused, and the store knows it (domain/endpoint.py): a read brings something of
  it only when its probe is due, and one attempt is made. When that one is taken, all that waited is due at once.
- *No attempt on stale news*: a read may have begun before an attempt was saved and end after it; what was under way
  when it began is not in it.
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
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial

import structlog

from wahub.domain.endpoint import Held, Secrets
from wahub.domain.ids import InstanceId, QueueId
from wahub.domain.instance import Instance
from wahub.domain.webhook import Delivery, Signer, WebhookSettings, stale
from wahub.ports.clock import Clock
from wahub.ports.poster import Poster, PostResult
from wahub.ports.store import Database, Tx
from wahub.ports.wakeup import EVENTS, WEBHOOKS, Wakeup
from wahub.runtime import journal
from wahub.runtime.endpoints import EndpointKey, Endpoints
from wahub.runtime.results import Results
from wahub.services import webhook

log = structlog.get_logger("wahub.webhooks")

_BATCH = 128
_POLL_EVERY = 2.0
_MOST_RUNNING = 512
"""Sockets that all endpoints together may hold."""

_MOST_HELD = 2048
"""Deliveries in memory, running or waiting for a slot."""

_LONGEST_HOLD = 60.0
"""Seconds for which a lane waits at most after a result could not be saved."""

_QUIET_SECONDS = 300.0
"""The same failure of an instance is logged once in this time (contract D.3)."""

_MOST_FAILURES_KNOWN = 10_000
"""After so many different ones the record of what was logged starts anew."""


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
    ) -> None:
        self._database = database
        self._poster = poster
        self._clock = clock
        self._wakeup = wakeup
        self._settings = settings
        self._signer = Signer(settings)
        self._unit = unit
        self._results = Results(database, settings.backoff)
        self._endpoints = Endpoints(settings.concurrency, _MOST_RUNNING, _MOST_HELD)
        self._under_way: set[asyncio.Task[None]] = set()
        self._held_meanwhile: set[EndpointKey] = set()
        """Endpoints that were held, or whose probe ended, since the last read of the store began."""
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

    async def farewell(self, instance: Instance, cancelled: tuple[QueueId, ...]) -> None:
        """Post `instance_deleted` once, best effort: its deliveries are about to be removed with everything else."""
        data = {"cancelled": list(cancelled)}
        now = self._clock.now()
        delivery = webhook.farewell(instance, data, now=now)
        if delivery is None:
            return
        delivery = replace(delivery, secrets=await self._secrets(instance.id))
        answer = await self._post(delivery, now)
        if not answer.ok:
            log.warning("nobody took the news of a deleted instance", instance=instance.id, status=answer.status)

    async def test(self, instance: Instance, event_id: str) -> webhook.Tried | None:
        """Post `webhook_test` to the instance's URL now, whatever waits for it; None if it has no URL."""
        now, secrets = self._clock.now(), await self._secrets(instance.id)
        delivery = webhook.trial(instance, now=now, event_id=event_id, secrets=secrets)
        if delivery is None:
            return None
        began = self._clock.monotonic()
        answer = await self._post(delivery, now)
        return webhook.Tried(event_id, answer.status, answer.error, self._clock.monotonic() - began)

    async def _post(self, delivery: Delivery, now: float) -> PostResult:
        body = delivery.body.encode()
        return await self._poster.post(delivery.url, body, self._signer.headers(delivery, body, now))

    async def _secrets(self, instance: InstanceId) -> Secrets:
        return await self._database.read(lambda tx: tx.endpoints.secrets(instance))

    async def idle(self) -> None:
        """Wait until nothing is under way and a look at the store, begun after this call, found nothing due."""
        self._quiet.clear()
        self._kick.set()
        await self._quiet.wait()

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        while True:
            try:
                await self._wakeup.wait(WEBHOOKS, _POLL_EVERY)
            except Exception as error:  # noqa: BLE001 - hints may fail, the poll goes on
                log.warning("webhook hints failed", error=type(error).__name__)
                await self._clock.sleep(_POLL_EVERY)
            self._kick.set()
            # Whoever queues an event has logged it, too; those who follow the log have a topic of their own, because a
            # hint for which nobody waits is taken by one waiter only.
            self._wakeup.notify(EVENTS)

    async def _round(self) -> None:
        """Start what is due, then wait for a reason to look again."""
        self._kick.clear()
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            next_at = await self._start_due()
        except Exception as error:  # noqa: BLE001 - whatever ails the store may pass
            log.error("webhooks wait for the store", error=type(error).__name__)
            await self._wait(self._clock.now() + _POLL_EVERY)
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
            if self._stopping or not self._endpoints.has_room:
                return None
            now = self._clock.now()
            limit = _BATCH + self._endpoints.held
            self._held_meanwhile.clear()
            full, besides = self._endpoints.full(), self._endpoints.positions()
            look = partial(_look, now=now, limit=limit, full=full, besides=besides)
            due, next_at = await self._database.read(look)
            if self._stopping:
                return None
            self._begin(self._endpoints.accept(filter(self._is_news, due)))
            if len(due) < limit:
                return next_at

    def _is_news(self, delivery: Delivery) -> bool:
        return (delivery.instance, delivery.url) not in self._held_meanwhile

    def _begin(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            task = asyncio.create_task(self._deliver(delivery))
            self._under_way.add(task)
            task.add_done_callback(partial(self._end, delivery))

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

    async def _deliver(self, delivery: Delivery) -> None:
        """One attempt and its saved result."""
        try:
            await self._attempt(delivery)
        except Exception as error:  # noqa: BLE001 - any fault of the store, or a bug: neither may end the loop
            log.error(
                "webhook result not saved",
                instance=delivery.instance,
                event_id=delivery.event_id,
                error=type(error).__name__,
            )
            await self._clock.sleep(min(self._settings.backoff.delay(delivery.attempts + 1), _LONGEST_HOLD))

    def _end(self, delivery: Delivery, task: asyncio.Task[None]) -> None:
        """The attempt is over, also when it was cancelled before it began: its lane is free."""
        self._under_way.discard(task)
        if self._stopping:
            self._endpoints.forget_waiting()
        self._begin(self._endpoints.finish(delivery))
        self._kick.set()

    async def _attempt(self, delivery: Delivery) -> None:
        now = self._clock.now()
        if stale(delivery, now):
            await self._database.write(lambda tx: webhook.give_up(tx, delivery, "expired before it could be posted"))
            return
        answer = await self._post(delivery, now)
        self._endpoints.note_answer(delivery, answered=answer.status is not None)
        noted = await self._results.note(delivery, answer, self._clock.now(), self._unit())
        if noted.held is not None or delivery.probe:
            self._held_meanwhile.add((delivery.instance, delivery.url))
        if noted.held is not None:
            self._endpoints.let_go(delivery)
        self._tell_of_endpoint(noted)
        self._tell(noted.delivery, answer)

    def _tell_of_endpoint(self, noted: webhook.Noted) -> None:
        instance = noted.delivery.instance
        if noted.recovered:
            log.info("webhook endpoint is back", instance=instance)
        if noted.held is None:
            return
        remedy = (
            "set webhook.url or replay a dead letter to enable it" if noted.held.held is Held.DISABLED else "probing"
        )
        log.warning(
            f"webhook endpoint {noted.held.held}",  # noqa: G004 - one of two words
            instance=instance,
            failures=noted.held.failures,
            error=noted.held.last_error,
            remedy=remedy,
        )

    def _tell(self, delivery: Delivery, answer: PostResult) -> None:
        if answer.ok:
            journal.forwarded(delivery)
            return
        error = delivery.last_error or ""
        now = self._clock.monotonic()
        seen = self._logged.get((delivery.instance, error))
        if seen is not None and now - seen < _QUIET_SECONDS:
            return
        if len(self._logged) >= _MOST_FAILURES_KNOWN:
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


def _look(
    tx: Tx, now: float, limit: int, full: Collection[EndpointKey], besides: Collection[int]
) -> tuple[Sequence[Delivery], float | None]:
    return tx.webhooks.due(now, limit, full, besides), tx.webhooks.next_attempt_at(now)
