"""Reading a chat costs a page, however long the chat is: the plans that SQLite makes, and PostgreSQL's with rows."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from tests.contract.makers import SHOP
from tests.contract.plans import plan_of

from wahub.adapters.sql import inbox, missed, retention, thread

_CHAT = "ix_inbox_instance_chat_key_listed_timestamp_position"
_VALUES: dict[str, object] = {
    "instance": SHOP,
    "of": SHOP,
    "key": "c_anna",
    "chat": "1@c.us",
    "ids": ["M1", "M2"],
    "message_id": "M1",
    "at": 10,
    "since": 0,
    "before": 10,
    "beyond": 10,
    "at_most": 10,
    "direct": True,
}


def values_of(statement: sa.Executable) -> dict[str, object]:
    asked = statement.compile().params  # type: ignore[attr-defined]
    values = {name: value for name, value in _VALUES.items() if name in asked}
    if statement is inbox._KNOWN["sqlite"]:
        values["ids"] = '["M1", "M2"]'
    return values | ({"beyond": "c_anna"} if statement is thread._HEADS else {})


@pytest.mark.parametrize(
    ("statement", "steps"),
    [
        (thread._HEADS, ["ix_chats_instance_last_at_key (instance=? AND last_at>? AND last_at<?)"]),
        (
            thread._RECEIVED,
            [
                f"{_CHAT} (instance=? AND chat_key=? AND listed=? AND timestamp>? AND timestamp<?)",
                "SEARCH other USING INDEX ix_inbox_instance_message_id (instance=? AND message_id=?",
                "SEARCH outbox USING INDEX sqlite_autoindex_outbox_",
            ],
        ),
        (thread._SENT.reading, ["ix_outbox_sent_to (instance=? AND chat=? AND settled_at>? AND settled_at<?)"]),
    ],
    ids=["chats", "received", "sent"],
)
def test_a_page_is_one_walk_along_an_index(sqlite_url: str, statement: sa.Executable, steps: list[str]) -> None:
    plan = plan_of(sqlite_url, statement, values_of(statement))
    for step in steps:
        assert step in plan, plan
    assert "SCAN" not in plan, plan
    # Sorting would read the whole chat first.
    assert "TEMP B-TREE" not in plan, plan


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (thread._DONE, "ix_inbox_target "),
        (thread._AUTHORS, "ix_inbox_instance_message_id "),
        (thread._PEOPLE, "sqlite_autoindex_people_1 "),
        (missed._COUNT_OF, "ix_inbox_instance_message_id "),
        (missed._IS_HERE, "ix_inbox_instance_message_id "),
        (inbox._GUARDS, "USING COVERING INDEX"),
        (inbox._KNOWN["sqlite"], "ix_inbox_instance_message_id (instance=? AND message_id=?)"),
        (retention._OLDEST, "ix_inbox_instance_received_at (instance=? AND received_at>? AND received_at<?)"),
        (retention._OLD_MESSAGE, "ix_inbox_instance_received_at (instance=? AND received_at<?)"),
        (retention._FORGET, "ix_inbox_instance_received_at (instance=? AND received_at<?)"),
        (retention._FORGET_CHATS, "ix_chats_instance_last_at_key (instance=? AND last_at<?)"),
        (retention._FORGET_MISSED, "ix_missed_instance_at (instance=? AND at<?)"),
    ],
    ids=[
        "done to",
        "authors",
        "people",
        "unreadable",
        "is here",
        "guards",
        "known",
        "oldest",
        "old",
        "forget",
        "chats",
        "missed",
    ],
)
def test_what_is_looked_up_has_an_index(sqlite_url: str, statement: sa.Executable, index: str) -> None:
    plan = plan_of(sqlite_url, statement, values_of(statement))
    assert index in plan, plan
    for table in ("inbox", "outbox", "people", "chats", "missed"):
        assert f"SCAN {table}" not in plan, plan


@pytest.mark.postgres
def test_postgresql_walks_the_index_backwards(shared_postgres_url: str) -> None:
    dialect: Any = postgresql.dialect(paramstyle="pyformat")  # type: ignore[no-untyped-call]
    compiled = thread._RECEIVED.compile(dialect=dialect)
    with psycopg.connect(shared_postgres_url) as connection:
        connection.execute(
            "INSERT INTO instances (id, created_at, deleting, sequence, name, webhook_events, typing_enabled,"
            " apply_typing_to, state, state_at, restart_attempts)"
            " VALUES ('shop', 1, false, 0, 'shop', '[]', false, '[]', 'ready', 1, 0)"
        )
        connection.execute(
            "INSERT INTO inbox (instance, chat, sender, message_id, from_me, type, text, timestamp, received_at,"
            " chat_key, author_key, listed)"
            " SELECT 'shop', '1@lid', '1@lid', 'M' || n, false, 'text', 'hi', n, n, 'c_anna', 'c_anna', n % 10 = 0"
            " FROM generate_series(1, 20000) AS n"
        )
        connection.execute("ANALYZE inbox")
        values = {**_VALUES, "at": 15_000}
        rows = connection.execute(f"EXPLAIN {compiled}", {name: values[name] for name in compiled.params})
        plan = "\n".join(row[0] for row in rows)
        connection.rollback()
    assert f"Index Scan Backward using {_CHAT}" in plan, plan
    assert "Seq Scan on inbox" not in plan, plan
    assert "Sort" not in plan, plan
