"""All sessions with one device: the open one, and closed ones that may still get late messages.

Two devices that write to each other at the same time begin two sessions; each side closes its own in favour of the
other's, and both keep reading both (source: libsignal src/session_record.js and `initIncoming`). Trying a session in
vain does not change it; the library that Baileys uses steps its ratchet all the same, so such a start ends in a retry.
"""

from __future__ import annotations

from typing import Any

from wahub.sandbox.signal.session import Session

MAX_SESSIONS = 40


class SessionRecord:
    """Sessions with one device, most recently used first."""

    __slots__ = ("sessions",)

    def __init__(self) -> None:
        self.sessions: list[Session] = []

    @property
    def open(self) -> Session | None:
        """The session that new messages are written with."""
        return next((session for session in self.sessions if not session.closed), None)

    def begun_by_them(self, base_key: bytes) -> Session | None:
        """The session that the other device began under this base key, if we have it."""
        found = (s for s in self.sessions if not s.started_by_us and s.base_key == base_key)
        return next(found, None)

    def add(self, session: Session) -> None:
        """Make `session` the open one; the present open one is closed, the least used beyond the limit forgotten."""
        self.close()
        self.sessions.insert(0, session)
        del self.sessions[MAX_SESSIONS:]

    def close(self) -> None:
        """Close the open session; it still reads late messages, but writes no more."""
        for session in self.sessions:
            session.closed = True

    def promote(self, session: Session) -> None:
        """`session` read a message: try it first and write with it, so that two sessions begun at once become one.

        Source: Signal's own library (`promote_state`), which phones use; the one Baileys uses leaves it closed.
        """
        if self.sessions[0] is session and not session.closed:
            return
        self.close()
        session.closed = False
        self.sessions.remove(session)
        self.sessions.insert(0, session)

    def dump(self) -> list[dict[str, Any]]:
        """The state as plain values."""
        return [session.dump() for session in self.sessions]

    @classmethod
    def load(cls, state: list[dict[str, Any]]) -> SessionRecord:
        """Rebuild a record from `dump`."""
        record = cls()
        record.sessions = [Session.load(one) for one in state]
        return record
