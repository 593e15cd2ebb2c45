"""What will go wrong with what comes in, decided beforehand by a seed: the same seed gives the same plan."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tests.chaos.plan import Death

TROUBLES = ("duplicate", "reorder", "corrupt", "drop", "drop_receipt", "lose")
"""Of what WhatsApp delivers: twice, overtaken by the next, unreadable, socket closed instead of it, socket closed
instead of its receipt, and not delivered before the next login."""

POINTS = ("after_spool", "after_key_commit", "after_receipt", "after_ingest")
IN_GATEWAY = ("after_ingest",)

HOUR = (1_200, 2_400, 3_600)
"""Seconds by which the clock stands ahead after each of three restarts."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One fault of the server with the nth thing from now on that fits, for one shop."""

    kind: str
    shop: int
    nth: int


@dataclass(frozen=True, slots=True)
class InboundRound:
    """So many things that people send to each shop, a few seconds into which somebody dies.

    `armed`: so many more are sent when the fault point lies in wait. `settled`: begin when all that was sent before is
    through both processes, so that it is known what meets the death.
    """

    acts: int
    armed: int = 0
    settled: bool = False
    troubles: tuple[Trouble, ...] = ()
    pause: float = 0.0
    death: Death | None = None


@dataclass(frozen=True, slots=True)
class InboundPlan:
    """A whole run. `hour`: the outage of the receiver after half of the rounds, in steps of the clock; () for none."""

    seed: int
    shops: int
    rounds: tuple[InboundRound, ...]
    hour: tuple[int, ...] = ()
    customers: int = 3
    engines: int = 3
    moody: bool = True
    """The receiver fails at random."""
    last_restart: bool = True
    """Both processes begin anew before the ledgers are read, so that what was left lying comes again."""

    @property
    def kills(self) -> int:
        """How many processes die, if each fault point is reached."""
        return sum(one.death.kills for one in self.rounds if one.death) + len(self.hour)


def make_inbound_plan(
    seed: int, shops: int, kills: int, acts: int, *, hour: tuple[int, ...] = HOUR, engines: int = 3
) -> InboundPlan:
    """A plan with at least so many kills, and at least so many things sent in all."""
    # Not for secrets: the same seed must give the same plan.
    chance = random.Random(seed)
    deaths: list[Death] = []
    while sum(death.kills for death in deaths) + len(hour) < kills:
        deaths.append(_death(chance, engines))
    each = -(-acts // (shops * len(deaths)))
    rounds = []
    for drawn in deaths:
        armed = each // 2 if drawn.point else 0
        # One engine in so many gets the nth: with twice as many it is there.
        death = replace(drawn, nth=min(drawn.nth, max(armed * shops // (2 * engines), 1)))
        pause = round(chance.uniform(0.1, 2.0), 2)
        rounds.append(InboundRound(each - armed, armed, troubles=_troubles(chance, shops), pause=pause, death=death))
    return InboundPlan(seed, shops, tuple(rounds), hour, engines=engines)


def _troubles(chance: random.Random, shops: int) -> tuple[Trouble, ...]:
    count = chance.randrange(1 + max(shops // 2, 2))
    return tuple(Trouble(chance.choice(TROUBLES), chance.randrange(shops), chance.randint(1, 3)) for _ in range(count))


def _death(chance: random.Random, engines: int) -> Death:
    if chance.random() < 0.45:
        return Death(chance.choice(("gateway", "engine", "engine")), chance.randrange(engines), None, 0)
    point = chance.choice(POINTS)
    return Death("gateway" if point in IN_GATEWAY else "engine", 0, point, chance.randint(1, 9))
