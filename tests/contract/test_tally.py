"""Figures over rolling windows, the audit, and what is known of numbers."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import replace
from typing import Any

import psycopg
from tests.contract.makers import SHOP, START, HandClock, add_entries, add_instance, make_entry, sending

from wahub.adapters.sql.database import open_database
from wahub.domain.ids import InstanceId
from wahub.domain.outbox import Entry, ItemState, settle
from wahub.ports.store import Counters, Database, Knowledge

HOUR, DAY = 3_600.0, 86_400.0
ANNA, BELA, CARL = "4915551230001", "4915551230002", "4915551230003"


def _sent(number: int, chat: str, ago: float, **changes: Any) -> Entry:
    return settle(sending(make_entry(number, chat, **changes)), ItemState.SENT, START - ago)


async def _counters(store: Database) -> Counters:
    return await store.read(lambda tx: tx.tally.counters(SHOP, START))


async def test_an_instance_without_history_counts_nothing(store: Database) -> None:
    await add_instance(store)
    assert await _counters(store) == Counters(0, 0, 0, 0, 0)


async def test_sent_and_failed_entries_are_counted_by_when_they_settled(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    await add_entries(
        store,
        _sent(1, ANNA, 0),
        _sent(2, ANNA, HOUR - 1),
        _sent(3, ANNA, HOUR),
        _sent(4, ANNA, DAY - 1),
        _sent(5, ANNA, DAY),
        _sent(6, ANNA, 0, instance=InstanceId("other")),
        settle(make_entry(7), ItemState.FAILED, START - HOUR + 1, "no"),
        settle(make_entry(8), ItemState.FAILED, START - HOUR, "no"),
        settle(make_entry(9), ItemState.CANCELLED, START),
        settle(make_entry(10), ItemState.EXPIRED, START),
        make_entry(11),
        # Imported: sent, but not by us.
        replace(_sent(12, BELA, 5), claimed_at=None),
    )
    counted = await _counters(store)
    assert (counted.sent_1h, counted.sent_24h, counted.failures_1h) == (2, 4, 1)


async def test_a_chat_is_new_when_its_first_message_was_sent_today(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    await add_entries(
        store,
        _sent(1, ANNA, DAY + 5),
        _sent(2, ANNA, 5),
        _sent(3, BELA, 10),
        _sent(4, BELA, 5),
        _sent(5, CARL, 5, instance=InstanceId("other")),
        settle(make_entry(6, CARL), ItemState.FAILED, START, "no"),
    )
    assert (await _counters(store)).new_chats_24h == 1
    # Another instance wrote to Carl before: to this one he is new all the same.
    await add_entries(store, _sent(7, CARL, 1))
    assert (await _counters(store)).new_chats_24h == 2


async def test_lost_links_are_counted_and_forgotten(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    for ago in (DAY + 1, HOUR, HOUR - 1, 0):
        await store.write(lambda tx, ago=ago: tx.tally.add_disconnect(SHOP, START - ago))  # type: ignore[misc]
    await store.write(lambda tx: tx.tally.add_disconnect(InstanceId("other"), START))
    assert (await _counters(store)).disconnects_1h == 2
    back_then = await store.read(lambda tx: tx.tally.counters(SHOP, START - DAY))
    assert back_then.disconnects_1h == 3, "what is older than a day is gone"


async def test_the_audit_keeps_a_hash_and_outlives_its_subject(store_url: str, clock: HandClock) -> None:
    store = open_database(store_url, clock)
    await add_instance(store)
    await store.write(lambda tx: tx.tally.audit(START, "instance_deleted", SHOP))
    await store.write(lambda tx: tx.instances.delete(SHOP))
    await store.close()
    digest = hashlib.sha256(b"shop").hexdigest()
    assert _rows(store_url, "SELECT at, action, subject FROM audit") == [(START, "instance_deleted", digest)]


def _rows(store_url: str, question: str) -> list[tuple[Any, ...]]:
    if store_url.startswith("sqlite"):
        connection = sqlite3.connect(store_url.removeprefix("sqlite:///"))
        rows = connection.execute(question).fetchall()
        connection.close()
        return rows
    with psycopg.connect(store_url) as server:
        return server.execute(question.encode()).fetchall()


async def test_what_is_known_of_a_number_is_the_last_answer(store: Database) -> None:
    assert await store.read(lambda tx: tx.contacts.get("4915551239999")) is None
    await store.write(lambda tx: tx.contacts.put("4915551239999", Knowledge(True, START)))
    assert await store.read(lambda tx: tx.contacts.get("4915551239999")) == Knowledge(True, START)
    await store.write(lambda tx: tx.contacts.put("4915551239999", Knowledge(False, START + 1.5)))
    assert await store.read(lambda tx: tx.contacts.get("4915551239999")) == Knowledge(False, START + 1.5)
    assert await store.read(lambda tx: tx.contacts.get("4915551239998")) is None
