"""What every loop of the runtime needs, bundled once by the composition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from wahub.domain.ids import WorkerId
from wahub.domain.outbox import SendPolicy
from wahub.domain.pacing import Pace
from wahub.domain.retry import ReconnectLadder
from wahub.ports.clock import Clock
from wahub.ports.engine import Engine
from wahub.ports.store import Database
from wahub.ports.wakeup import Wakeup


def no_faults(_point: str) -> None:
    """The production fault hook: nothing ever happens."""


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """Figures of the loops; seconds."""

    worker: WorkerId
    lease_ttl: float = 25.0
    lease_renew_every: float = 15.0
    poll_every: float = 4.0
    """How often the supervisor looks for changes nobody hinted at."""
    restore_concurrency: int = 4
    restore_jitter: tuple[float, float] = (2.0, 5.0)
    restore_patience: float = 60.0
    """How long a start waits for one instance before it counts as attempted."""
    replaced_pause: float = 60.0
    """After another client took the session over, wait at least this long (contract B.6, code 440)."""
    drain_patience: float = 30.0
    """If the engine never says that the offline queue is drained, take it as drained after this long."""
    stop_patience: float = 20.0
    """How long a stop waits for the item on the wire."""
    delete_patience: float = 5.0
    """How long a delete waits for it (contract 0.13), and for a link to unlink at the server."""
    send_policy: SendPolicy = field(default_factory=SendPolicy)
    pace: Pace = field(default_factory=Pace)
    ladder: ReconnectLadder = field(default_factory=ReconnectLadder)


@dataclass(frozen=True, slots=True)
class RuntimeDeps:
    """The ports and figures that loops share."""

    database: Database
    engine: Engine
    clock: Clock
    wakeup: Wakeup
    settings: RuntimeSettings
    new_id: Callable[[], str]
    """A fresh random id (32 hex digits)."""
    random: Callable[[], float]
    """A random number in [0, 1)."""
    fault: Callable[[str], None] = no_faults
    """Called at named points; kills the process in tests that ask for it (contract 0.11)."""
