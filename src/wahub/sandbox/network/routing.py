"""Messages and receipts: who gets a copy, under which address, and what the sender hears.

A message lists one `enc` per device; each device gets its own, with the sender's address in the address space the
message was sent in (`from` and `sender_lid`, or a LID and `sender_pn`). Copies for the sender's own devices carry the
chat as `recipient` and the peer's other address. A list that misses a device or names one that was unlinked is
accepted, and the ack's `phash` tells the sender; a device that never existed is a violation and refused with 479.
Groups: see `group_routing`.
source: Baileys src/Socket/messages-send.ts (relayMessage, sendReceipt), src/Utils/decode-wa-message.ts
(extractAddressingContext); whatsmeow send.go, receipt.go. Real-server ack order: ack first, then receipts.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from wahub.sandbox.model import LID_SERVER, PN_SERVER, STATUS, Jid, is_shared
from wahub.sandbox.network import group_routing, persist
from wahub.sandbox.network.accounts import Account
from wahub.sandbox.network.core import Core, later
from wahub.sandbox.network.faults import STANZA_FAULTS, Action
from wahub.sandbox.network.mailbox import key_of_ack
from wahub.sandbox.network.origin import Delivery, Origin, Plan, RefusedMessage
from wahub.sandbox.node import Node

_STALE_DEVICE = 479
_NOT_FOUND = 404
_BAD_REQUEST = 400
_RECENT_IDS = 10_000
_PASSED_ATTRS = ("type", "edit", "category", "recipient")
_RECEIPT_ACK = (("to", "from"), ("type", "type"), ("participant", "participant"))
_PASSED_CHILDREN = ("device-identity", "meta", "biz")


@dataclass(frozen=True, slots=True)
class _Copy:
    account: Account
    device: int
    contents: list[Node]


def take_message(core: Core, origin: Origin, stanza: Node) -> None:
    """Route a message and acknowledge it, unless a fault says otherwise."""
    attrs = stanza.attrs
    try:
        to = Jid.parse(attrs.get("to", ""))
    except ValueError:
        to = Jid("", "")
    target = core.account_of(to)
    if target is not None and target.hidden and to.server != LID_SERVER and target is not origin.account:
        target = None  # nobody can know this number
    action = None
    if core.faults.armed and origin.session is not None:
        peer = target.number if target is not None else None
        action = core.faults.take(STANZA_FAULTS, origin.account.number, peer, origin.device, "message")
    if action is not None and action.name == "dropStanza":
        return
    if action is not None and action.name == "ackError":
        _ack(core, origin, stanza, {"error": str(action.arguments["code"])})
        return
    try:
        if not attrs.get("id"):
            raise RefusedMessage(_BAD_REQUEST, "message without an id")
        plan = _plan(core, origin, stanza, to, target)
    except RefusedMessage as refused:
        core.stats.violation("message", str(refused), origin.account.number, origin.device)
        _ack(core, origin, stanza, {"error": str(refused.code)})
        return
    _count(core, origin, stanza)
    _ack_as_told(core, origin, stanza, {} if plan.phash is None else {"phash": plan.phash}, action)
    if target is not None:
        _note_peers(core, origin.account, target)
    for delivery in plan.deliveries:
        core.deliver(delivery.account, delivery.device, delivery.stanza, delivery.peer)


def _plan(core: Core, origin: Origin, stanza: Node, to: Jid, target: Account | None) -> Plan:
    if is_shared(to):
        return group_routing.plan(core, origin, stanza, to)
    if to.server == "broadcast":
        return Plan()
    if target is None:
        raise RefusedMessage(_NOT_FOUND, "message to nobody known")
    copies, complete = _copies(core, origin, stanza, to, target)
    deliveries = [
        Delivery(copy.account, copy.device, _addressed(core, origin, stanza, to, target, copy), target.number)
        for copy in copies
    ]
    return Plan(deliveries, None if complete else _phash(origin, target, to.server))


def take_receipt(core: Core, origin: Origin, stanza: Node) -> None:
    """Acknowledge a receipt, take the messages it names out of the mailbox and tell those it concerns."""
    attrs = stanza.attrs
    kind = attrs.get("type")
    if kind != "retry":
        for message_id in _receipt_ids(stanza):
            _arrived(core, origin, message_id)
    if origin.session is not None:
        ack = {"class": "receipt", "id": attrs.get("id", "")}
        ack.update((key, attrs[name]) for name, key in _RECEIPT_ACK if name in attrs)
        origin.session.send(Node("ack", ack))
    try:
        to_jid = Jid.parse(attrs["to"]) if "to" in attrs else Jid(origin.account.number, PN_SERVER)
    except ValueError:
        return
    if kind in ("peer_msg", "hist_sync"):
        return
    if kind == "retry":
        _count_retry(core, stanza)
    if is_shared(to_jid):
        _forward_shared_receipt(core, origin, stanza, to_jid)
        return
    target = core.account_of(to_jid)
    if target is None:
        return
    if kind == "retry":
        _forward_receipt(core, origin, stanza, to_jid.server, target, [to_jid.device])
    elif kind == "sender":
        _forward_receipt(core, origin, stanza, to_jid.server, origin.account, [to_jid.device])
    elif kind != "read-self":
        _forward_receipt(core, origin, stanza, to_jid.server, target, [0, *target.devices])


def take_ack(core: Core, origin: Origin, stanza: Node) -> None:
    """A client took a stanza."""
    key = key_of_ack(stanza)
    if key[0] == "message":
        _arrived(core, origin, key[1], refused="error" in stanza.attrs)
        return
    device = origin.account.devices.get(origin.device)
    if device is not None:
        core.popped(origin.account, origin.device, device.mailbox.pop(key))


def _arrived(core: Core, origin: Origin, message_id: str, *, refused: bool = False) -> None:
    device = origin.account.devices.get(origin.device)
    if device is None:
        return
    sequence = device.mailbox.pop(("message", message_id, ""))
    if core.popped(origin.account, origin.device, sequence):
        core.stats.count_arrival(refused=refused)


def _copies(core: Core, origin: Origin, stanza: Node, to: Jid, target: Account) -> tuple[list[_Copy], bool]:
    """The copies to deliver, and whether the list named exactly the devices there are."""
    participants = stanza.child("participants")
    if participants is None:
        contents = list(stanza.find("enc"))
        if not contents:
            raise RefusedMessage(_BAD_REQUEST, "message without content")
        if not target.has_device(to.device):
            if target.was_device(to.device):
                return [], False
            raise RefusedMessage(_STALE_DEVICE, "message to a device that never existed")
        return [_Copy(target, to.device, contents)], True
    copies = []
    stale = False
    for entry in participants.find("to"):
        copy = _listed(core, origin, target, entry)
        if copy is None:
            stale = True
        else:
            copies.append(copy)
    expected = 1 + len(target.devices)
    if target is not origin.account:
        expected += 1 + len(origin.account.devices)
    return copies, not stale and len(copies) == expected - 1


def _listed(core: Core, origin: Origin, target: Account, entry: Node) -> _Copy | None:
    """One entry of the list; None for a device that was unlinked meanwhile."""
    try:
        jid = Jid.parse(entry.attrs.get("jid", ""))
    except ValueError:
        jid = Jid("", "")
    account = core.account_of(jid)
    if account is None or (account is not target and account is not origin.account):
        raise RefusedMessage(_STALE_DEVICE, "message lists a recipient that is not in the chat")
    if account.has_device(jid.device):
        return _Copy(account, jid.device, list(entry.find("enc")))
    if account.was_device(jid.device):
        return None
    raise RefusedMessage(_STALE_DEVICE, "message lists a device that never existed")


def _addressed(core: Core, origin: Origin, stanza: Node, to: Jid, target: Account, copy: _Copy) -> Node:
    lid_space = origin.account.space_for(copy.account, to.server) == LID_SERVER
    server, other = (LID_SERVER, "pn") if lid_space else (PN_SERVER, "lid")
    sent = stanza.attrs
    attrs = {"id": sent["id"], "from": origin.jid(server), "t": core.now(), "notify": origin.account.push_name}
    attrs.update((key, sent[key]) for key in _PASSED_ATTRS if key in sent)
    attrs["addressing_mode"] = "lid" if lid_space else "pn"
    if copy.account is not origin.account:
        attrs.pop("recipient", None)
        if (sender := origin.account.other_jid(server)) is not None:
            attrs[f"sender_{other}"] = sender
    elif sent.get("category") != "peer":
        chat = target.jid(0, server)
        attrs.setdefault("recipient", chat)
        if (peer := target.other_jid(server)) is not None:
            attrs[f"peer_recipient_{other}"] = peer
    rest = [child for child in stanza.children if child.tag in _PASSED_CHILDREN]
    return Node("message", attrs, [*copy.contents, *rest])


def _count(core: Core, origin: Origin, stanza: Node) -> None:
    core.stats.accepted += 1
    if stanza.child("participants") is None:
        return
    seen = origin.account.recent_ids
    message_id = stanza.attrs["id"]
    if message_id in seen:
        core.stats.duplicates += 1
        return
    seen[message_id] = None
    if len(seen) > _RECENT_IDS:
        del seen[next(iter(seen))]


def _ack_as_told(core: Core, origin: Origin, stanza: Node, extra: dict[str, str], action: Action | None) -> None:
    if action is None:
        _ack(core, origin, stanza, extra)
    elif action.name == "lateAck":
        delay = action.arguments["ms"] / 1000
        core.call_later(delay, lambda: _ack(core, origin, stanza, extra))


def _ack(core: Core, origin: Origin, stanza: Node, extra: dict[str, str]) -> None:
    attrs = {"class": "message", "id": stanza.attrs.get("id", ""), "t": core.now()}
    if "to" in stanza.attrs:
        attrs["from"] = stanza.attrs["to"]
    ack = Node("ack", {**attrs, **extra})
    if origin.session is not None:
        origin.session.send(ack)
    elif origin.account.phone is not None:
        phone = origin.account.phone
        later(lambda: phone.receive(ack))


def _note_peers(core: Core, one: Account, other: Account) -> None:
    if one is other or other.number in one.peers:
        return
    one.peers.add(other.number)
    other.peers.add(one.number)
    persist.save_account(core.store, one)
    persist.save_account(core.store, other)


def _phash(origin: Origin, target: Account, server: str) -> str:
    """The hash of the list as it should have been (source: Baileys generateParticipantHashV2)."""
    jids = [target.jid(device, server) for device in (0, *target.devices)]
    if target is not origin.account:
        jids += [origin.account.jid(device, server) for device in (0, *origin.account.devices)]
    jids = sorted(jid for jid in jids if jid != origin.jid(server))
    return "2:" + base64.b64encode(hashlib.sha256("".join(jids).encode()).digest()).decode()[:6]


def _receipt_ids(stanza: Node) -> list[str]:
    ids = [stanza.attrs.get("id", "")]
    items = stanza.child("list")
    if items is not None:
        ids += [item.attrs.get("id", "") for item in items.find("item")]
    return ids


def _count_retry(core: Core, stanza: Node) -> None:
    retry = stanza.child("retry")
    if retry is None or retry.attrs.get("count", "1") == "1":
        core.stats.undecryptable += 1


def _forward_shared_receipt(core: Core, origin: Origin, stanza: Node, chat: Jid) -> None:
    """A receipt in a group or for a status: to the author named as `participant`, from the reader as one.

    A retry goes to the device that wrote, everything else to all devices of the author.
    """
    group = core.groups.get(str(chat))
    try:
        author_jid = Jid.parse(stanza.attrs["participant"])
    except (KeyError, ValueError):
        return
    author = core.account_of(author_jid)
    if author is None or (chat != STATUS and (group is None or origin.account.number not in group.members)):
        return
    kind = stanza.attrs.get("type")
    if kind == "read-self" or (chat == STATUS and kind not in ("retry", "read")):
        return
    sent = stanza.attrs
    server = origin.account.space_for(author, PN_SERVER if group is None else group.server)
    attrs = {"id": sent.get("id", ""), "from": str(chat), "participant": origin.jid(server)}
    attrs["t"] = sent.get("t") or core.now()
    if kind is not None:
        attrs["type"] = kind
    for device in [author_jid.device] if kind == "retry" else [0, *author.devices]:
        if (author.number, device) != (origin.account.number, origin.device):
            core.deliver(author, device, Node("receipt", dict(attrs), _receipt_parts(stanza)))


def _receipt_parts(stanza: Node) -> list[Node] | None:
    return [child for child in stanza.children if child.tag in ("list", "retry", "registration", "keys")] or None


def _forward_receipt(
    core: Core, origin: Origin, stanza: Node, server: str, target: Account, devices: list[int]
) -> None:
    """Pass a receipt on to devices of one account, as from the reader."""
    sent = stanza.attrs
    server = origin.account.space_for(target, server)
    attrs = {"id": sent.get("id", ""), "from": origin.jid(server), "t": sent.get("t") or core.now()}
    attrs.update((key, sent[key]) for key in ("type", "participant", "recipient") if key in sent)
    for device in devices:
        if target is origin.account and device == origin.device:
            continue
        core.deliver(target, device, Node("receipt", attrs, _receipt_parts(stanza)))
