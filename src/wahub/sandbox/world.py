"""The sandbox as a whole: one network and the people with phones on it."""

from __future__ import annotations

from collections.abc import Mapping

from wahub.sandbox.control.ports import NetworkControl
from wahub.sandbox.model import RefusedError
from wahub.sandbox.phone.directory import Directory, lid_for
from wahub.sandbox.phone.journal import Journal
from wahub.sandbox.phone.phone import Phone
from wahub.sandbox.phone.state import Profile, stored_numbers


class World:
    """Network and phones. `ws_url` and `trust_root` (hex) are set by whoever serves it, for `GET /control/health`."""

    def __init__(
        self, network: NetworkControl, *, trust_root: str = "", ws_url: str = "", journal: Journal | None = None
    ) -> None:
        self.network = network
        self.directory = Directory()
        self.phones: dict[str, Phone] = {}
        self.trust_root = trust_root
        self.ws_url = ws_url
        self._journal = journal

    def create_phone(
        self,
        number: str,
        name: str | None = None,
        *,
        business: bool = False,
        lid: str | None = None,
        hidden: bool = False,
        lid_hidden: bool = False,
    ) -> tuple[Phone, bool]:
        """The phone of a number (digits), and whether it is new; an existing one is returned as it is.

        The LID is derived from the number when none is given. `hidden`: others know the person by the LID alone.
        `lid_hidden`: they are not told that number and LID are one person.
        RefusedError 409 when another number has the LID.
        """
        known = self.phones.get(number)
        if known is not None:
            return known, False
        lid = lid or lid_for(number)
        if self.directory.holder(lid) not in (None, number):
            raise RefusedError(409, "lid: another phone has this one; leave it out to have one derived")
        profile = Profile(number, lid, name or f"Phone {number[-4:]}", business, hidden, lid_hidden)
        phone = Phone.new(profile, self.network, self.directory, self._journal)
        self._admit(phone)
        return phone, True

    def _admit(self, phone: Phone) -> None:
        profile = phone.state.profile
        self.directory.add(phone.number, phone.lid, hidden=profile.hidden)
        self.phones[phone.number] = phone
        self.network.add_account(phone, business=profile.business, hidden=profile.hidden, lid_hidden=profile.lid_hidden)

    def phone(self, number: str) -> Phone:
        """The phone of a number; RefusedError 404 when there is none."""
        phone = self.phones.get(number)
        if phone is None:
            raise RefusedError(404, "no phone has this number; create it with POST /control/phones")
        return phone

    def set_online(self, phone: Phone, online: bool) -> None:
        """Switch a phone on (its queue is delivered) or off (its messages queue)."""
        phone.state.set_online(online)
        self.network.set_phone_online(phone.number, online)

    def restore(self, rows: Mapping[str, bytes]) -> None:
        """Bring back the phones of a stored state, on or off as they were."""
        for number in stored_numbers(rows):
            phone = Phone.load(number, rows, self.network, self.directory, self._journal)
            self._admit(phone)
            if not phone.online:
                self.network.set_phone_online(number, False)

    def reset(self) -> None:
        """Forget everything, on the network and in the phones."""
        self.network.reset()
        if self._journal is not None:
            for phone in self.phones.values():
                for key in phone.dump():
                    self._journal.delete(key)
            self._journal.commit()
        self.phones.clear()
        self.directory.clear()
