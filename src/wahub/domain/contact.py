"""Who people are: one contact for a person, whether WhatsApp names them by number or by LID.

WhatsApp is moving chats from phone numbers to LIDs (hidden identities). Both may be seen for one person, in any order,
and the two be connected later. A contact keeps its id through all of that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Contact:
    """A person as one instance knows them: digits of the number and of the LID, as far as known.

    `name` is what they call themselves. One with `merged_into` turned out to be the same person as that contact; it has
    no address any more.
    """

    id: str
    phone: str | None
    lid: str | None
    name: str | None
    created_at: float
    merged_into: str | None = None

    @property
    def address(self) -> str:
        """Where a caller may send: `digits@c.us`, or `…@lid` when the number is not known."""
        return f"{self.phone}@c.us" if self.phone else f"{self.lid}@lid"

    @property
    def digits(self) -> str:
        """Digits of the number, or of the LID when the number is not known."""
        return self.phone or self.lid or ""


def stranger(phone: str | None, lid: str | None) -> Contact:
    """Somebody who is no contact: without an id, never stored."""
    return Contact("", phone, lid, None, 0.0)


@dataclass(frozen=True, slots=True)
class Learned:
    """What became of the contacts. `changed` are to be stored, in that order; `merged` is the one that is no more."""

    contact: Contact
    changed: tuple[Contact, ...] = ()
    merged: Contact | None = None


def learn(
    by_phone: Contact | None,
    by_lid: Contact | None,
    *,
    phone: str | None,
    lid: str | None,
    name: str | None,
    new_id: str,
    now: float,
) -> Learned:
    """Take in that `phone` and `lid` (digits; one may be None) are one person, whom we know by them as given.

    - Known by neither: a new contact.
    - A bare number and a LID turn out to be one person: the older contact stays, the other is merged into it.
    - A number that belonged to a contact with another LID: WhatsApp gave it to somebody else. The old owner keeps the
      LID only.
    - A LID that had another number: the person changed the number.
    """
    if lid is None or phone is None:
        known = by_phone if lid is None else by_lid
        return _named(known or Contact(new_id, phone, lid, name, now), name, known is None)
    if by_phone is not None and by_phone == by_lid:
        return _named(by_phone, name, False)
    if by_phone is not None and by_phone.lid is not None:
        owner = by_lid or Contact(new_id, None, lid, None, now)
        return _taking(replace(owner, phone=phone, name=name or owner.name), replace(by_phone, phone=None))
    if by_phone is None or by_lid is None:
        known = by_phone or by_lid or Contact(new_id, phone, lid, None, now)
        return _taking(replace(known, phone=phone, lid=lid, name=name or known.name))
    keeps, goes = sorted((by_phone, by_lid), key=lambda one: (one.created_at, one.lid is None, one.id))
    gone = replace(goes, phone=None, lid=None, merged_into=keeps.id)
    kept = replace(keeps, phone=phone, lid=lid, name=name or by_lid.name or by_phone.name)
    return Learned(kept, (gone, kept), gone)


def _named(known: Contact, name: str | None, new: bool) -> Learned:
    named = known if name is None else replace(known, name=name)
    return Learned(named, (named,) if new or named != known else ())


def _taking(owner: Contact, loser: Contact | None = None) -> Learned:
    """Who loses an address is stored first: two contacts never have the same."""
    return Learned(owner, (owner,) if loser is None else (loser, owner))
