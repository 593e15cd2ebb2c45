"""`usync`: who has WhatsApp, with which devices and which LID.

source: Baileys src/WAUSync (USyncQuery and its protocols); whatsmeow user.go (usync, parseDeviceList). `key-index` is
required on every device but the phone (Baileys drops devices without it).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wahub.sandbox.model import LID_SERVER, PN_SERVER, Jid
from wahub.sandbox.network.accounts import Account
from wahub.sandbox.network.core import Core
from wahub.sandbox.network.faults import ANSWER_FAULTS
from wahub.sandbox.network.session import Session
from wahub.sandbox.node import Node


def query(core: Core, session: Session, stanza: Node) -> None:
    """Answer every protocol that was asked, for every user in the list."""
    usync = stanza.child("usync")
    asked = usync.child("query") if usync is not None else None
    users = usync.child("list") if usync is not None else None
    if usync is None or asked is None or users is None:
        session.error(stanza, 400, "bad-request")
        return
    protocols = [child.tag for child in asked.children]
    for name in protocols:
        if name not in _PROTOCOLS:
            core.stats.unknown_query(f"usync {name}")
    answers = (_user(core, session, protocols, user) for user in users.find("user"))
    answered = [user for user in answers if user is not None]
    result = Node("result", {}, [Node(name) for name in protocols])
    attrs = {key: value for key, value in usync.attrs.items() if key in ("sid", "index", "last", "mode", "context")}
    session.result(stanza, Node("usync", attrs, [result, Node("list", {}, answered)]))


def _user(core: Core, session: Session, protocols: list[str], user: Node) -> Node | None:
    address = user.attrs.get("jid")
    contact = user.child("contact")
    number = contact.data if contact is not None else b""
    if address is None:
        digits = bytes(char for char in number if 48 <= char <= 57).decode()
        address = f"{digits}@{PN_SERVER}"
    try:
        jid = Jid.parse(address).bare
    except ValueError:
        return None
    found = _found(core, session, jid)
    tells_lid = found is not None and (found is session.account or not found.lid_hidden)
    person = _Person(found, jid, number, core.now(), tells_lid)
    answers = [_PROTOCOLS[name](person) for name in protocols if name in _PROTOCOLS]
    return Node("user", {"jid": str(jid)}, [answer for answer in answers if answer is not None])


def _found(core: Core, session: Session, jid: Jid) -> Account | None:
    """The account of an address, unless a fault hides it from others."""
    found, asker = core.account_of(jid), session.account
    if found is not None and found.hidden and jid.server != LID_SERVER and found is not asker:
        return None
    if found is None or asker is None or found is asker or not core.faults.armed or session.device is None:
        return found
    hidden = core.faults.take(ANSWER_FAULTS, asker.number, found.number, session.device.id, "iq")
    return None if hidden is not None else found


@dataclass(frozen=True, slots=True)
class _Person:
    """Somebody who is asked about; `account` is None for a number without WhatsApp. `tells_lid`: to the asker."""

    account: Account | None
    jid: Jid
    number: bytes
    now: str
    tells_lid: bool


def _devices(person: _Person) -> Node:
    devices = []
    if person.account is not None:
        devices = [Node("device", {"id": "0"})]
        for device in sorted(person.account.devices):
            devices.append(Node("device", {"id": str(device), "key-index": str(device)}))
    return Node("devices", {}, [Node("device-list", {}, devices), Node("key-index-list", {"ts": person.now})])


def _lid(person: _Person) -> Node | None:
    if person.account is None or not person.tells_lid or person.jid.server == LID_SERVER:
        return None
    return Node("lid", {"val": f"{person.account.lid}@{LID_SERVER}"})


def _contact(person: _Person) -> Node:
    return Node("contact", {"type": "out" if person.account is None else "in"}, person.number or None)


def _status(person: _Person) -> Node:
    return Node("status", {"t": "0"} if person.account is not None else {"code": "404", "t": "0"})


def _disappearing_mode(_person: _Person) -> Node:
    return Node("disappearing_mode", {"duration": "0", "t": "0"})


def _nothing(_person: _Person) -> None:
    return None


_PROTOCOLS: dict[str, Callable[[_Person], Node | None]] = {
    "devices": _devices,
    "lid": _lid,
    "contact": _contact,
    "status": _status,
    "disappearing_mode": _disappearing_mode,
    "business": _nothing,
    "picture": _nothing,
    "sidelist": _nothing,
    "username": _nothing,
    "bot": _nothing,
}
