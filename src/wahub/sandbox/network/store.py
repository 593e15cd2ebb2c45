"""The state file (`--state`): one SQLite table of named rows, written as the state changes.

What is promised: whatever a client, a phone or a caller of the control API was told is in the file. Rows written
while one stanza is handled are committed together, before any byte that follows from them leaves (`commit` is called
by the writer of each socket, before each answer of the control API and at the end of each turn of the event loop). So a
`kill -9` loses only what nobody has heard of. What a phone makes of one stanza (the message it read, the mail it took,
the receipt it gave) is one commit (`together`), so a kill never leaves a part of it. Not promised: surviving a power
cut (`synchronous=OFF`), media, statistics, the trace, armed faults.

Without `--state` nothing is even serialised: callers ask `durable` first.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class StateFileError(Exception):
    """The state file cannot be used; the text says why and what helps."""


class Store:
    """Rows by key. With no path it forgets everything, and `durable` is False. It is also a `phone.journal.Journal`."""

    def __init__(self, path: Path | None) -> None:
        self.durable = path is not None
        self._dirty = False
        self._held = 0
        self._database = None if path is None else _open(path)

    def put(self, key: str, value: bytes) -> None:
        """Write a row."""
        if self._database is not None:
            self._changing()
            self._database.execute("INSERT OR REPLACE INTO row (key, value) VALUES (?, ?)", (key, value))

    def put_values(self, key: str, values: Any) -> None:
        """Write a row of plain values (dict, list, str, bytes, int, float, bool, None)."""
        if self._database is not None:
            self.put(key, _encode(values))

    def delete(self, key: str) -> None:
        """Remove a row; nothing happens when there is none."""
        if self._database is not None:
            self._changing()
            self._database.execute("DELETE FROM row WHERE key = ?", (key,))

    def delete_below(self, prefix: str) -> None:
        """Remove every row whose key starts with `prefix`."""
        if self._database is not None:
            self._changing()
            self._database.execute("DELETE FROM row WHERE key >= ? AND key < ?", (prefix, prefix + "\U0010ffff"))

    def rows(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Rows whose key starts with `prefix`: the rest of the key, and the value, ordered by key."""
        if self._database is None:
            return
        query = "SELECT key, value FROM row WHERE key >= ? AND key < ? ORDER BY key"
        for key, value in self._database.execute(query, (prefix, prefix + "\U0010ffff")).fetchall():
            yield key[len(prefix) :], value

    def values(self, prefix: str) -> Iterator[tuple[str, Any]]:
        """Rows written by `put_values`."""
        for rest, value in self.rows(prefix):
            yield rest, _decode(value)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Everything that is written in this block, which must not await, is committed at its end and not before."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self.commit()

    def commit(self) -> None:
        """Make everything since the last commit durable, all or nothing; inside `together` its end does so."""
        if self._dirty and not self._held and self._database is not None:
            self._database.execute("COMMIT")
            self._dirty = False

    def close(self) -> None:
        """Commit and close the file."""
        if self._database is not None:
            self.commit()
            self._database.close()
            self._database = None
            self.durable = False

    def _changing(self) -> None:
        if self._dirty:
            return
        assert self._database is not None
        self._database.execute("BEGIN IMMEDIATE")
        self._dirty = True
        _at_end_of_turn(self.commit)


def _at_end_of_turn(commit: Callable[[], None]) -> None:
    """Changes that no socket waits for (control API, phone to phone) are committed when the loop comes round."""
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop().call_soon(commit)


def _open(path: Path) -> sqlite3.Connection:
    try:
        database = sqlite3.connect(path, isolation_level=None, timeout=2)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=OFF")
        database.execute("PRAGMA locking_mode=EXCLUSIVE")
        database.execute("CREATE TABLE IF NOT EXISTS row (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
        database.execute("BEGIN IMMEDIATE")
        database.execute("COMMIT")
    except sqlite3.Error as error:
        raise StateFileError(f"state file {path} cannot be used ({error}); name another with --state") from error
    return database
