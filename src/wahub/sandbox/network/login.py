"""Login of a linked device, the conflict of two sockets, and the offline queue.

Order (source: Baileys src/Socket/socket.ts `CB:success`; tried with Baileys and whatsmeow): `success`, the client asks
its prekey count and uploads, then `passive active`; the server answers, previews what waits, sends it with
`offline="0"` and closes the list with `ib offline count`, also when it is empty: clients hold back events until then.
"""

from __future__ import annotations

import time

from wahub.sandbox.model import LID_SERVER
from wahub.sandbox.network import persist, presence
from wahub.sandbox.network.accounts import Account, Device
from wahub.sandbox.network.core import SERVER, Core
from wahub.sandbox.network.faults import LOGIN, LOGIN_FAULTS, SOCKET_FAULTS, THEFTS, Action
from wahub.sandbox.network.session import FAILURE_LOGGED_OUT, Phase, Session
from wahub.sandbox.node import Node
from wahub.sandbox.proto.payload_pb2 import ClientPayload


def log_in(core: Core, session: Session, noise_key: bytes, payload: ClientPayload) -> None:
    """A client that names an account and a device: accept it if its Noise key is the one that was linked."""
    account = core.registry.by_number.get(str(payload.username))
    if account is not None:
        core.stats.device(account.number, payload.device).attempts += 1
        if core.faults.is_gone(account.number):
            session.abort()
            return
    device = account.devices.get(payload.device) if account is not None else None
    if account is None or device is None or device.noise_key != noise_key:
        known = noise_key in core.registry.revoked
        detail = "login with an unlinked key" if known else "login with a key that was never linked"
        number = account.number if account is not None else None
        core.stats.violation("login", detail, number, payload.device)
        session.fail(FAILURE_LOGGED_OUT)
        return
    session.account, session.device = account, device
    session.phase = Phase.PASSIVE
    _count_sockets(core, session, account, device)
    action = None
    if core.faults.armed:
        action = core.faults.take(SOCKET_FAULTS | LOGIN_FAULTS, account.number, None, device.id, LOGIN)
        if action is not None and _refused_by_fault(session, action):
            return
    _confirm(core, session, account, device)
    if action is not None and action.name == "neverOpen":
        session.muted = True
    if not payload.passive:
        activate(session)
    if core.faults.armed:
        _plan_theft(core, session, account, device)


def _count_sockets(core: Core, session: Session, account: Account, device: Device) -> None:
    """A client may have one live socket for a device. One that a fault made silent may be dead at the other end."""
    others = [other for other in device.sockets if not other.silent]
    device.sockets.add(session)
    counters = core.stats.device(account.number, device.id)
    counters.max_connections = max(counters.max_connections, len(others) + 1)
    if others:
        session.violation("second_socket", "a second live socket for one device")


def _refused_by_fault(session: Session, action: Action) -> bool:
    if action.name in LOGIN_FAULTS:
        return action.name == "neverReady"
    return session.apply(action) and not session.muted


def _confirm(core: Core, session: Session, account: Account, device: Device) -> None:
    """Logged in: whoever else had the device is told that it was replaced."""
    for other in device.sockets - {session}:
        other.replaced()
    device.session = session
    device.last_seen_at = time.time()
    persist.save_device(core.store, account, device)
    core.stats.logins += 1
    core.stats.connections += 1
    core.stats.device(account.number, device.id).logins += 1
    lid = account.jid(device.id, LID_SERVER)
    session.send(Node("success", {"t": core.now(), "props": "27", "location": "frc", "lid": lid}))


def _plan_theft(core: Core, session: Session, account: Account, device: Device) -> None:
    action = core.faults.take(THEFTS, account.number, None, device.id, LOGIN)
    if action is not None:
        core.call_later(action.arguments["afterMs"] / 1000, lambda: steal(core, session))


def steal(core: Core, session: Session) -> None:
    """Another client with the same keys logs in now. It asks for no mail, so nothing is lost to it."""
    if not session.closed and session.device is not None and session.device.session is session:
        core.stats.stolen += 1
        session.replaced()


def log_out(core: Core, session: Session) -> None:
    """A session ended: the device is not connected any more, its presence and subscriptions are gone."""
    account, device = session.account, session.device
    if account is None or device is None:
        return
    device.sockets.discard(session)
    if device.session is not session:
        return
    device.session = None
    core.stats.connections -= 1
    if account.devices.get(device.id) is device:  # otherwise it was just unlinked, and its row must not come back
        device.last_seen_at = time.time()
        persist.save_device(core.store, account, device)
    presence.gone(core, account, session)


def passive_query(_core: Core, session: Session, query: Node) -> None:
    """`passive`: the client wants its mail (`active`), or no more of it (`passive`)."""
    session.result(query)
    if query.child("active") is not None:
        activate(session)
    else:
        session.phase = Phase.PASSIVE


def activate(session: Session) -> None:
    """Send what waited, then everything as it comes."""
    if session.phase is not Phase.PASSIVE or session.device is None:
        return
    session.phase = Phase.ACTIVE
    waiting = [stanza for _, stanza in session.device.mailbox.stanzas()]
    if waiting:
        session.send(_ib(Node("offline_preview", _preview(waiting))))
        for stanza in waiting:
            session.send(Node(stanza.tag, {**stanza.attrs, "offline": "0"}, stanza.content))
    session.send(_ib(Node("offline", {"count": str(len(waiting))})))


def _preview(waiting: list[Node]) -> dict[str, str]:
    tags = [stanza.tag for stanza in waiting]
    counts = {tag: str(tags.count(tag)) for tag in ("message", "receipt", "notification", "call")}
    return {"count": str(len(waiting)), "appdata": "0", **counts}


def _ib(child: Node) -> Node:
    return Node("ib", {"from": SERVER}, [child])
