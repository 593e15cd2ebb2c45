"""Messages to groups and to the status list: who may write, and what each device gets.

One `skmsg` for all; beside it, devices that do not have the sender's key yet are listed with a ciphertext of their
own, and get both. Every device of every member gets the message, the sender's other devices too. A retry names one
device (`participant`) and goes to it alone. A post on the status list goes to the devices it lists.
A list that names an unlinked device is accepted, and the ack's `phash` tells the sender, as it does when the sender's
own `phash` is wrong. Refused, and violations: a writer who is not a member (403), a group that does not exist (404), a
device that never existed or is not in the group (479), a message without content (400).
source: Baileys src/Socket/messages-send.ts (relayMessage), src/Utils/decode-wa-message.ts (decodeMessageNode);
whatsmeow send.go (sendGroup, participantListHashV2), message.go (parseMessageSource). The refusal codes are inferred
from the errors of `w:g2` queries.
"""

from __future__ import annotations

from wahub.sandbox.model import LID_SERVER, PN_SERVER, STATUS, Jid
from wahub.sandbox.network.accounts import Account
from wahub.sandbox.network.companions import short_hash
from wahub.sandbox.network.core import Core
from wahub.sandbox.network.group import Group
from wahub.sandbox.network.origin import Delivery, Origin, Plan, RefusedMessage
from wahub.sandbox.node import Node

_FORBIDDEN = 403
_NOT_FOUND = 404
_BAD_REQUEST = 400
_STALE_DEVICE = 479
_PASSED_ATTRS = ("type", "edit", "expiration")
_PASSED_CHILDREN = ("device-identity", "meta", "biz")

Listed = dict[tuple[str, int], list[Node]]


def plan(core: Core, origin: Origin, stanza: Node, to: Jid) -> Plan:
    """What a message to a group or the status list leads to. RefusedMessage when it may not be sent."""
    if to == STATUS:
        listed, _ = _listed(core, origin, stanza, None)
        server = LID_SERVER if origin.account.hidden else PN_SERVER
        return _deliveries(core, origin, stanza, to, server, listed, list(listed))
    group = core.groups.get(str(to.bare))
    if group is None:
        raise RefusedMessage(_NOT_FOUND, "message to a group that does not exist")
    if origin.account.number not in group.members:
        raise RefusedMessage(_FORBIDDEN, "message to a group by somebody who is not in it")
    alone = stanza.attrs.get("participant")
    if alone is not None:
        contents = list(stanza.find("enc"))
        device = _device(core, group, alone)
        targets = [] if device is None else [device]
        found = dict.fromkeys(targets, contents)
        return _deliveries(core, origin, _without_enc(stanza), to, group.server, found, targets)
    listed, stale = _listed(core, origin, stanza, group)
    devices = [
        (number, device)
        for number in group.members
        for device in (0, *core.registry.by_number[number].devices)
        if (number, device) != (origin.account.number, origin.device)
    ]
    result = _deliveries(core, origin, stanza, to, group.server, listed, devices)
    if stale or "phash" in stanza.attrs:
        hashes = _hashes(core, group, origin)
        if stale or stanza.attrs["phash"] not in hashes:
            result.phash = hashes[0]
    return result


def _deliveries(
    core: Core, origin: Origin, stanza: Node, to: Jid, server: str, listed: Listed, devices: list[tuple[str, int]]
) -> Plan:
    sent, account = stanza.attrs, origin.account
    attrs = {"id": sent["id"], "from": str(to), "participant": origin.jid(server), "t": core.now()}
    attrs["notify"] = account.push_name
    attrs.update((key, sent[key]) for key in _PASSED_ATTRS if key in sent)
    attrs["addressing_mode"] = "lid" if server == LID_SERVER else "pn"
    if (other := account.other_jid(server)) is not None:
        attrs["participant_lid" if server == PN_SERVER else "participant_pn"] = other
    shared = list(stanza.find("enc"))
    rest = [child for child in stanza.children if child.tag in _PASSED_CHILDREN]
    result = Plan()
    for number, device in devices:
        contents = [*listed.get((number, device), ()), *shared, *rest]
        copy = Node("message", dict(attrs), contents)
        result.deliveries.append(Delivery(core.registry.by_number[number], device, copy, account.number))
    return result


def _without_enc(stanza: Node) -> Node:
    return Node(stanza.tag, stanza.attrs, [child for child in stanza.children if child.tag != "enc"])


def _listed(core: Core, origin: Origin, stanza: Node, group: Group | None) -> tuple[Listed, bool]:
    """The ciphertexts for single devices, and whether one of them was unlinked meanwhile."""
    if next(stanza.find("enc"), None) is None:
        raise RefusedMessage(_BAD_REQUEST, "message to a group without a sender key message")
    participants = stanza.child("participants")
    found: Listed = {}
    stale = False
    for entry in participants.find("to") if participants is not None else ():
        device = _device(core, group, entry.attrs.get("jid", ""))
        if device is None:
            stale = True
        elif device != (origin.account.number, origin.device):
            found[device] = list(entry.find("enc"))
    return found, stale


def _device(core: Core, group: Group | None, address: str) -> tuple[str, int] | None:
    """Number and id of a listed device; None for one that was unlinked meanwhile."""
    try:
        jid = Jid.parse(address)
    except ValueError:
        jid = Jid("", "")
    account: Account | None = core.account_of(jid)
    if account is None or (group is not None and account.number not in group.members):
        raise RefusedMessage(_STALE_DEVICE, "message lists a recipient that is not in the group")
    if account.has_device(jid.device):
        return account.number, jid.device
    if account.was_device(jid.device):
        return None
    raise RefusedMessage(_STALE_DEVICE, "message lists a device that never existed")


def _hashes(core: Core, group: Group, origin: Origin) -> list[str]:
    """The hash of the devices of a group, as a list that has the sender's own device and as one that has not."""
    devices = []
    for number in group.members:
        account = core.registry.by_number[number]
        user = account.lid if group.server == LID_SERVER else number
        for device in (0, *account.devices):
            is_own = account is origin.account and device == origin.device
            devices.append((f"{user}.0:{device}@{group.server}", is_own))
    lists = (sorted(name for name, _ in devices), sorted(name for name, is_own in devices if not is_own))
    return [short_hash(names) for names in lists]
