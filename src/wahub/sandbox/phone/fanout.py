"""Handing a message in: one encryption per device in a chat of two, sender keys in groups and for the status list.

What is promised: the ratchet steps and the message itself are in the journal before the stanza is handed in, so a
message that was seen by anyone can be sent again on request. A crash before that loses a message that nobody saw.
Source: Baileys Socket/messages-send (`relayMessage`, `createParticipantNodes`), whatsmeow send.go (`sendGroup`) and
retry.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wahub.sandbox.model import LID_SERVER, PN_SERVER, STATUS, GroupView, Jid, KeyBundle, NetworkPort, RefusedError
from wahub.sandbox.node import Node
from wahub.sandbox.phone import bundles
from wahub.sandbox.phone.content import enc_attrs
from wahub.sandbox.phone.directory import Directory
from wahub.sandbox.phone.padding import pad
from wahub.sandbox.phone.state import Kept, PhoneState
from wahub.sandbox.proto import e2e_pb2
from wahub.sandbox.signal.errors import SignalError
from wahub.sandbox.signal.groups import GROUP_MESSAGE


class FanOut:
    """Encrypts for every device that shall read a message, and hands the stanza in."""

    def __init__(self, state: PhoneState, network: NetworkPort, directory: Directory) -> None:
        self._state = state
        self._network = network
        self._directory = directory

    def audience(self, chat: str) -> GroupView | None:
        """The group (or status list) that a chat is; None for a chat of two.

        RefusedError 404 for an unknown group, 409 when the person is not in it.
        """
        if "@" not in chat:
            return None
        own = self._state.profile.number
        jid = Jid.parse(chat)
        if jid == STATUS:
            return GroupView(STATUS, "", PN_SERVER, (own, *self._network.contacts(self._state.jid)))
        view = self._network.group(jid)
        if view is None:
            raise RefusedError(404, "to: there is no such group; create it with POST /control/groups")
        if own not in view.members:
            raise RefusedError(409, "to: this phone is not in the group")
        return view

    def send(self, kept: Kept, beside: Sequence[Node]) -> None:
        """Keep a message and hand it in."""
        view = self.audience(kept.chat)
        if view is None:
            nodes: list[Node] = [Node("participants", {}, [*self._pairwise(kept)])]
            attrs = self._attrs(kept, self._directory.jid_of(kept.chat, kept.server))
        else:
            nodes = self._shared(kept, view)
            attrs = self._attrs(kept, view.jid) | {"addressing_mode": "lid" if view.server == LID_SERVER else "pn"}
        self._state.keep(kept)
        self._state.commit()
        self._network.submit(self._state.jid, Node("message", attrs, [*nodes, *beside]))

    @staticmethod
    def _attrs(kept: Kept, to: Jid) -> dict[str, str]:
        attrs = {"id": kept.message_id, "to": str(to), "type": kept.stanza_type}
        return attrs if kept.edit is None else attrs | {"edit": kept.edit}

    def _pairwise(self, kept: Kept) -> list[Node]:
        """A copy for each device of the peer, and one that names the chat for each of the person's own companions."""
        number = self._state.profile.number
        extra = enc_attrs(e2e_pb2.Message.FromString(kept.message))
        to_jid = self._directory.jid_of(kept.chat, kept.server)
        own_jid = self._directory.jid_of(number, to_jid.server)
        for_own = _copy_for_own_devices(kept.message, str(to_jid))
        own = [device for device in self._network.device_jids(own_jid) if device.device]
        nodes = [self._encrypted_to(device, for_own, extra) for device in own]
        if kept.chat != number:
            peers = self._network.device_jids(to_jid)
            nodes += [self._encrypted_to(device, kept.message, extra) for device in peers]
        return [node for node in nodes if node is not None]

    def _shared(self, kept: Kept, view: GroupView) -> list[Node]:
        """One ciphertext for all, and our sender key for the devices that do not have it yet."""
        keys, chat = self._state.sender_keys, kept.chat
        devices = {self.address(device): device for device in self._devices(view)}
        if view.jid != STATUS and keys.shared_with(chat) - devices.keys():
            keys.renew(chat)
        shared = keys.shared_with(chat)
        distribution = self._distribution(chat).SerializeToString()
        nodes = []
        for address, device in devices.items():
            # The status list has no members whom the server knows: each post names everybody.
            if address in shared and view.jid != STATUS:
                continue
            node = self._encrypted_to(device, distribution, {})
            if node is not None:
                shared.add(address)
                nodes.append(node)
        extra = enc_attrs(e2e_pb2.Message.FromString(kept.message))
        enc = Node("enc", {"v": "2", "type": GROUP_MESSAGE, **extra}, keys.encrypt(chat, pad(kept.message)))
        self._state.sender_key_changed(chat)
        return [Node("participants", {}, [*nodes]), enc] if nodes else [enc]

    def _devices(self, view: GroupView) -> Iterable[Jid]:
        own = self._directory.jid_of(self._state.profile.number, view.server)
        for member in view.members:
            for device in self._network.device_jids(self._directory.jid_of(member, view.server)):
                if device != own:
                    yield device

    def _distribution(self, chat: str) -> e2e_pb2.Message:
        given = e2e_pb2.SenderKeyDistributionMessage(
            group_id=chat, axolotl_sender_key_distribution_message=self._state.sender_keys.distribution(chat)
        )
        return e2e_pb2.Message(sender_key_distribution_message=given)

    def _encrypted_to(self, device: Jid, message: bytes, extra: dict[str, str]) -> Node | None:
        """One `to` child; None for a device that cannot be reached (it has no keys on the server yet)."""
        address = self.address(device)
        try:
            if not self._state.sessions.has_open_session(address):
                self._state.sessions.start(address, self._network.take_bundle(device))
            enc = self._encrypt(address, message, extra)
        except (RefusedError, SignalError):
            return None
        return Node("to", {"jid": str(device)}, [enc])

    def _encrypt(self, address: str, message: bytes, extra: dict[str, str]) -> Node:
        kind, body = self._state.sessions.encrypt(address, pad(message))
        self._state.session_changed(address)
        return Node("enc", {"v": "2", "type": kind, **extra}, body)

    def to_companions(self, message_id: str, message: e2e_pb2.Message) -> None:
        """A message from the phone to its own companions that is not for a person's eyes (`category` peer)."""
        for device in self._network.device_jids(self._state.jid):
            if device.device:
                self.to_companion(device, message_id, message)

    def to_companion(self, device: Jid, message_id: str, message: e2e_pb2.Message) -> None:
        """The same to one of them."""
        entry = self._encrypted_to(device, message.SerializeToString(), {})
        if entry is not None:
            self._state.commit()
            attrs = {"id": message_id, "to": str(device), "type": "text", "category": "peer"}
            self._network.submit(self._state.jid, Node("message", attrs, entry.children))

    def again(self, kept: Kept, receipt: Node, device: Jid) -> None:
        """Send a message again to one device, over a fresh session; nothing when its keys cannot be had."""
        state, address = self._state, self.address(device)
        try:
            state.sessions.start(address, bundles.from_receipt(receipt) or self._bundle(device))
        except (RefusedError, SignalError):
            return
        to_jid = self._directory.chat_jid(kept.chat, kept.server)
        message = kept.message
        if "@" in kept.chat:
            both = e2e_pb2.Message.FromString(message)
            both.MergeFrom(self._distribution(kept.chat))
            message = both.SerializeToString()
            state.sender_keys.shared_with(kept.chat).add(address)
            state.sender_key_changed(kept.chat)
        own = self._directory.number_of(device) == state.profile.number
        if own:
            message = _copy_for_own_devices(message, str(to_jid))
        enc = self._encrypt(address, message, enc_attrs(e2e_pb2.Message.FromString(kept.message)))
        retry = receipt.child("retry")
        enc.attrs["count"] = "1" if retry is None else retry.attrs.get("count", "1")
        state.commit()
        if "@" in kept.chat:
            attrs = self._attrs(kept, to_jid) | {"participant": str(device)}
        else:
            attrs = self._attrs(kept, device) | {"device_fanout": "false"}
            if own:
                attrs["recipient"] = str(to_jid)
        self._network.submit(state.jid, Node("message", attrs, [enc]))

    def _bundle(self, device: Jid) -> KeyBundle:
        return self._network.take_bundle(device)

    def address(self, device: Jid) -> str:
        """The name of a device in the session store, the same for its number and its LID."""
        return f"{self._directory.number_of(device)}:{device.device}"


def _copy_for_own_devices(message: bytes, chat_jid: str) -> bytes:
    inner = e2e_pb2.Message.FromString(message)
    sent = e2e_pb2.DeviceSentMessage(destination_jid=chat_jid, message=inner)
    return e2e_pb2.Message(device_sent_message=sent).SerializeToString()
