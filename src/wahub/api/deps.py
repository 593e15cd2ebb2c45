"""What the edge needs from the rest of the gateway, bundled once by the composition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from wahub.domain.errors import NoMediaError
from wahub.domain.ids import InstanceId, MessageId
from wahub.domain.instance import Instance
from wahub.domain.pacing import Pace, TypingPolicy
from wahub.domain.restore import RestoreQueue
from wahub.ports.clock import Clock
from wahub.ports.store import Database
from wahub.ports.wakeup import Wakeup
from wahub.services.media import Ready
from wahub.services.outbox import QueueLimits
from wahub.services.webhook import Tried


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """The settings of the edge. Times are seconds, sizes bytes."""

    version: str
    api_key: str | None = field(default=None, repr=False)
    admin_secret: str | None = field(default=None, repr=False)
    """What the debug and system routes ask for on top of the key (ADMIN_DEBUG_SECRET); None: nothing."""
    open_to_network: bool = False
    """Without a key: whoever reaches us may call (ALLOW_NO_AUTH on another address than loopback)."""
    production: bool = False
    """Hide the text of unhandled errors."""
    block_private: bool = False
    """Refuse webhook targets on loopback and private addresses."""
    limits: QueueLimits = field(default_factory=QueueLimits)
    pace: Pace = field(default_factory=Pace)
    typing: TypingPolicy = field(default_factory=TypingPolicy)
    """Both are what the send loop goes by: the queue's times are forecast from them."""
    ready_watchdog_ms: int = 600_000
    restart_window: float = 600.0
    """How far the count of restarts looks back."""
    pairing_wait: float = 25.0
    """How long a request for a pairing code waits for the worker's answer."""
    delete_wait: float = 15.0
    """How long DELETE waits until everything is gone, before it says so in `warnings`."""
    max_body: int = 1_048_576
    secret_overlap: float = 86_400.0
    """How long the secret before stays live when an instance gets another."""
    messages_kept: float | None = 30 * 86_400.0
    """Messages of ours that are older are not shown; None: all are."""
    store_patience: float = 5.0
    """How long a health check waits for the store."""


GetMedia = Callable[[InstanceId, MessageId], Awaitable[Ready]]


async def _no_media(_instance: InstanceId, _message: MessageId) -> Ready:
    raise NoMediaError


def _nothing(_point: str) -> None:
    """The fault hook outside of tests."""


@dataclass(frozen=True, slots=True)
class ApiDeps:
    """Ports and settings of the edge."""

    database: Database
    clock: Clock
    wakeup: Wakeup
    settings: ApiSettings
    engine_healthy: Callable[[], bool]
    """Whether every engine process that should run is running."""
    engine_processes: Callable[[], int] = lambda: 0
    """How many engine processes run."""
    engine_heap_bytes: Callable[[], int] = lambda: 0
    """What the engine processes said last of the heaps they use, garbage included."""
    engine_handles: Callable[[], int] = lambda: 0
    """The same of the timers, sockets and pipes that they hold."""
    restore_queue: Callable[[], RestoreQueue] = RestoreQueue
    """The row of instances that wait to come back, as it stands."""
    loop_lag_ms: Callable[[], float] = lambda: 0.0
    """How late the event loop of this process was lately, at worst."""
    post_test: Callable[[Instance, str], Awaitable[Tried | None]] | None = None
    """Posts `webhook_test` with that event id now; None where nothing is posted."""
    get_media: GetMedia = _no_media
    """Gives the file of a message, fetched if need be; raises CallerErrors, MediaBrokenError, MediaUnavailableError."""
    stopping: Callable[[], bool] = lambda: False
    """Whether the gateway is about to end: streams end then."""
    fault: Callable[[str], None] = _nothing
    """Called at `after_accept`; kills the process in tests that ask for it (contract 0.11)."""
