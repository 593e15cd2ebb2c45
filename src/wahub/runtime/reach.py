"""Whether WhatsApp can be reached at all: what one link learns, the others of this worker need not try (contract 0.12).

Links fail alone, or all together because the network of the worker, its proxy or the server is gone. In the second
case hundreds of ladders would knock at the same closed door, and all come back in the same second. So:

- A route (a proxy, or none) is *cut* when most links that use it fail before the encrypted handshake completes, or
  when most of them are lost within ten seconds.
- While it is cut, one link at a time goes on trying, as a probe, on a ladder of its own; the others wait for it.
- When a probe gets through, the others follow one after the other, `gap` seconds apart.

Promised: a link that fails alone is never held back. A link that somebody asks for is not held back either.

Nothing here waits: whoever wants to open a link asks `hold` how long to wait, waits that long or until it is hinted,
and asks again. Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from wahub.domain.ids import InstanceId
from wahub.domain.retry import ReconnectLadder

_MASS = 5
_MASS_WITHIN = 10.0
_SPARED_WAIT = 1.0
_PROBE_PATIENCE = 90.0
"""A probe that says nothing for this long (its instance may be gone) makes room for another."""


@dataclass(slots=True)
class _Route:
    members: set[InstanceId] = field(default_factory=set)
    missing: set[InstanceId] = field(default_factory=set)
    lost: dict[InstanceId, float] = field(default_factory=dict)
    waiting: set[InstanceId] = field(default_factory=set)
    turns: dict[InstanceId, float] = field(default_factory=dict)
    cut: bool = False
    attempts: int = 0
    probe: InstanceId | None = None
    probe_at: float = 0.0
    next_probe: float = 0.0
    next_turn: float = 0.0
    spread_until: float = 0.0


class Reach:
    """What this worker knows of its ways to WhatsApp."""

    def __init__(
        self, ladder: ReconnectLadder, gap: float, random: Callable[[], float], hint: Callable[[InstanceId], None]
    ) -> None:
        self._ladder = ladder
        self._gap = gap
        self._random = random
        self._hint = hint
        self._routes: dict[str | None, _Route] = {}
        self._route_of: dict[InstanceId, str | None] = {}

    @property
    def cut(self) -> bool:
        """Whether any route is cut."""
        return any(route.cut for route in self._routes.values())

    def join(self, instance: InstanceId, proxy: str | None) -> None:
        """This instance wants a link over that proxy (None: directly)."""
        if instance in self._route_of and self._route_of[instance] != proxy:
            self.leave(instance)
        self._route_of[instance] = proxy
        self._routes.setdefault(proxy, _Route()).members.add(instance)

    def leave(self, instance: InstanceId) -> None:
        """It wants none any more."""
        if instance not in self._route_of:
            return
        proxy = self._route_of.pop(instance)
        route = self._routes[proxy]
        for group in (route.members, route.missing, route.waiting):
            group.discard(instance)
        route.lost.pop(instance, None)
        route.turns.pop(instance, None)
        if route.probe == instance:
            route.probe = None
            self._hint_all(route)
        if not route.members:
            del self._routes[proxy]

    def hold(self, instance: InstanceId, now: float) -> float:
        """Seconds to wait before this instance may open a link; 0: now. Ask again after a hint, too."""
        route = self._route(instance)
        if route is None:
            return 0.0
        if route.cut:
            return self._hold_while_cut(route, instance, now)
        if now < route.spread_until and instance not in route.turns:
            route.turns[instance] = max(now, route.next_turn)
            route.next_turn = route.turns[instance] + self._gap
        left = route.turns.get(instance, now) - now
        if left <= 0:
            route.turns.pop(instance, None)
            return 0.0
        return left

    def _hold_while_cut(self, route: _Route, instance: InstanceId, now: float) -> float:
        if route.probe is not None and now - route.probe_at > _PROBE_PATIENCE:
            route.probe = None
        if route.probe is None and now >= route.next_probe:
            route.probe, route.probe_at = instance, now
            route.waiting.discard(instance)
            return 0.0
        if route.probe == instance:
            return 0.0
        route.waiting.add(instance)
        until = route.next_probe if route.probe is None else route.probe_at + _PROBE_PATIENCE
        return max(until - now, 0.01)

    def reached(self, instance: InstanceId, now: float) -> None:
        """Its link got through the handshake."""
        route = self._route(instance)
        if route is None:
            return
        route.missing.discard(instance)
        route.lost.pop(instance, None)
        if route.cut:
            self._open(route, now)

    def missed(self, instance: InstanceId, now: float) -> None:
        """Its link did not get through the handshake, or our own engine process was not there."""
        route = self._route(instance)
        if route is None:
            return
        route.missing.add(instance)
        if not route.cut:
            if len(route.missing) >= 2 and len(route.missing) * 2 > len(route.members):
                self._cut(route, now)
        elif route.probe == instance:
            route.attempts += 1
            route.next_probe = now + self._ladder.delay(route.attempts, self._random())
            route.probe = None
            self._hint_all(route)

    def spare(self, instance: InstanceId) -> None:
        """If it was the probe, it found nothing out: another may try."""
        route = self._route(instance)
        if route is not None and route.probe == instance:
            route.probe = None
            # Not at once: each of the others might end in the same way.
            route.next_probe = max(route.next_probe, route.probe_at + _SPARED_WAIT)
            self._hint_all(route)

    def lost(self, instance: InstanceId, now: float) -> None:
        """Its link was up and broke."""
        route = self._route(instance)
        if route is None or route.cut:
            return
        route.lost[instance] = now
        recent = {wanted: at for wanted, at in route.lost.items() if now - at <= _MASS_WITHIN}
        route.lost = recent
        if len(recent) >= _MASS and len(recent) * 2 > len(route.members):
            self._cut(route, now)

    def _cut(self, route: _Route, now: float) -> None:
        route.cut, route.attempts, route.probe = True, 1, None
        route.turns.clear()
        route.next_probe = now + self._ladder.delay(1, self._random())

    def _open(self, route: _Route, now: float) -> None:
        route.cut, route.probe = False, None
        route.missing.clear()
        route.lost.clear()
        route.next_turn = now + self._gap
        route.spread_until = now + self._gap * (len(route.members) + 1)
        self._hint_all(route)
        route.waiting.clear()

    def _hint_all(self, route: _Route) -> None:
        """They wait for the probe that just failed: now for the next one."""
        for instance in sorted(route.waiting):
            self._hint(instance)

    def _route(self, instance: InstanceId) -> _Route | None:
        return self._routes.get(self._route_of[instance]) if instance in self._route_of else None
