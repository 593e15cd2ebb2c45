"""The store: everything that must survive `kill -9`.

A *transaction is a function*: `Database.write(work)` runs `work(tx)` and commits; if it raises, nothing of it is
kept and the exception comes back. `work` is synchronous, must depend only on `tx` and its arguments, and may be run
again after a conflict. Several writes may share one commit on disk; each still stands or falls alone.

Whoever acts for a link calls `tx.fence(lease)` first: it raises StaleLeaseError unless the term is still the current
one, and keeps it current until the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from wahub.domain.ids import InstanceId, MessageId, QueueId, WorkerId
from wahub.domain.instance import Instance, State
from wahub.domain.lease import Lease
from wahub.domain.lifecycle import Incident, Lifecycle
from wahub.domain.outbox import Entry, IdempotencyKey, ItemState
from wahub.domain.session import KeyChanges, KeyName
from wahub.domain.webhook import Delivery
from wahub.ports.events import DeadLetters, Endpoints, Events, Places
from wahub.ports.media import MediaFiles
from wahub.ports.messages import Chats, Inbox, People
from wahub.ports.threads import MissedMessages, Retention, Threads

T = TypeVar("T")


class Instances(Protocol):
    """Instances. Anyone may read; the lease holder writes `observed`, callers' requests write `config`."""

    def get(self, instance: InstanceId, *, for_update: bool = False) -> Instance | None:
        """The record, locked against other writers until commit when `for_update`."""

    def list(self) -> Sequence[Instance]:
        """All, by creation."""

    def count(self) -> Mapping[State, int]:
        """How many there are in each state in which there is any; those that are being deleted are left out."""

    def add(self, instance: Instance) -> None:
        """Insert; InstanceExistsError if the id is taken."""

    def save(self, instance: Instance) -> None:
        """Write every column of an existing record (get it `for_update` first)."""

    def shed(self, instance: InstanceId, limit: int) -> int:
        """Remove at most so many of its events, messages and items; returns how many. 0: `delete` is quick now."""

    def delete(self, instance: InstanceId) -> None:
        """Remove the record and all that hangs on it: outbox, keys, inbox, deliveries, session material, lease."""

    def next_sequences(self, instance: InstanceId, count: int) -> int:
        """Take the next `count` numbers (at least one) of the instance's event sequence; returns the first.

        They are 1, 2, …, without gaps once committed. InstanceNotFoundError.
        """


class Lifecycles(Protocol):
    """Lifecycle records and incidents. The lease holder writes them; callers' requests write what they ask for."""

    def get(self, instance: InstanceId, *, for_update: bool = False) -> Lifecycle:
        """The record; all defaults when none was written. Locked against other writers when `for_update`."""

    def list(self) -> Sequence[Lifecycle]:
        """All records that were written."""

    def asked(self) -> Sequence[InstanceId]:
        """Instances of which a caller asked something that was not taken up yet."""

    def save(self, record: Lifecycle) -> None:
        """Write the whole record; InstanceNotFoundError when the instance is gone."""

    def add_incident(self, instance: InstanceId, incident: Incident) -> None:
        """Write an incident down, and count it in the record: what was read of that before is out of date.

        Those older than the latest hundred of the instance are forgotten; InstanceNotFoundError when it is gone.
        """

    def incidents(self, instance: InstanceId, limit: int) -> Sequence[Incident]:
        """The latest, newest first."""


class Leases(Protocol):
    """Terms. `ttl` is in seconds and measured by the store's clock (the server's on PostgreSQL)."""

    def claim(self, instance: InstanceId, worker: WorkerId, ttl: float) -> Lease | None:
        """A new term with the next epoch if there is none, it ran out, or it is this worker's own.

        None if another holds it.
        """

    def renew(self, worker: WorkerId, leases: Sequence[Lease], ttl: float) -> frozenset[InstanceId]:
        """Lengthen these terms; returns the instances whose term is still this worker's with that epoch."""

    def release(self, lease: Lease) -> None:
        """Give it up, if it is still ours. Releasing twice is fine."""


class Outbox(Protocol):
    """Entries of the outbox."""

    def add(self, entry: Entry) -> Entry:
        """Insert; returns the entry with its position."""

    def get(self, instance: InstanceId, queue_id: QueueId) -> Entry | None: ...

    def find_message(self, instance: InstanceId, message_id: MessageId) -> Entry | None:
        """The entry with that WhatsApp id."""

    def save(self, entry: Entry) -> None:
        """Write every column that may change."""

    def list(self, instance: InstanceId | None, state: ItemState | None, limit: int) -> Sequence[Entry]:
        """The latest entries, newest first, of one instance or all, in one state or any."""

    def expired(self, now: float, limit: int) -> Sequence[Entry]:
        """Queued and held entries of all instances that never were on the wire and whose `expires_at` is over."""


class Line(Protocol):
    """The live part of an instance's outbox: what waits, in the order of the line (domain/outbox.py)."""

    def unsettled(self, instance: InstanceId) -> Sequence[Entry]:
        """All entries that may still change (also unknown ones that were given up), in order of joining."""

    def going_out(self, instance: InstanceId) -> Sequence[Entry]:
        """Entries on the wire, then those of unknown fate that may still be sent again: few, however many wait."""

    def depth(self, instance: InstanceId) -> int:
        """How many entries are queued, sending, unknown (not given up) or held."""

    def depths(self) -> Mapping[InstanceId, int]:
        """The depth of each instance that has any such entry."""

    def next_due(self, instance: InstanceId, now: float) -> Entry | None:
        """The first entry that may be claimed at `now`: high priority first, then by joining.

        It has joined the line, and nothing unsettled of its chat and priority joined before it.
        """

    def next_attempt_at(self, instance: InstanceId) -> float | None:
        """The earliest time at which an entry that heads its chat and priority wants to be tried; None: none does."""

    def last_joined_at(self, instance: InstanceId) -> float:
        """When the last unsettled, unscheduled entry joined; 0 when there is none."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An idempotency key in use: what it stood for, and the entry that answered it."""

    key: IdempotencyKey
    queue_id: QueueId
    created_at: float


