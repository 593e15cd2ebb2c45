"""A database of an older version, with rows in it, is brought up to date and loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from tests.contract.makers import SHOP, START, HandClock, add_delivery, add_entries, make_delivery, make_entry

from wahub.adapters.sql import migrate, postgres, sqlite, url
from wahub.adapters.sql.database import open_database
from wahub.domain.errors import IllegalTransitionError
from wahub.domain.ids import InstanceId, MessageId
from wahub.domain.instance import EngineOptions, State
from wahub.domain.lifecycle import Ask, Incident, IncidentKind, Lifecycle
from wahub.domain.outbox import Audience, DeliveryMark, ItemState, Priority
from wahub.domain.session import CREDS
from wahub.domain.webhook import DeliveryState
from wahub.ports.store import Attempted, Tx

WEEK = 168 * 3_600.0
_INSTANCE = """
INSERT INTO instances (id, created_at, deleting, sequence, name, webhook_events, typing_enabled, apply_typing_to, state,
    state_at, restart_attempts)
VALUES ('shop', 1.5, false, 41, 'Shop', '[]', true, '["customer"]', 'ready', 2.5, 0)
"""
_ENTRY = """
INSERT INTO outbox (id, instance, chat, content, message_id, key, key_kind, payload_hash, created_at, state,
    next_attempt_at, attempts, on_wire, resends, deferrals, claimed_epoch, claimed_at, settled_at, delivery, last_error)
VALUES (:id, 'shop', :chat, '{"type":"text","text":"hello"}', :id, :id, 'explicit', 'h', :created_at, :state,
    :created_at, 1, :on_wire, 0, 0, :epoch, :claimed_at, :settled_at, :delivery, null)
"""
_KEY = "INSERT INTO outbox_keys VALUES ('shop', 'k', 'explicit', 'h', 'q1', 3.5)"


def _old_entry(number: int, state: str, **changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "id": f"q{number}",
        "chat": "4915551230001@c.us",
        "created_at": START + number,
        "state": state,
        "on_wire": False,
        "epoch": None,
        "claimed_at": None,
        "settled_at": None,
        "delivery": None,
    }
    return row | changes


@contextmanager
def _old_schema(store_url: str, revision: str) -> Iterator[sa.Connection]:
    """A connection to a database as that revision made it; what is written is kept."""
    parsed = url.parse(store_url)
    engine = sqlite.make_engine(parsed) if parsed.get_backend_name() == "sqlite" else postgres.make_engine(parsed)
    migrate.upgrade(engine, revision)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def first_schema(store_url: str) -> str:
    """The URL of a database as the first version left it."""
    with _old_schema(store_url, "0001") as connection:
        connection.execute(sa.text(_INSTANCE))
        for row in (
            _old_entry(1, "sent", settled_at=START + 9, claimed_at=START + 8, delivery="read", on_wire=True),
            _old_entry(2, "sending", epoch=3, claimed_at=START + 9),
            _old_entry(3, "queued"),
            _old_entry(4, "queued", chat="123-456@g.us"),
            _old_entry(5, "unknown", on_wire=True, settled_at=START + 9, claimed_at=START + 8),
        ):
            connection.execute(sa.text(_ENTRY), row)
        connection.execute(sa.text(_KEY))
    return store_url


# --- from the first version -------------------------------------------------------------------------------------------


async def test_rows_of_the_first_version_live_on(first_schema: str, clock: HandClock) -> None:
    store = open_database(first_schema, clock)
    entries = await store.read(lambda tx: list(reversed(tx.outbox.list(SHOP, None, 10))))
    assert [(entry.id, entry.state) for entry in entries] == [
        ("q1", ItemState.SENT),
        ("q2", ItemState.SENDING),
        ("q3", ItemState.QUEUED),
        ("q4", ItemState.QUEUED),
        ("q5", ItemState.UNKNOWN),
    ]
    for number, entry in enumerate(entries, start=1):
        assert entry.position == number
        assert entry.joined_at == entry.created_at == START + number
        assert entry.expires_at == START + number + WEEK
        assert (entry.priority, entry.audience, entry.scheduled, entry.typing) == (
            *(Priority.NORMAL, Audience.CUSTOMER),
            *(False, True),
        )
        assert entry.timeline == ()
    assert entries[0].delivery is DeliveryMark.READ
    found = await store.read(lambda tx: tx.instances.get(SHOP))
    assert found is not None
    assert (found.observed.state, found.unlinking) == (State.READY, False)
    assert await store.write(lambda tx: tx.instances.next_sequences(SHOP, 1)) == 42
    assert await store.read(lambda tx: tx.keys.get(SHOP, "k")) is not None
    await store.close()


async def test_the_line_goes_on_where_it_was(first_schema: str, clock: HandClock) -> None:
    store = open_database(first_schema, clock)
    assert await store.read(lambda tx: tx.line.depth(SHOP)) == 3
    assert await store.read(lambda tx: [entry.id for entry in tx.line.unsettled(SHOP)]) == ["q2", "q3", "q4", "q5"]
    due = await store.read(lambda tx: tx.line.next_due(SHOP, START + 100))
    assert due is not None
    assert due.id == "q4", "the chat of the others has an item on the wire"
    (added,) = await add_entries(store, make_entry(6))
    assert added.position == 6
    await store.close()


async def test_rules_hold_after_the_upgrade(first_schema: str, clock: HandClock) -> None:
    store = open_database(first_schema, clock)
    twin = make_entry(7, state=ItemState.SENDING, claimed_epoch=1, claimed_at=START)
    with pytest.raises(IllegalTransitionError, match=r"one_sending|outbox\.instance"):
        await add_entries(store, twin)
    await store.write(lambda tx: tx.instances.delete(SHOP))
    assert await store.read(lambda tx: tx.outbox.list(None, None, 10)) == []
    await store.close()


# --- from the second version ------------------------------------------------------------------------------------------

_OBSERVED = """
INSERT INTO instances (id, created_at, deleting, unlinking, sequence, name, webhook_events, typing_enabled,
    apply_typing_to, state, state_at, restart_attempts, phone, last_ready_at, last_disconnect_reason,
    last_disconnect_at, authenticated_at)
