"""Presence and chat states: who is there and who is typing. Nothing of it waits in a queue.

A companion is available once it says so; an account is available while its phone or any companion is. Chat states
reach phones that are on and companions that are available (as on the real service, which sends them to nobody else).
Phones see the presence of everyone they have chatted with; companions must subscribe,
and are told in the address space in which they did.
source: Baileys src/Socket/chats.ts (sendPresenceUpdate, presenceSubscribe); whatsmeow presence.go
"""

from __future__ import annotations

from wahub.sandbox.model import LID_SERVER, PN_SERVER, Jid
from wahub.sandbox.network import persist
from wahub.sandbox.network.accounts import Account
from wahub.sandbox.network.core import Core
from wahub.sandbox.network.session import Session
from wahub.sandbox.node import Node


def available(account: Account) -> bool:
    """Whether anybody is at the account."""
    if account.phone_online and account.phone_available:
        return True
    return any(device.session is not None and device.session.available for device in account.devices.values())


def take_presence(core: Core, account: Account, device: int, session: Session | None, stanza: Node) -> None:
    """`presence`: available, unavailable or subscribe. Without a type it only renames."""
    kind = stanza.attrs.get("type", "")
    if kind == "subscribe":
        _subscribe(core, account, device, stanza.attrs.get("to", ""))
        return
    name = stanza.attrs.get("name")
    if name and name != account.push_name:
        account.push_name = name
        persist.save_account(core.store, account)
    if kind not in ("available", "unavailable"):
        return
    before = available(account)
    if session is not None:
        session.available = kind == "available"
    else:
        account.phone_available = kind == "available"
    tell_if_changed(core, account, before)


def gone(core: Core, account: Account, session: Session) -> None:
    """A companion's socket ended."""
    before = available(account) or session.available
    session.available = False
    for listeners in core.subscribers.values():
        if session.device is not None:
            listeners.pop((account.number, session.device.id), None)
    tell_if_changed(core, account, before)


def tell_if_changed(core: Core, account: Account, before: bool) -> None:
    """Tell subscribers and the phones of peers when the account came or went."""
    now = available(account)
    if now == before:
        return
    for (number, device), server in list(core.subscribers.get(account.number, {}).items()):
        listener = core.registry.by_number.get(number)
        if listener is not None:
            core.send_if_live(listener, device, _state(core, account, now, server))
    for number in account.peers:
        peer = core.registry.by_number.get(number)
        if peer is not None and peer is not account:
            core.send_if_live(peer, 0, _state(core, account, now, PN_SERVER))


def take_chatstate(core: Core, account: Account, device: int, stanza: Node) -> None:
    """`chatstate`: composing, recording (composing with media=audio) or paused, for one chat or group."""
    try:
        to = Jid.parse(stanza.attrs.get("to", ""))
    except ValueError:
        return
    group = core.groups.get(str(to))
    if group is not None and account.number in group.members:
        attrs = {"from": str(to), "participant": account.jid(device, group.server)}
        for number in group.members:
            if number != account.number:
                _pass_chatstate(core, core.registry.by_number[number], Node("chatstate", attrs, stanza.content))
        return
    target = core.account_of(to)
    if target is None or target is account:
        return
    server = account.space_for(target, LID_SERVER if to.server == LID_SERVER else PN_SERVER)
    _pass_chatstate(core, target, Node("chatstate", {"from": account.jid(0, server)}, stanza.content))


def _pass_chatstate(core: Core, target: Account, passed: Node) -> None:
    core.send_if_live(target, 0, passed)
    for companion in target.devices.values():
        if companion.session is not None and companion.session.available:
            core.send_if_live(target, companion.id, passed)


def _subscribe(core: Core, account: Account, device: int, address: str) -> None:
    try:
        asked = Jid.parse(address)
    except ValueError:
        return
    target = core.account_of(asked)
    if target is None or (target.hidden and asked.server != LID_SERVER):
        return
    core.subscribers.setdefault(target.number, {})[account.number, device] = asked.server
    core.send_if_live(account, device, _state(core, target, available(target), asked.server))


def _state(core: Core, account: Account, now_available: bool, server: str) -> Node:
    server = LID_SERVER if account.hidden else server
    attrs = {"from": account.jid(0, server), "type": "available" if now_available else "unavailable"}
    if not now_available:
        attrs["last"] = core.now()
    return Node("presence", attrs)
