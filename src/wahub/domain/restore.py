"""How instances come back when a worker starts (contract B.8)."""

from __future__ import annotations

from dataclasses import dataclass, field

from wahub.domain.ids import InstanceId
from wahub.domain.retry import Backoff


@dataclass(frozen=True, slots=True)
class RestorePolicy:
    """What an operator sets; seconds. The defaults suit an engine that opens sockets, not browsers."""

    concurrency: int = 4
    jitter: tuple[float, float] = (2.0, 5.0)
    """Shortest and longest rest of a place in the row, from one start to the next."""
    cooldown: float | None = None
    """A fixed rest instead, from the end of one start to the next one."""
    min_free_mb: float = 100.0
    floor_patience: float = 300.0
    """Below the memory floor for longer than this: go on, with a warning."""
    max_attempts: int = 5
    backoff: Backoff = field(default_factory=lambda: Backoff(15.0, 120.0))
    patience: float = 60.0
    """How long a start waits for one instance before it counts as attempted."""


@dataclass(frozen=True, slots=True)
class RestoreItem:
    """One instance in the row: `kind` is `restore` or `retry`; `attempts` that failed so far."""

    kind: str
    instance: InstanceId
    attempts: int


@dataclass(frozen=True, slots=True)
class RestoreQueue:
    """The row as it stands; `free_mb` is None where the system does not say."""

    waiting: tuple[RestoreItem, ...] = ()
    processing: int = 0
    last_processed_at: float | None = None
    free_mb: float | None = None
    min_free_mb: float = 0.0
