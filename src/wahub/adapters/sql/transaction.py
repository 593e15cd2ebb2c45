"""One transaction, as the port shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from wahub.adapters.sql import lease as lease_rows
from wahub.adapters.sql.chats import SqlChats
from wahub.adapters.sql.contacts import SqlContacts
from wahub.adapters.sql.dead import SqlDeadLetters
from wahub.adapters.sql.endpoint import SqlEndpoints
from wahub.adapters.sql.event import SqlEvents
from wahub.adapters.sql.inbox import SqlInbox
from wahub.adapters.sql.instance import SqlInstances
from wahub.adapters.sql.keys import SqlOutboxKeys
from wahub.adapters.sql.lease import SqlLeases
from wahub.adapters.sql.lifecycle import SqlLifecycles
from wahub.adapters.sql.line import SqlLine
from wahub.adapters.sql.media import SqlMediaFiles
from wahub.adapters.sql.missed import SqlMissed
from wahub.adapters.sql.outbox import SqlOutbox
from wahub.adapters.sql.people import SqlPeople
from wahub.adapters.sql.place import SqlPlaces
from wahub.adapters.sql.retention import SqlRetention
from wahub.adapters.sql.runner import Runner
from wahub.adapters.sql.session import SqlSessions
from wahub.adapters.sql.tally import SqlTally
from wahub.adapters.sql.thread import SqlThreads
from wahub.adapters.sql.webhook import SqlWebhooks
from wahub.domain.lease import Lease
from wahub.ports.events import DeadLetters, Endpoints, Events, Places
from wahub.ports.media import MediaFiles
from wahub.ports.messages import Chats, Inbox, People
from wahub.ports.store import (
    Contacts,
    Instances,
    Leases,
    Lifecycles,
    Line,
    Outbox,
    OutboxKeys,
    Sessions,
    Tally,
    Webhooks,
)
from wahub.ports.threads import MissedMessages, Retention, Threads

P = TypeVar("P")


class _Part(Generic[P]):
    """A part of the transaction, made when it is first asked for: most functions need a few of them."""

    def __init__(self, make: Callable[[Runner], P]) -> None:
        self._make = make

    def __set_name__(self, owner: type[SqlTx], name: str) -> None:
        self._name = name

    def __get__(self, tx: SqlTx, owner: type[SqlTx]) -> P:
        # In the object's own dictionary it comes before this descriptor.
        part = tx.__dict__[self._name] = self._make(tx._runner)
        return part


class SqlTx:
    """ports.store.Tx. Whoever opened the transaction calls `end()` after the function."""

    instances = _Part[Instances](SqlInstances)
    lifecycles = _Part[Lifecycles](SqlLifecycles)
    leases = _Part[Leases](SqlLeases)
    outbox = _Part[Outbox](SqlOutbox)
    line = _Part[Line](SqlLine)
    keys = _Part[OutboxKeys](SqlOutboxKeys)
    tally = _Part[Tally](SqlTally)
    contacts = _Part[Contacts](SqlContacts)
    inbox = _Part[Inbox](SqlInbox)
    people = _Part[People](SqlPeople)
    chats = _Part[Chats](SqlChats)
    threads = _Part[Threads](SqlThreads)
    missed = _Part[MissedMessages](SqlMissed)
    retention = _Part[Retention](SqlRetention)
    media = _Part[MediaFiles](SqlMediaFiles)
    events = _Part[Events](SqlEvents)
    places = _Part[Places](SqlPlaces)
    webhooks = _Part[Webhooks](SqlWebhooks)
    endpoints = _Part[Endpoints](SqlEndpoints)
    dead = _Part[DeadLetters](SqlDeadLetters)
    sessions = _Part[Sessions](SqlSessions)

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def fence(self, lease: Lease) -> None:
        lease_rows.fence(self._runner, lease)

    def end(self) -> None:
        self._runner.end()
