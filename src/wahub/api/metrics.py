"""`GET /metrics`: Prometheus text (contract G.4), made at each scrape from one read transaction.

No metric names an instance: names are customers' names, and hundreds of them are too many label values. The totals are
kept with each instance and survive restarts; the sum over all of them must not fall when one is deleted, because a
counter that falls reads as a restart, so what was seen to grow is added up here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from wahub.api.deps import ApiDeps
from wahub.domain.endpoint import Held
from wahub.domain.ids import InstanceId
from wahub.domain.instance import State
from wahub.domain.lifecycle import IncidentKind, Lifecycle
from wahub.ports.store import Tx

_COUNTED: dict[str, tuple[str, Callable[[Lifecycle], int]]] = {
    "wahub_mutes": ("Links that were found mute", lambda record: record.mutes),
    "wahub_reconnects": ("Links that were up and were lost", lambda record: record.reconnects),
    "wahub_restarts": ("Restarts of instances, asked for or by a timer", lambda record: record.restart_count),
}


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one transaction saw."""

    states: Mapping[State, int]
    records: Sequence[Lifecycle]
    depth: int
    held: Mapping[Held, int]
    dead: int
    unreadable: int


class _Rising:
    """A sum over instances that never falls while this process runs."""

    def __init__(self) -> None:
        self._last: dict[InstanceId, int] = {}
        self._total = 0

    def add(self, figures: dict[InstanceId, int]) -> int:
        """Take the figures of all instances that there are; returns the total."""
        self._total += sum(max(count - self._last.get(owner, 0), 0) for owner, count in figures.items())
        self._last = figures
        return self._total


@dataclass(frozen=True, slots=True, eq=False)
class _Figures(Collector):
    """What was gathered, as a collector wants it."""

    families: list[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


@dataclass(frozen=True, slots=True)
class Metrics:
    """The handler. One for the process: it remembers what it counted."""

    deps: ApiDeps
    rising: dict[str, _Rising] = field(default_factory=lambda: {name: _Rising() for name in (*_COUNTED, *IncidentKind)})

    async def metrics(self, _request: Request) -> Response:
        """`GET /metrics`."""
        seen = await self.deps.database.read(_look)
        registry = CollectorRegistry()
        registry.register(_Figures([*self._gauges(seen), *self._counters(seen)]))
        ProcessCollector(registry=registry)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    def _gauges(self, seen: _Seen) -> Iterator[Metric]:
        yield _by_word("wahub_instances", "Instances by state", "state", State, seen.states)
        mute = sum(record.mute_since is not None for record in seen.records)
        lag = self.deps.loop_lag_ms() / 1000
        yield GaugeMetricFamily("wahub_connected_mute", "Instances whose link seems up and is mute", mute)
        yield GaugeMetricFamily("wahub_queue_depth", "Messages that wait, of all instances", seen.depth)
        yield _by_word("wahub_webhook_endpoints_held", "Webhook endpoints that get no posts", "reason", Held, seen.held)
        yield GaugeMetricFamily("wahub_dead_letters", "Webhooks that were given up and are kept", seen.dead)
        yield GaugeMetricFamily("wahub_inbound_unreadable", "Received messages that cannot be read", seen.unreadable)
        yield GaugeMetricFamily("wahub_engine_processes", "Engine processes that run", self.deps.engine_processes())
        yield GaugeMetricFamily("wahub_engine_heap_bytes", "Heap that they use", self.deps.engine_heap_bytes())
        yield GaugeMetricFamily("wahub_engine_handles", "Timers, sockets, pipes they hold", self.deps.engine_handles())
        yield GaugeMetricFamily("wahub_tasks", "Tasks of the event loop", len(asyncio.all_tasks()))
        yield GaugeMetricFamily("wahub_restore_waiting", "Instances that wait to come back", self._waiting())
        yield GaugeMetricFamily("wahub_event_loop_lag_seconds", "How late the event loop was lately, at worst", lag)

    def _waiting(self) -> int:
        return len(self.deps.restore_queue().waiting)

    def _counters(self, seen: _Seen) -> Iterator[Metric]:
        for name, (meaning, count) in _COUNTED.items():
            total = self.rising[name].add({record.instance: count(record) for record in seen.records})
            yield CounterMetricFamily(name, meaning, total)
        incidents = CounterMetricFamily("wahub_incidents", "What somebody should know of, by kind", labels=["kind"])
        counts = {record.instance: dict(record.incidents) for record in seen.records}
        for kind in IncidentKind:
            total = self.rising[kind].add({owner: of.get(kind, 0) for owner, of in counts.items()})
            incidents.add_metric([kind], total)
        yield incidents


def _by_word(name: str, meaning: str, label: str, words: type[StrEnum], counts: Mapping[Any, int]) -> GaugeMetricFamily:
    """A gauge with one sample for every word, also for those of which there is none."""
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for word in words:
        family.add_metric([word], counts.get(word, 0))
    return family


def _look(tx: Tx) -> _Seen:
    depth = sum(tx.line.depths().values())
    return _Seen(
        states=tx.instances.count(),
        records=tx.lifecycles.list(),
        depth=depth,
        held=tx.endpoints.held(),
        dead=tx.dead.count(None),
        unreadable=tx.missed.count(),
    )
