"""A database of an older version, with rows in it, is brought up to date and loses nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from tests.contract.makers import SHOP, START, HandClock, add_entries, make_entry

from wahub.adapters.sql import migrate, postgres, sqlite, url
from wahub.adapters.sql.database import open_database
from wahub.domain.errors import IllegalTransitionError
from wahub.domain.instance import State
from wahub.domain.outbox import Audience, DeliveryMark, ItemState, Priority

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


@pytest.fixture
def first_schema(store_url: str) -> Iterator[str]:
    """The URL of a database as the first version left it."""
    parsed = url.parse(store_url)
    engine = sqlite.make_engine(parsed) if parsed.get_backend_name() == "sqlite" else postgres.make_engine(parsed)
    migrate.upgrade(engine, "0001")
    with engine.begin() as connection:
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
    engine.dispose()
    return store_url


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
    assert await store.write(lambda tx: tx.instances.next_sequence(SHOP)) == 42
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
