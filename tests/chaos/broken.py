"""Gateways that are broken on purpose: the verdict must find them guilty.

`python -m tests.chaos.broken serve …` with WAHUB_BROKEN set to
- `ids`: the WhatsApp id is chosen (and stored) at each attempt instead of at acceptance;
- `early`: an item counts as sent once it was handed to the engine, before the server's ack.
Everything else is the shipped program.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from wahub.adapters.sql.outbox import SqlOutbox
from wahub.adapters.sql.tables import outbox as table
from wahub.cli import main
from wahub.domain.ids import message_id
from wahub.domain.outbox import Entry, SendAcked
from wahub.runtime import sender
from wahub.services.outbox import attempt

_RENAME = (
    sa.update(table)
    .where(table.c.instance == sa.bindparam("of"), table.c.id == sa.bindparam("queue_id"))
    .values(message_id=sa.bindparam("new"))
)


def break_ids() -> None:
    """Each claim takes a new id, which is stored with it, so that only the phones can tell."""
    good_claim, good_save = attempt.claim, SqlOutbox.save

    def claim(entry: Entry, epoch: int, now: float) -> Entry:
        return replace(good_claim(entry, epoch, now), message_id=message_id("0", secrets.token_bytes(16)))

    def save(self: Any, entry: Entry) -> None:
        good_save(self, entry)
        self._runner.run(_RENAME, {"of": entry.instance, "queue_id": entry.id, "new": entry.message_id})

    attempt.claim = claim  # type: ignore[assignment]
    SqlOutbox.save = save  # type: ignore[method-assign]


def break_settling() -> None:
    """The loop takes the server's yes for granted."""
    under_way: set[asyncio.Task[Any]] = set()

    async def put_on_wire(self: Any, entry: Entry) -> sender.Finished:
        task = asyncio.create_task(self._link.send(entry.message_id, entry.chat, entry.content))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        return entry, SendAcked()

    sender.Sender._put_on_wire = put_on_wire  # type: ignore[method-assign]


BREAKS = {"ids": break_ids, "early": break_settling}

if __name__ == "__main__":
    BREAKS[os.environ["WAHUB_BROKEN"]]()
    main()
