"""Files of messages, as use cases: which are wanted, what is known of one, what became of fetching it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wahub.domain import media as rules
from wahub.domain.errors import MediaForgottenError, MessageAmbiguousError, MessageNotFoundError, NoMediaError
from wahub.domain.ids import InstanceId, MessageId
from wahub.domain.inbox import Received
from wahub.domain.media import Attached, MediaFile, MediaState, Trouble
from wahub.ports.store import Tx
from wahub.services import instance

_REMEMBERED = (Trouble.GONE, Trouble.TOO_LARGE)
"""Troubles that are told without another attempt while there is no link to make one."""


@dataclass(frozen=True, slots=True)
class Found:
    """The file of a message: what its sender said of it, and what is kept."""

    attached: Attached
    kept: MediaFile | None


@dataclass(frozen=True, slots=True)
class Ready:
    """A file that may be shown: where it lies, what is known of it, and a name to save it under."""

    path: Path
    file: MediaFile
    name: str


def want(tx: Tx, received: Received, now: float) -> bool:
    """The file of a message shall be fetched unasked; True if it has one. Part of the transaction that stores it."""
    if rules.attached(received) is None:
        return False
    tx.media.want(received.instance, received.message_id, now)
    return True


def find(tx: Tx, wanted: InstanceId, message_id: MessageId) -> Found:
    """InstanceNotFoundError, MessageNotFoundError, NoMediaError when there is none, MediaForgottenError when what it
    said is forgotten: nobody knows then whether it had one.

    Senders choose message ids: under one that messages of several people have, nobody gets a file that is another's
    (MessageAmbiguousError). What another number received that was linked before is not found.
    """
    instance.get(tx, wanted)
    since = tx.lifecycles.get(wanted).account_since
    received = [message for message in tx.inbox.find(wanted, message_id) if message.timestamp >= int(since)]
    if not received:
        raise MessageNotFoundError
    if len({(message.chat, message.sender) for message in received}) > 1:
        raise MessageAmbiguousError
    for message in received:
        attached = rules.attached(message)
        if attached is not None:
            return Found(attached, tx.media.get(wanted, message_id))
    raise MediaForgottenError if any(message.is_forgotten for message in received) else NoMediaError


def note_trouble(tx: Tx, wanted: InstanceId, message_id: MessageId, trouble: Trouble, now: float) -> None:
    """Fetching it failed. What was only asked for is remembered if it will fail again."""
    kept = tx.media.get(wanted, message_id)
    if trouble is Trouble.NOT_OPEN or (kept is None and trouble not in _REMEMBERED):
        return
    file = kept or MediaFile(wanted, message_id, MediaState.FAILED)
    tx.media.save(rules.failed(file, trouble, now))
