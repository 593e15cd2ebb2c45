"""Message ids are chosen by senders: nobody gets the file of another's message for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.contract.makers import SHOP, START, add_instance, add_received, make_received

from wahub.domain.errors import MessageAmbiguousError, MessageNotFoundError, NoMediaError
from wahub.domain.ids import MessageId
from wahub.ports.store import Database
from wahub.services import media

_OTHER = "4915551230009@s.whatsapp.net"


async def _find(store: Database) -> Any:
    return await store.read(lambda tx: media.find(tx, SHOP, MessageId("3A01")))


async def test_an_id_that_two_people_used_names_no_file(store: Database) -> None:
    await add_instance(store)
    await store.write(lambda tx: add_received(tx, make_received(), START))
    with pytest.raises(NoMediaError):
        await _find(store)
    await store.write(lambda tx: add_received(tx, make_received(chat=_OTHER, sender=_OTHER), START))
    with pytest.raises(MessageAmbiguousError):
        await _find(store)


async def test_what_another_number_received_before_is_not_found(store: Database) -> None:
    await add_instance(store)
    await store.write(lambda tx: add_received(tx, make_received(), START))
    since = START + 10
    await store.write(lambda tx: tx.lifecycles.save(replace(tx.lifecycles.get(SHOP), account_since=since)))
    with pytest.raises(MessageNotFoundError):
        await _find(store)
