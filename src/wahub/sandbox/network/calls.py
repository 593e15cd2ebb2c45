"""Calls: offers and what becomes of them, from one account to every device of the other.

The server only passes the signalling on; it waits for devices that are away, as messages do. A client's `call` is
answered with an ack, which Baileys waits for.
source: Baileys src/Socket/messages-recv.ts (handleCall, rejectCall); whatsmeow call.go (handleCallEvent, RejectCall)
"""

from __future__ import annotations

from wahub.sandbox.model import LID_SERVER, PN_SERVER, Jid
from wahub.sandbox.network.core import Core
from wahub.sandbox.network.origin import Origin
from wahub.sandbox.node import Node

SIGNALS = frozenset(("offer", "preaccept", "accept", "reject", "terminate", "transport", "relaylatency"))


def take_call(core: Core, origin: Origin, stanza: Node) -> None:
    """Pass a call's signal on; what is no signal, or goes to nobody, is a violation."""
    attrs = stanza.attrs
    what = stanza.children[0] if len(stanza.children) == 1 else Node("")
    try:
        to = Jid.parse(attrs.get("to", ""))
    except ValueError:
        to = Jid("", "")
    target = core.account_of(to)
    refused = what.tag not in SIGNALS or not what.attrs.get("call-id") or target is None or target is origin.account
    if origin.session is not None:
        ack = {"class": "call", "id": attrs.get("id", ""), "from": attrs.get("to", ""), "type": what.tag}
        origin.session.send(Node("ack", ack | ({"error": "400"} if refused else {})))
    if refused or target is None:
        core.stats.violation("call", "no signal of a call, or to nobody", origin.account.number, origin.device)
        return
    server = origin.account.space_for(target, LID_SERVER if to.server == LID_SERVER else PN_SERVER)
    passed = {
        "from": origin.jid(server),
        "id": core.stanza_id(),
        "t": core.now(),
        "notify": origin.account.push_name,
        "platform": "android",
        "version": "2.26.1",
    }
    for device in [to.device] if to.device else [0, *target.devices]:
        if target.has_device(device):
            core.deliver(target, device, Node("call", dict(passed), [what]), origin.account.number)
