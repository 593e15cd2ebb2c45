"""Contacts, as use cases: who somebody is, and that two of them are one person."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from wahub.domain.contact import Contact, learn
from wahub.domain.ids import InstanceId
from wahub.domain.inbox import Address
from wahub.domain.lease import Lease
from wahub.ports.store import Tx
from wahub.services import webhook


class Met(dict[tuple[Address, str | None], Contact]):
    """Whom a transaction met: one instance's people, by what a message said of them.

    `before_merge` is called when two of them turn out to be one, before anything that goes by one of them is moved.
    """

    def __init__(self, before_merge: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.before_merge = before_merge or _nothing


def _nothing() -> None:
    """What there is to do before a merge when nobody asked for it."""


def meet(
    tx: Tx, instance: InstanceId, address: Address, name: str | None, *, now: float, seed: str, met: Met | None = None
) -> Contact:
    """The contact with that address, made or corrected if need be.

    `seed` is chosen outside of the transaction and makes new ids: one that runs again makes the same. `met` saves
    asking for the same people again and again.
    """
    met = Met() if met is None else met
    if (address, name) in met:
        return met[address, name]
    by_phone = tx.people.by_phone(instance, address.phone) if address.phone else None
    by_lid = by_phone
    if by_phone is None or address.lid not in (None, by_phone.lid):
        by_lid = tx.people.by_lid(instance, address.lid) if address.lid else None
    learned = learn(
        by_phone,
        by_lid,
        phone=address.phone,
        lid=address.lid,
        name=name,
        new_id="c_" + _digest(seed, address),
        now=now,
    )
    if learned.merged is not None:
        met.before_merge()
    if learned.changed:
        met.clear()
    for contact in learned.changed:
        tx.people.save(instance, contact)
    if learned.merged is not None:
        _merge(tx, instance, learned.merged, learned.contact, now, seed)
    met[address, name] = learned.contact
    return learned.contact


def find(tx: Tx, instance: InstanceId, address: Address) -> Contact | None:
    """The contact with that LID, else the one with that number; nobody is made or corrected."""
    by_lid = tx.people.by_lid(instance, address.lid) if address.lid else None
    return by_lid or (tx.people.by_phone(instance, address.phone) if address.phone else None)


def connect(tx: Tx, lease: Lease, address: Address, now: float, seed: str) -> None:
    """It was learned that a number and a LID are one person; of nobody that we never met anything is kept."""
    tx.fence(lease)
    if find(tx, lease.instance, address) is not None:
        meet(tx, lease.instance, address, None, now=now, seed=seed)


def _merge(tx: Tx, instance: InstanceId, gone: Contact, kept: Contact, now: float, seed: str) -> None:
    """Everything that goes by the contact that is no more goes by the other one."""
    tx.people.redirect(instance, gone.id, kept.id)
    tx.webhooks.rename_lane(instance, gone.id, kept.id)
    owner = tx.instances.get(instance)
    if owner is not None:
        data = {
            "contactId": kept.id,
            "mergedContactId": gone.id,
            "phone": kept.phone,
            "lid": kept.lid,
            "name": kept.name,
        }
        event_id = hashlib.sha256(f"{seed}:{gone.id}:merged".encode()).hexdigest()[:32]
        webhook.emit(tx, owner, "contact_merged", {"contact": data}, lane=kept.id, now=now, event_id=event_id)


def _digest(seed: str, address: Address) -> str:
    return hashlib.sha256(f"{seed}:{address.phone}:{address.lid}".encode()).hexdigest()[:20]
