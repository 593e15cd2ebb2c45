"""What the dispatcher holds in memory: which deliveries run, which wait for a slot, and whose turn it is.

No tasks and no store here, only the books. A delivery that was accepted reserves its lane until `finish`, so a lane is
never taken twice. Some more than can run are held, because reading the store costs far more than keeping a few rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from wahub.domain.ids import InstanceId
from wahub.domain.webhook import Delivery

EndpointKey = tuple[InstanceId, str]

_ROUNDS_HELD = 4
"""How many times its slots an endpoint may hold, running and waiting."""

_MOST_REMEMBERED = 10_000
"""Endpoints without an answer that are remembered while nothing is held for them."""


@dataclass(slots=True)
class _Endpoint:
    """One (instance, URL)."""

    lanes: set[str] = field(default_factory=set)
    """Lanes of which a delivery runs or waits."""
    waiting: deque[Delivery] = field(default_factory=deque)
    running: int = 0
    answers: bool = True


class Endpoints:
    """The books. `concurrency` is per endpoint; `most_running` and `most_held` are for all together."""

    def __init__(self, concurrency: int, most_running: int, most_held: int) -> None:
        self._concurrency = concurrency
        self._most_running = most_running
        self._most_held = most_held
        self._known: dict[EndpointKey, _Endpoint] = {}
        self._positions: set[int] = set()
        """What runs or waits: a lane may be renamed meanwhile, and then the same delivery seems to head another."""
        self.running = 0
        self.held = 0
        """Running and waiting."""

    @property
    def has_room(self) -> bool:
        """Whether anything more may be accepted at all."""
        return self.held < self._most_held

    def positions(self) -> list[int]:
        """Of all that runs or waits."""
        return list(self._positions)

    def full(self) -> list[EndpointKey]:
        """Endpoints that take no more now; any other accepts at least one delivery of a lane that is not reserved."""
        return [key for key, endpoint in self._known.items() if self._is_full(endpoint)]

    def accept(self, due: Iterable[Delivery]) -> list[Delivery]:
        """Reserve lanes as far as there is room. Returns what to start now: one of each endpoint in turn."""
        touched: dict[EndpointKey, _Endpoint] = {}
        for delivery in due:
            key = (delivery.instance, delivery.url)
            endpoint = touched.get(key)
            if endpoint is None:
                endpoint = touched[key] = self._known.setdefault(key, _Endpoint())
            if delivery.probe:
                endpoint.answers = False
            if self._takes(endpoint, delivery):
                endpoint.lanes.add(delivery.lane)
                endpoint.waiting.append(delivery)
                self._positions.add(delivery.position)
                self.held += 1
        for key, endpoint in touched.items():
            self._forget_if_idle(key, endpoint)
        return self._turns(list(touched.values()))

    def finish(self, delivery: Delivery) -> list[Delivery]:
        """A started delivery is over, whatever came of it. Returns what to start in its place."""
        key = (delivery.instance, delivery.url)
        endpoint = self._known[key]
        endpoint.lanes.discard(delivery.lane)
        self._positions.discard(delivery.position)
        endpoint.running -= 1
        self.held -= 1
        others_wait = self.running >= self._most_running
        self.running -= 1
        self._forget_if_idle(key, endpoint)
        return self._turns([endpoint, *self._known.values()] if others_wait else [endpoint])

    def note_answer(self, delivery: Delivery, answered: bool) -> None:
        """Whether the endpoint of a running delivery answered at all. One that did not gets one attempt at a time."""
        endpoint = self._known[(delivery.instance, delivery.url)]
        endpoint.answers = answered
        if not answered:
            self._let_go(endpoint)

    def let_go(self, delivery: Delivery) -> None:
        """The endpoint of a running delivery is held: nothing that waits for it may start."""
        self._let_go(self._known[(delivery.instance, delivery.url)])

    def forget_waiting(self) -> None:
        """Let go of all that was not started."""
        for endpoint in self._known.values():
            self._let_go(endpoint)

    def _forget_if_idle(self, key: EndpointKey, endpoint: _Endpoint) -> None:
        if not endpoint.lanes and (endpoint.answers or len(self._known) > _MOST_REMEMBERED):
            del self._known[key]

    def _let_go(self, endpoint: _Endpoint) -> None:
        self.held -= len(endpoint.waiting)
        endpoint.lanes.difference_update(delivery.lane for delivery in endpoint.waiting)
        self._positions.difference_update(delivery.position for delivery in endpoint.waiting)
        endpoint.waiting.clear()

    def _takes(self, endpoint: _Endpoint, delivery: Delivery) -> bool:
        if not self.has_room or delivery.position in self._positions:
            return False
        return delivery.lane not in endpoint.lanes and len(endpoint.lanes) < self._capacity(endpoint)

    def _capacity(self, endpoint: _Endpoint) -> int:
        return _ROUNDS_HELD * self._concurrency if endpoint.answers else 1

    def _is_full(self, endpoint: _Endpoint) -> bool:
        # Asked again only when what waits would not fill the slots once more; else each read would bring a few rows.
        return len(endpoint.waiting) >= self._concurrency or len(endpoint.lanes) >= self._capacity(endpoint)

    def _turns(self, endpoints: list[_Endpoint]) -> list[Delivery]:
        started = []
        while endpoints:
            still = []
            for endpoint in endpoints:
                slots = self._concurrency if endpoint.answers else 1
                if endpoint.waiting and endpoint.running < slots and self.running < self._most_running:
                    started.append(endpoint.waiting.popleft())
                    endpoint.running += 1
                    self.running += 1
                    still.append(endpoint)
            endpoints = still
        return started
