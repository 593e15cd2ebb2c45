"""Numbers and hidden identities (LIDs): who is who.

People know each other by number; stanzas may name either. A phone keeps its sessions by number and device, so that
both spellings of one device lead to the same session.
"""

from __future__ import annotations

import hashlib

from wahub.sandbox.model import LID_SERVER, PN_SERVER, Jid


class Directory:
    """The address book of the sandbox: every account's number and LID."""

    def __init__(self) -> None:
        self._number_by_lid: dict[str, str] = {}
        self._lid_by_number: dict[str, str] = {}
        self._hidden: set[str] = set()

    def add(self, number: str, lid: str, *, hidden: bool = False) -> None:
        """Enter an account; a hidden one is addressed by its LID alone."""
        self._number_by_lid[lid] = number
        self._lid_by_number[number] = lid
        if hidden:
            self._hidden.add(number)

    def is_hidden(self, number: str) -> bool:
        """Whether others know that number by its LID alone."""
        return number in self._hidden

    def holder(self, lid: str) -> str | None:
        """The number behind a LID."""
        return self._number_by_lid.get(lid)

    def jid_of(self, number: str, server: str) -> Jid:
        """The address of a number in one address space; by number when its LID is not known."""
        lid = self._lid_by_number.get(number) if server == LID_SERVER else None
        return Jid(number, PN_SERVER) if lid is None else Jid(lid, LID_SERVER)

    def chat_jid(self, chat: str, server: str) -> Jid:
        """The address of a chat: a number in one address space, or a group."""
        return Jid.parse(chat) if "@" in chat else self.jid_of(chat, server)

    def clear(self) -> None:
        """Forget everybody."""
        self._number_by_lid.clear()
        self._lid_by_number.clear()
        self._hidden.clear()

    def number_of(self, jid: Jid, hint: str | None = None) -> str:
        """Number digits of a user; `hint` is the number JID that the stanza gave. An unknown LID stands for itself."""
        if jid.server != LID_SERVER:
            return jid.user
        known = self._number_by_lid.get(jid.user)
        if known is None and hint is not None and hint.endswith(f"@{PN_SERVER}"):
            return Jid.parse(hint).user
        return known or jid.user


def lid_for(number: str) -> str:
    """A LID of 15 digits that depends on the number alone and does not show it."""
    value = int.from_bytes(hashlib.sha256(b"wahub sandbox lid/" + number.encode()).digest()[:8], "big")
    return str(10**14 + value % (9 * 10**14))
