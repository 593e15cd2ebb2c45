"""What every loop of the runtime needs, bundled once by the composition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from wahub.domain.ids import InstanceId, QueueId, WorkerId
from wahub.domain.instance import Instance
from wahub.domain.reconnect import ReconnectPolicy
from wahub.domain.restore import RestorePolicy
from wahub.domain.watchdog import Timers
from wahub.ports.clock import Clock
from wahub.ports.engine import Engine
from wahub.ports.store import Database
from wahub.ports.wakeup import Wakeup
from wahub.services.outbox import SendRules


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
    return_gap: float = 0.25
    """Seconds between two links that return after all were cut off."""
    drain_patience: float = 30.0
    """If the engine never says that the offline queue is drained, take it as drained after this long."""
    stop_patience: float = 20.0
    """How long a stop waits for the item on the wire."""
    delete_patience: float = 5.0
    """How long a delete waits for it (contract 0.13), and for a link to unlink at the server."""
    sweep_every: float = 5.0
    """How often items whose time is over are looked for."""
    events_kept: float | None = 30 * 86_400.0
    """How long events stay in the log; None: for ever."""
    messages_kept: float | None = 30 * 86_400.0
    """How long messages and chats can be asked for; None: for ever."""
    eager_media: bool = False
    """Whether files of messages are fetched unasked (runtime/media.py)."""
    rules: SendRules = field(default_factory=SendRules)
    reconnect: ReconnectPolicy = field(default_factory=ReconnectPolicy)
    timers: Timers = field(default_factory=Timers)
    restore: RestorePolicy = field(default_factory=RestorePolicy)


Farewell = Callable[[Instance, tuple[QueueId, ...]], Awaitable[None]]
"""Posts `instance_deleted` once, best effort, with the ids of the items that were cancelled (contract 0.13)."""


async def no_farewell(_instance: Instance, _cancelled: tuple[QueueId, ...]) -> None:
    """For a runtime without webhooks."""


async def no_files(_instance: InstanceId) -> None:
    """For a runtime that keeps no files of messages."""


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
    farewell: Farewell = no_farewell
    forget_files: Callable[[InstanceId], Awaitable[None]] = no_files
    """Removes all files of messages of an instance from the disk."""
    free_memory_mb: Callable[[], float | None] = lambda: None
    """Memory that could be had now; None where the system does not say."""
    fault: Callable[[str], None] = no_faults
    """Called at named points; kills the process in tests that ask for it (contract 0.11)."""
