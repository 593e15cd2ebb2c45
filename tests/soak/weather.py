"""What goes wrong during a soak, decided beforehand by a seed: the same seed gives the same storm."""

from __future__ import annotations

import random
from dataclasses import dataclass

STREAM_ERRORS = (408, 428, 500, 503, 515)
LINK_FAULTS = ("drop", "silent", "deaf", "mute", "slow", *(f"stream_{code}" for code in STREAM_ERRORS))
"""Of a live socket. `silent` and `deaf`: half open."""
MESSAGE_FAULTS = ("ack_error", "no_ack", "late_ack", "drop_stanza", "duplicate")
OTHERS = ("phone_off", "server_gone")
DEATH = "engine_death"
EVERY = 2.0
"""Seconds between two troubles, on average."""
_HEALS_IN = {"silent": 40.0, "deaf": 70.0, "mute": 40.0, "server_gone": 30.0, "phone_off": 25.0}
"""Seconds before the end of a storm in which this is not begun any more: what shows late heals late. A dead link shows
by its pings (`LINK_KEEP_ALIVE_MS` in part.py)."""
_SETTLES_IN = 15.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that goes wrong, `at` so many seconds into the storm; `ms` says how long, or how late."""

    at: float
    kind: str
    shop: int
    chat: int
    ms: int


def make_storm(seed: int, seconds: float, shops: int, *, deaths: int) -> tuple[Trouble, ...]:
    """A storm over so many shops, in which engine processes die so many times."""
    # Not for secrets: the same seed must give the same storm.
    chance = random.Random(seed)
    kinds = (*LINK_FAULTS, *MESSAGE_FAULTS, *MESSAGE_FAULTS, *OTHERS)
    storm = [_trouble(chance, DEATH, chance.uniform(0.1, 0.7) * seconds, shops) for _ in range(deaths)]
    at = chance.expovariate(1 / EVERY)
    while at < seconds - _SETTLES_IN:
        fitting = [kind for kind in kinds if at < seconds - _HEALS_IN.get(kind, 0.0)]
        storm.append(_trouble(chance, chance.choice(fitting), at, shops))
        at += chance.expovariate(1 / EVERY)
    return tuple(sorted(storm, key=lambda trouble: trouble.at))


def _trouble(chance: random.Random, kind: str, at: float, shops: int) -> Trouble:
    lasts = {"slow": (50, 800), "late_ack": (100, 6_000), "phone_off": (1_000, 15_000), "server_gone": (500, 8_000)}
    low, high = lasts.get(kind, (0, 0))
    return Trouble(round(at, 3), kind, chance.randrange(shops), chance.randrange(2), chance.randint(low, high))
