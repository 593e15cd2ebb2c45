"""How SQLite would answer a question."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import event

from wahub.adapters.sql import sqlite, url


def plan_of(sqlite_url: str, statement: sa.Executable, values: dict[str, object]) -> str:
    """The query plan, one step per line."""
    engine = sqlite.make_engine(url.parse(sqlite_url))

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def explain(conn: object, cursor: object, sql: str, parameters: object, *_: object) -> tuple[str, object]:
        return f"EXPLAIN QUERY PLAN {sql}", parameters

    with engine.connect() as connection:
        plan = "\n".join(str(row[-1]) for row in connection.execute(statement, values))
    engine.dispose()
    return plan
