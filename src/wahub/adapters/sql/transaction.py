"""One transaction, as the port shows it."""

from __future__ import annotations

import sqlalchemy as sa

from wahub.adapters.sql import lease as lease_rows
from wahub.adapters.sql.chats import SqlChats
from wahub.adapters.sql.codec import Codec
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
from wahub.ports.clock import Clock
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


class SqlTx:
    """ports.store.Tx. Whoever opened the transaction calls `end()` after the function."""

    __slots__ = (
        *("_runner", "contacts", "inbox", "instances", "keys", "leases", "lifecycles", "line", "outbox", "sessions"),
        *("tally", "webhooks", "events", "endpoints", "dead", "people", "chats"),
        *("threads", "missed", "retention", "media", "places"),
    )

    def __init__(self, connection: sa.Connection, clock: Clock, codec: Codec, *, writable: bool) -> None:
        runner = Runner(connection, clock, codec, writable)
        self._runner = runner
        self.instances: Instances = SqlInstances(runner)
        self.lifecycles: Lifecycles = SqlLifecycles(runner)
        self.leases: Leases = SqlLeases(runner)
        self.outbox: Outbox = SqlOutbox(runner)
        self.line: Line = SqlLine(runner)
        self.keys: OutboxKeys = SqlOutboxKeys(runner)
        self.tally: Tally = SqlTally(runner)
        self.contacts: Contacts = SqlContacts(runner)
        self.inbox: Inbox = SqlInbox(runner)
        self.people: People = SqlPeople(runner)
        self.chats: Chats = SqlChats(runner)
        self.threads: Threads = SqlThreads(runner)
        self.missed: MissedMessages = SqlMissed(runner)
        self.retention: Retention = SqlRetention(runner)
        self.media: MediaFiles = SqlMediaFiles(runner)
        self.events: Events = SqlEvents(runner)
        self.places: Places = SqlPlaces(runner)
        self.webhooks: Webhooks = SqlWebhooks(runner)
        self.endpoints: Endpoints = SqlEndpoints(runner)
        self.dead: DeadLetters = SqlDeadLetters(runner)
        self.sessions: Sessions = SqlSessions(runner)

    def fence(self, lease: Lease) -> None:
        lease_rows.fence(self._runner, lease)

    def end(self) -> None:
        self._runner.end()