VALUES (:id, 100, false, false, 41, 'Shop', '["qr"]', true, '["customer"]', :state, 2.5, 0, :phone, :ready,
    :reason, :lost, :paired)
"""
_CHILDREN = [
    """
INSERT INTO outbox (id, instance, chat, content, message_id, key, key_kind, payload_hash, created_at, state,
    next_attempt_at, attempts, on_wire, resends, deferrals, priority, audience, joined_at, scheduled, typing, timeline)
VALUES ('q1', 'shop', '1@c.us', '{"type":"text","text":"hello"}', 'm1', 'k', 'explicit', 'h', 1, 'queued',
    1, 0, false, 0, 0, 'normal', 'customer', 1, false, true, '[]')
""",
    "INSERT INTO outbox_keys VALUES ('shop', 'k', 'explicit', 'h', 'q1', 3.5)",
    """
INSERT INTO inbox (instance, chat, sender, message_id, from_me, type, text, timestamp, received_at)
VALUES ('shop', '1@c.us', '1@c.us', 'm2', false, 'text', 'hi', 5, 7.5)
""",
    """
INSERT INTO deliveries (event_id, instance, event, lane, url, body, sequence, created_at, expires_at,
    next_attempt_at, state, attempts)
VALUES ('e1', 'shop', 'ready', 'lifecycle', 'http://localhost/', '{}', 1, 1, 1e9, 1, 'pending', 4)
""",
]
_LINKED, _NOT_LINKED = 150.0, None


def _seen(state: str, paired: float | None = None, **changes: object) -> dict[str, object]:
    seen: dict[str, object] = {"phone": "4915551230001", "ready": 150.0, "reason": None, "lost": None}
    return {**seen, "state": state, "paired": paired, **changes}


_LINKS = {
    "ready": (_seen("ready"), _LINKED),
    "lost since": (_seen("disconnected", reason="timed_out", lost=160.0), _LINKED),
    "paired and ready": (_seen("ready", 140.0), 140.0),
    "lost while paired": (_seen("disconnected", 140.0, reason="logged_out", lost=130.0), 140.0),
    "paired anew after a logout": (_seen("ready", reason="logged_out", lost=149.0), _LINKED),
    "logged out": (_seen("needs_qr", reason="logged_out", lost=160.0), _NOT_LINKED),
    "logged out, then given up": (_seen("failed_qr_timeout", reason="logged_out", lost=160.0), _NOT_LINKED),
    "logged out, then an error": (_seen("error", reason="logged_out", lost=160.0), _NOT_LINKED),
    "mismatch": (_seen("connecting", reason="multidevice_mismatch", lost=160.0), _NOT_LINKED),
    "asks for a scan": (_seen("needs_qr", reason="timed_out", lost=160.0), _NOT_LINKED),
    "never ready": (_seen("connecting", ready=None), _NOT_LINKED),
    "never paired": (_seen("needs_qr", phone=None, ready=None), _NOT_LINKED),
    "no number": (_seen("ready", phone=None), _NOT_LINKED),
    "left behind": (_seen("needs_qr", 140.0, reason="logged_out", lost=160.0), _NOT_LINKED),
    "scanned": (_seen("needs_qr", 140.0, reason="timed_out", lost=160.0), 140.0),
}
"""What the second version may have left of an account, and since when it counts as linked."""


@pytest.fixture
def second_schema(store_url: str) -> str:
    """The URL of a database as the second version left it."""
    with _old_schema(store_url, "0002") as connection:
        connection.execute(sa.text(_OBSERVED), {"id": "shop", **_seen("ready", 140.0)})
        for statement in _CHILDREN:
            connection.exec_driver_sql(statement)
        connection.execute(
            sa.text("INSERT INTO session_material VALUES ('shop', :kind, :id, :value)"),
            {"kind": CREDS.kind, "id": CREDS.id, "value": b"secret"},
        )
        for number, (seen, _) in enumerate(_LINKS.values()):
            connection.execute(sa.text(_OBSERVED), {"id": f"link-{number}", **seen})
    return store_url


async def test_it_is_known_which_accounts_are_linked(second_schema: str, clock: HandClock) -> None:
    store = open_database(second_schema, clock)
    found = {instance.id: instance.observed for instance in await store.read(lambda tx: tx.instances.list())}
    since = {name: found[InstanceId(f"link-{number}")].authenticated_at for number, name in enumerate(_LINKS)}
    assert since == {name: linked for name, (_, linked) in _LINKS.items()}
    await store.close()


async def test_rows_of_the_second_version_live_on(second_schema: str, clock: HandClock) -> None:
    store = open_database(second_schema, clock)
    found = await store.read(lambda tx: tx.instances.get(SHOP))
    assert found is not None
    assert (found.config.proxy, found.config.engine) == (None, EngineOptions())
    assert found.config.webhook_events == ("qr",)
    assert await store.read(lambda tx: tx.line.depth(SHOP)) == 1
    assert await store.read(lambda tx: tx.keys.get(SHOP, "k")) is not None
    assert await store.read(lambda tx: tx.sessions.read(SHOP, [CREDS])) == {CREDS: b"secret"}
    assert await store.read(lambda tx: tx.inbox.last_received_at(SHOP)) == 7.5
    assert await store.read(lambda tx: tx.lifecycles.get(SHOP)) == Lifecycle(SHOP)
    # Tried four times, but nobody wrote down when.
    assert await store.read(lambda tx: tx.webhooks.last_attempt(SHOP)) is None
    (delivery,) = await store.read(lambda tx: tx.webhooks.due(2.0, 10))
    assert (delivery.attempts, delivery.attempted_at) == (4, None)
    tried = replace(delivery, attempted_at=9.0, state=DeliveryState.DEAD, last_error="HTTP 500")
    await store.write(lambda tx: tx.webhooks.save_all([tried]))
    assert await store.read(lambda tx: tx.webhooks.last_attempt(SHOP)) == Attempted("ready", 9.0, "HTTP 500")
    assert await store.write(lambda tx: tx.instances.next_sequences(SHOP, 1)) == 42
    await store.close()


async def test_new_rows_go_with_an_instance_of_the_second_version(second_schema: str, clock: HandClock) -> None:
    store = open_database(second_schema, clock)

    def fill(tx: Tx) -> None:
        tx.lifecycles.save(Lifecycle(SHOP, asked=Ask.RETRY))
        tx.lifecycles.add_incident(SHOP, Incident(IncidentKind.BANNED, "", START))

    await store.write(fill)
    assert await store.read(lambda tx: tx.lifecycles.asked()) == [SHOP]
    await store.write(lambda tx: tx.instances.delete(SHOP))
    assert await store.read(lambda tx: tx.lifecycles.list()) == []
    assert await store.read(lambda tx: tx.lifecycles.incidents(SHOP, 10)) == []
    assert await store.read(lambda tx: tx.line.depth(SHOP)) == 0
    await store.close()


# --- from the third version -------------------------------------------------------------------------------------------

_DELIVERY = """
INSERT INTO deliveries (position, event_id, instance, event, lane, url, body, sequence, created_at, expires_at,
    next_attempt_at, state, attempts, last_error, attempted_at)
