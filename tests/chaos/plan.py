"""What will go wrong, decided beforehand by a seed: the same seed gives the same plan."""

from __future__ import annotations

import random
from dataclasses import dataclass

WIRE_FAULTS = ("no_ack", "late_ack", "drop_stanza", "drop_tcp", "no_ack_while_off")
"""Ack withheld, ack late, stanza swallowed, socket closed, ack withheld with the phones that prove it off."""

GATEWAY_POINTS = ("after_accept", "after_claim", "after_ack", "after_settle", "after_ingest")
ENGINE_POINTS = ("after_wire", "after_spool", "after_key_commit", "after_receipt")


@dataclass(frozen=True, slots=True)
class WireFault:
    """One fault of the server: for which shop and which of its chats."""

    kind: str
    shop: int
    chat: int
    ms: int


@dataclass(frozen=True, slots=True)
class Death:
    """One way to die. `point` is None for kill -9 at any moment, else a named fault point reached the nth time."""

    process: str
    """`gateway` or `engine`."""
    which: int
    """Of several engine processes, this one."""
    point: str | None
    nth: int

    @property
    def kills(self) -> int:
        """How many processes die: a fault point is armed by a restart, and an engine's takes its gateway along."""
        if self.point is None:
            return 1
        return 2 if self.process == "gateway" else 3


@dataclass(frozen=True, slots=True)
class Round:
    """Faults on the wire, some time with them, then a death."""

    faults: tuple[WireFault, ...]
    pause: float
    death: Death


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run."""

    seed: int
    shops: int
    rounds: tuple[Round, ...]

    @property
    def kills(self) -> int:
        return sum(one.death.kills for one in self.rounds)


def make_plan(seed: int, shops: int, kills: int) -> Plan:
    """A plan with at least that many kills."""
    # Not for secrets: the same seed must give the same plan.
    chance = random.Random(seed)
    rounds: list[Round] = []
    done = 0
    while done < kills:
        faults = tuple(
            WireFault(chance.choice(WIRE_FAULTS), chance.randrange(shops), chance.randrange(2), chance.randrange(2_500))
            for _ in range(chance.randrange(4))
        )
        death = _death(chance)
        rounds.append(Round(faults, round(chance.uniform(0.1, 1.5), 2), death))
        done += death.kills
    return Plan(seed, shops, tuple(rounds))


def _death(chance: random.Random) -> Death:
    process = chance.choice(["gateway", "engine", "engine"])
    if chance.random() < 0.75:
        return Death(process, chance.randrange(3), None, 0)
    points = GATEWAY_POINTS if process == "gateway" else ENGINE_POINTS
    return Death(process, 0, chance.choice(points), chance.randint(1, 12))