class OutboxKeys(Protocol):
    """Idempotency keys, unique by (instance, key), and the claims that the rate windows count."""

    def get(self, instance: InstanceId, key: str) -> KeyRecord | None: ...

    def put(self, instance: InstanceId, record: KeyRecord) -> None:
        """Insert, or point an existing key to a new entry."""

    def claims_since(self, instance: InstanceId, since: float) -> Sequence[float]:
        """Claim times after `since`, oldest first."""

    def add_claim(self, instance: InstanceId, at: float, forget_before: float) -> None:
        """Count a claim, and forget those before `forget_before`."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Figures of contract A.1 `GET …/status`, over rolling windows."""

    sent_1h: int
    sent_24h: int
    failures_1h: int
    disconnects_1h: int
    new_chats_24h: int
    """Chats whose first message ever from this instance was sent in the last 24 h."""


class Tally(Protocol):
    """Counting what happened."""

    def counters(self, instance: InstanceId, now: float) -> Counters: ...

    def add_disconnect(self, instance: InstanceId, at: float) -> None:
        """Count a lost link, and forget those older than a day."""

    def audit(self, at: float, action: str, subject: InstanceId) -> None:
        """Write down that something irreversible was done; of the subject only SHA-256 is kept (contract 0.13)."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What WhatsApp said of a number."""

    exists: bool
    checked_at: float


class Contacts(Protocol):
    """Which numbers are on WhatsApp, as it answered one instance or another."""

    def get(self, phone: str) -> Knowledge | None:
        """The last answer for these digits, however old."""

    def put(self, phone: str, knowledge: Knowledge) -> None: ...


@dataclass(frozen=True, slots=True)
class Attempted:
    """One attempt to post an event; `error` is None when it was taken."""

    event: str
    at: float
    error: str | None


class Webhooks(Protocol):
    """Deliveries of events, at most one of each."""

    def add_all(self, added: Sequence[Delivery]) -> None:
        """Insert each for the event at its position, which must be there; none of the event's own fields is written.

        There may be none, and they may be of several instances.
        """

    def due(
        self,
        now: float,
        limit: int,
        full: Collection[tuple[InstanceId, str]] = (),
        besides: Collection[int] = (),
    ) -> Sequence[Delivery]:
        """Pending deliveries that may be posted.

        The first of each (instance, url, lane), if its time has come, oldest first; of an endpoint that is held, if the
        time of its probe has come. Endpoints (instance, url) in `full` are left out: they take no more now, and must
        not fill the answer. So are positions in `besides`, which are known already; what lies behind them in their
        lanes has to wait all the same.
        """

    def next_attempt_at(self, after: float = 0.0) -> float | None:
        """The earliest time later than `after` at which a pending delivery that heads its lane may be posted."""

    def save_all(self, changed: Sequence[Delivery]) -> None:
        """Write their state, times, attempts and last_error, and the lane of one that stepped aside.

        There may be none; nothing happens to one that is gone. Once settled, one that is not in the log is removed
        together with its event.
        """

    def last_attempt(self, instance: InstanceId) -> Attempted | None:
        """What became of the latest attempt to post anything of this instance."""

    def rename_lane(self, instance: InstanceId, old: str, new: str) -> None:
        """What waits in one lane waits in the other: two chats turned out to be one."""

    def supersede(self, instance: InstanceId, event: str) -> int:
        """Drop pending deliveries of that event (a `qr` dies with its code); returns how many."""

    def forget_settled(self, before: float) -> int:
        """Remove delivered rows older than that; returns how many."""


class Sessions(Protocol):
    """Session material: opaque values by (instance, kind, id)."""

    def read(self, instance: InstanceId, names: Iterable[KeyName]) -> Mapping[KeyName, bytes]: ...

    def write(self, instance: InstanceId, changes: KeyChanges) -> None: ...

    def purge(self, instance: InstanceId) -> int:
        """Remove all of it; returns how many entries there were."""


class Tx(Protocol):
    """One transaction, alive only inside the function that got it."""

    instances: Instances
    lifecycles: Lifecycles
    leases: Leases
    outbox: Outbox
    line: Line
    keys: OutboxKeys
    tally: Tally
    contacts: Contacts
    inbox: Inbox
    people: People
    chats: Chats
    threads: Threads
    missed: MissedMessages
    retention: Retention
    media: MediaFiles
    events: Events
    places: Places
    webhooks: Webhooks
    endpoints: Endpoints
    dead: DeadLetters
    sessions: Sessions

    def fence(self, lease: Lease) -> None:
        """StaleLeaseError unless this is the current term of its instance; holds it until commit."""


class Database(Protocol):
    """A place to run transactions. All methods may be called from one event loop only."""

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run and commit durably. Cancelling the caller does not undo the work."""

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run on one consistent snapshot; writing is an error."""

    async def close(self) -> None:
        """Finish what is under way, then close. Closing twice is fine."""
