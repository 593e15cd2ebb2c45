"""The list of an account's devices: who is told when it changes, and how a device is unlinked.

source: Baileys src/Socket/messages-recv.ts (handleDevicesNotification), src/Socket/socket.ts (logout); whatsmeow
notification.go (handleDeviceNotification), send.go (participantListHashV2)
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from wahub.sandbox.model import LID_SERVER, PN_SERVER, Jid
from wahub.sandbox.network import persist
from wahub.sandbox.network.accounts import Account
from wahub.sandbox.network.core import Core
from wahub.sandbox.network.session import Session
from wahub.sandbox.node import Node


def announce(core: Core, account: Account, change: str, device_id: int) -> None:
    """Tell the account's own companions and those of everyone it chats with, alone or in a group.

    `change` is `add` or `remove`. Both addresses are named: clients keep one list per address space. Who may not
    know that they are one person is told twice.
    """
    known = account.peers | {
        member for group in core.groups.values() if account.number in group.members for member in group.members
    }
    others = sorted(known - {account.number})
    listeners = [account, *(core.registry.by_number[peer] for peer in others if peer in core.registry.by_number)]
    for listener in listeners:
        for companion in listener.devices:
            if listener is account and companion == device_id:
                continue
            for servers in _named_by(account, listener):
                core.deliver(listener, companion, _notice(core, account, change, device_id, servers))


def _named_by(account: Account, listener: Account) -> Sequence[tuple[str, ...]]:
    """The address spaces of the account in each notice to a listener."""
    if listener is account or not (account.hidden or account.lid_hidden):
        return ((PN_SERVER, LID_SERVER),)
    return ((LID_SERVER,),) if account.hidden else ((PN_SERVER,), (LID_SERVER,))


def _notice(core: Core, account: Account, change: str, device_id: int, servers: tuple[str, ...]) -> Node:
    devices = [
        Node("device", {"jid": account.jid(device_id, server), "key-index": str(device_id)}) for server in servers
    ]
    attrs = {"from": account.jid(0, servers[0]), "type": "devices", "id": core.stanza_id(), "t": core.now()}
    if LID_SERVER in servers:
        attrs["lid"] = account.jid(0, LID_SERVER)
    return Node("notification", attrs, [Node(change, {"device_hash": device_hash(account)}, [*devices])])


def device_hash(account: Account) -> str:
    """The short hash of a device list (`2:` and 8 base64 digits)."""
    names = sorted(f"{account.number}.0:{device}@{PN_SERVER}" for device in (0, *account.devices))
    return short_hash(names)


def short_hash(names: Sequence[str]) -> str:
    """Of a list of devices that is in order, as companions make it, too."""
    return "2:" + base64.b64encode(hashlib.sha256("".join(names).encode()).digest()[:6]).decode()


def remove(core: Core, account: Account, device_id: int) -> None:
    """Unlink a companion: its socket gets 401 device_removed, its key never logs in again."""
    device = account.devices.pop(device_id)
    core.registry.revoked.add(device.noise_key)
    persist.forget_device(core.store, account, device)
    for session in list(device.sockets):
        session.stream_error(401, Node("conflict", {"type": "device_removed"}))
    announce(core, account, "remove", device_id)


def remove_query(core: Core, session: Session, query: Node) -> None:
    """`md` `remove-companion-device`: a companion logs out. It may only remove itself."""
    child = query.child("remove-companion-device")
    assert child is not None and session.account is not None and session.device is not None
    try:
        named = Jid.parse(child.attrs.get("jid", ""))
    except ValueError:
        named = Jid("", "")
    if core.account_of(named) is not session.account or named.device != session.device.id:
        session.violation("companion", "a companion tried to remove another device")
        session.error(query, 403, "forbidden")
        return
    session.result(query)
    remove(core, session.account, session.device.id)
