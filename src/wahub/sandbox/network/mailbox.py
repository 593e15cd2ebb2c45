"""What is under way to one device: stanzas stay until the device acknowledges them, so a reconnect brings them again.

A message is popped by its delivery receipt or its ack, a receipt or notification by its ack (source: Baileys
src/Socket/messages-recv.ts sends a receipt instead of an ack for a message it could read; whatsmeow receipt.go sends
both). A message that is sent again under the same id is a second entry, because its ciphertext differs.
"""

from __future__ import annotations

from collections import deque

from wahub.sandbox.node import Node

MailKey = tuple[str, str, str]


def key_of(stanza: Node) -> MailKey:
    """What an acknowledgement of this stanza will name."""
    attrs = stanza.attrs
    if stanza.tag == "receipt":
        return ("receipt", attrs.get("id", ""), f"{attrs.get('from', '')} {attrs.get('type', '')}")
    return (stanza.tag, attrs.get("id", ""), "")


def key_of_ack(ack: Node) -> MailKey:
    """What an `ack` from a client names."""
    attrs = ack.attrs
    kind = attrs.get("class", "")
    if kind == "receipt":
        return ("receipt", attrs.get("id", ""), f"{attrs.get('to', '')} {attrs.get('type', '')}")
    return (kind, attrs.get("id", ""), "")


class Mailbox:
    """Stanzas in order of arrival, by sequence number."""

    __slots__ = ("_by_key", "_stanzas")

    def __init__(self) -> None:
        self._stanzas: dict[int, Node] = {}
        self._by_key: dict[MailKey, deque[int]] = {}

    def add(self, sequence: int, stanza: Node) -> None:
        """Keep a stanza under a number that grows."""
        self._stanzas[sequence] = stanza
        self._by_key.setdefault(key_of(stanza), deque()).append(sequence)

    def pop(self, key: MailKey) -> int | None:
        """Forget the oldest stanza with that key; its number, or None when there is none."""
        waiting = self._by_key.get(key)
        if waiting is None:
            return None
        sequence = waiting.popleft()
        if not waiting:
            del self._by_key[key]
        del self._stanzas[sequence]
        return sequence

    def stanzas(self) -> list[tuple[int, Node]]:
        """All entries, oldest first."""
        return list(self._stanzas.items())

    def clear(self) -> None:
        """Forget all."""
        self._stanzas.clear()
        self._by_key.clear()

    def __len__(self) -> int:
        return len(self._stanzas)