VALUES (:at, :id, 'shop', :event, :lane, 'http://localhost/hook', :body, :at, :at, 1e9, :at, :state, 1, 'HTTP 500', 5)
"""


@pytest.fixture
def third_schema(store_url: str) -> str:
    """The URL of a database as the third version left it: deliveries in every state, one of them a pairing code."""
    with _old_schema(store_url, "0003") as connection:
        connection.execute(sa.text(_OBSERVED), {"id": "shop", **_seen("ready", 140.0)})
        for at, event, lane, state in (
            (1, "message", "a", "delivered"),
            (2, "message", "a", "dead"),
            (3, "message", "a", "pending"),
            (4, "message", "b", "pending"),
            (5, "qr", "lifecycle", "pending"),
            (6, "message", "a", "pending"),
        ):
            body = f'{{"event":"{event}","instanceId":"shop","data":{{"qr":"picture {at}"}}}}'
            row = {"at": at, "id": f"e{at}", "event": event, "lane": lane, "state": state, "body": body}
            connection.execute(sa.text(_DELIVERY), row)
        connection.execute(sa.text("UPDATE instances SET sequence = 6"))
    return store_url


async def test_deliveries_of_the_third_version_go_on_and_are_in_the_log(third_schema: str, clock: HandClock) -> None:
    store = open_database(third_schema, clock)
    due = await store.read(lambda tx: tx.webhooks.due(START, 10))
    assert [(found.event_id, found.lane, found.sequence, found.attempts) for found in due] == [
        ("e3", "a", 3, 1),
        ("e4", "b", 4, 1),
    ], "the code is dead, and the lane of e6 is held by e3"
    assert due[0].body == '{"event":"message","instanceId":"shop","data":{"qr":"picture 3"}}'
    assert [found.event_id for found in await store.read(lambda tx: tx.dead.list(SHOP, 10))] == ["e2"]
    log = await store.read(lambda tx: tx.events.after(SHOP, 0, 10))
    assert [(found.sequence, found.event_id) for found in log] == [(at, f"e{at}") for at in range(1, 7)]
    assert log[4].body == '{"event":"qr","instanceId":"shop","data":{"error":"expired"}}'
    # Numbers and positions go on.
    placed = await store.write(lambda tx: add_delivery(tx, make_delivery(tx.instances.next_sequences(SHOP, 1), "c")))
    assert (placed.sequence, placed.position) == (7, 7)
    assert await store.write(lambda tx: tx.webhooks.forget_settled(6.0)) == 1
    await store.close()


_RECEIVED = """
INSERT INTO inbox (instance, chat, sender, sender_phone, message_id, from_me, type, text, timestamp, received_at)
VALUES ('shop', :chat, :sender, :phone, :id, :mine, :type, :id, :at, :at)
"""
_NUMBER, _LID, _THEIR_GROUP = "491@s.whatsapp.net", "77@lid", "1203@g.us"


@pytest.fixture
def fourth_schema(store_url: str) -> str:
    """The URL of a database as the fourth version left it, with messages."""
    rows = [
        {"chat": _NUMBER, "sender": _NUMBER, "phone": "491", "id": "M1", "at": 10},
        {"chat": _LID, "sender": _LID, "phone": "491", "id": "M2", "at": 20},
        {"chat": _THEIR_GROUP, "sender": _LID, "phone": "491", "id": "M3", "at": 30},
        {"chat": _THEIR_GROUP, "sender": "88@lid", "phone": None, "id": "M4", "at": 40, "type": "reaction"},
        {"chat": _NUMBER, "sender": "490@s.whatsapp.net", "phone": "490", "id": "M5", "at": 50, "mine": True},
        {"chat": "status@broadcast", "sender": _NUMBER, "phone": "491", "id": "M6", "at": 60},
    ]
    with _old_schema(store_url, "0004") as connection:
        connection.execute(sa.text(_OBSERVED), {"id": "shop", **_seen("ready", 140.0)})
        for row in rows:
            connection.execute(sa.text(_RECEIVED), {"mine": False, "type": "text", **row})
    return store_url


async def test_what_the_fifth_version_forgot_is_known_as_late_as_it_can_be(store_url: str, clock: HandClock) -> None:
    numbers = {"whole": [1, 2, 3], "begun": [3, 4], "holed": [1, 4], "ended": [1], "empty": []}
    event = (
        "INSERT INTO events (instance, sequence, event_id, event, body, created_at) VALUES (:of, :n, :id, 'e', '', 1)"
    )
    with _old_schema(store_url, "0005") as connection:
        for name, kept in numbers.items():
            connection.execute(sa.text(_OBSERVED), {"id": name, **_seen("ready", 140.0)})
            newest = {"whole": 3, "begun": 4, "holed": 4, "ended": 2, "empty": 2}[name]
            connection.execute(sa.text("UPDATE instances SET sequence = :n WHERE id = :id"), {"n": newest, "id": name})
            for n in kept:
                connection.execute(sa.text(event), {"of": name, "n": n, "id": f"{name}-{n}"})
    store = open_database(store_url, clock)
    forgotten = {name: await store.read(lambda tx, n=name: tx.places.forgotten(InstanceId(n))) for name in numbers}  # type: ignore[misc]
    assert forgotten == {"whole": 0, "begun": 3, "holed": 6, "ended": 8, "empty": 8}
    await store.close()


async def test_messages_of_the_fourth_version_get_their_contacts_and_chats(
    fourth_schema: str, clock: HandClock
) -> None:
    with _old_schema(fourth_schema, "head") as connection:
        chats = connection.execute(sa.text("SELECT last_at, last_message_id, last_from_me FROM chats ORDER BY last_at"))
        assert [tuple(row) for row in chats] == [(30, "M3", False), (50, "M5", True)]
    store = open_database(fourth_schema, clock)
    person = await store.read(lambda tx: tx.people.by_phone(SHOP, "491"))
    assert person is not None
    assert person == await store.read(lambda tx: tx.people.by_lid(SHOP, "77"))
    assert await store.read(lambda tx: tx.people.by_lid(SHOP, "88")) is not None
    assert await store.read(lambda tx: tx.people.by_phone(SHOP, "490")) is None
    for message_id in ("M1", "M2", "M3"):
        authors = await store.read(lambda tx, one=message_id: tx.inbox.authors_of(SHOP, MessageId(one)))  # type: ignore[misc]
        assert authors == {person.id}
    assert await store.read(lambda tx: tx.inbox.authors_of(SHOP, MessageId("M5"))) == {None}
    await store.close()


def test_the_newest_revision_is_the_one_that_the_migrations_lead_to() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    assert migrate.newest() == ScriptDirectory.from_config(config).get_current_head()
