"""Backoff policies: they compute, they never wait."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff: the n-th wait (from 1) is `min(base * 2**(n - 1), cap)` seconds."""

    base: float
    cap: float

    def delay(self, attempt: int) -> float:
        """Seconds to wait before trying again after the `attempt`-th failure (1, 2, …)."""
        # Past 2**40 every cap is reached; the bound keeps a huge count from overflowing a float.
        doublings = min(max(attempt - 1, 0), 40)
        return float(min(self.base * 2**doublings, self.cap))

    def jittered(self, attempt: int, unit: float) -> float:
        """The delay moved by up to a quarter of itself either way; `unit` is a random number in [0, 1)."""
        return self.delay(attempt) * (1 + 0.25 * (2 * unit - 1))


@dataclass(frozen=True, slots=True)
class ReconnectLadder:
    """How long to wait before the n-th attempt to get a link back (contract 0.12); seconds.

    The first `fast` waits are `base` doubling (1, 2, 4, 8, 16 s). After that attempts go on for ever, from 30 times
    the base rising to `cap`, moved by up to a quarter either way so that many links do not return in one burst.
    """

    base: float = 1.0
    cap: float = 300.0
    fast: int = 5

    def delay(self, attempt: int, unit: float) -> float:
        """Seconds before attempt 1, 2, …; `unit` is a random number in [0, 1)."""
        if attempt <= self.fast:
            return Backoff(self.base, self.cap).delay(attempt)
        return Backoff(self.base * 30, self.cap).jittered(attempt - self.fast, unit)
