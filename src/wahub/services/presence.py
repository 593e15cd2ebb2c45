"""Presence, as a use case: told to the webhook that asked for it, kept nowhere."""

from __future__ import annotations

from wahub.domain.contact import stranger
from wahub.domain.inbox import STATUS, Address
from wahub.domain.incoming import Place, presence_of
from wahub.domain.lease import Lease
from wahub.ports.engine import PresenceSeen
from wahub.ports.store import Tx
from wahub.services import contact, webhook

WORTH = 60.0
"""Seconds after which nobody wants to hear of it any more."""


def tell(tx: Tx, lease: Lease, seen: PresenceSeen, now: float, event_id: str) -> None:
    """Queue one `presence` for the instance's webhook, if it wants it. Nobody becomes a contact by being there."""
    tx.fence(lease)
    instance = tx.instances.get(lease.instance)
    if instance is None or seen.chat == STATUS:
        return
    address = Address(seen.sender_phone, seen.sender_lid)
    known = contact.find(tx, lease.instance, address)
    author = known or stranger(address.phone, address.lid)
    in_group = seen.chat.endswith("@g.us")
    place = Place(seen.chat, author, None if in_group else author)
    lane = seen.chat if in_group or known is None else known.id
    data = presence_of(place, seen.state, seen.last_seen, int(now))
    webhook.emit(tx, instance, "presence", data, lane=lane, now=now, event_id=event_id, ttl=WORTH)
