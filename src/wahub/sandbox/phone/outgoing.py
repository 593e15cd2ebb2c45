"""Sending: one encryption per device, for the recipient's devices and for the person's own companions.

What is promised: the ratchet steps and the message itself are in the journal before the stanza is handed in, so a
message that was seen by anyone can be sent again on request. A crash before that loses a message that nobody saw.
Source: Baileys Socket/messages-send (`relayMessage`, `createParticipantNodes`), whatsmeow send.go and retry.go.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from wahub.sandbox.model import PN_SERVER, Jid, KeyBundle, NetworkPort, RefusedError
from wahub.sandbox.node import Node
from wahub.sandbox.phone import bundles
from wahub.sandbox.phone.content import (
    Content,
    Delete,
    Edit,
    Media,
    Poll,
    Reaction,
    Target,
    build,
    enc_attrs,
    stanza_edit,
    stanza_type,
)
from wahub.sandbox.phone.directory import Directory
from wahub.sandbox.phone.media import build_media
from wahub.sandbox.phone.padding import pad
from wahub.sandbox.phone.polls import build_poll, build_vote
from wahub.sandbox.phone.state import Kept, PhoneState
from wahub.sandbox.proto import e2e_pb2
from wahub.sandbox.signal.errors import SignalError

MAX_RETRIES = 5


class Outgoing:
    """The sending half of a phone."""

    def __init__(self, state: PhoneState, network: NetworkPort, directory: Directory) -> None:
        self._state = state
        self._network = network
        self._directory = directory
        self._retries: dict[tuple[str, str], int] = {}

    def send(self, to: str, content: Content, quote: str | None = None) -> str:
        """Send to a number and return the message id. RefusedError 404 for an unknown number or message."""
        self._require_someone(to)
        about = content.message_id if isinstance(content, Reaction | Edit | Delete) else None
        if isinstance(content, Edit | Delete) and not self._kept(content.message_id, to).from_me:
            raise RefusedError(400, "messageId: a person can only edit or delete their own messages")
        if isinstance(content, Poll):
            message = build_poll(content)
        else:
            quoted = None if quote is None else self._target(quote, to)
            if isinstance(content, Media):
                message = build_media(content, self._network.media, quoted)
            else:
                message = build(content, None if about is None else self._target(about, to), quoted)
        return self._send(to, message, stanza_type(content), stanza_edit(content), PN_SERVER)

    def vote(self, poll_id: str, options: Sequence[str], server: str | None) -> str:
        """Vote on a poll that this phone has seen, in the address space it came in unless `server` names another."""
        kept = self._state.kept.get(poll_id)
        if kept is None:
            raise RefusedError(404, "pollId: the phone has no such message")
        server = server or kept.server
        voter = self._directory.jid_of(self._state.profile.number, server)
        message = build_vote(self._target(poll_id, kept.chat, server), options, str(voter))
        self._require_someone(kept.chat)
        return self._send(kept.chat, message, "poll", None, server)

    def _require_someone(self, number: str) -> None:
        if not self._network.device_jids(Jid(number, PN_SERVER)):
            raise RefusedError(404, "to: nobody in the sandbox has this number; create the phone first")

    def _send(self, to: str, message: e2e_pb2.Message, kind: str, edit: str | None, server: str) -> str:
        kept = Kept(
            message_id=secrets.token_hex(16).upper(),
            chat=to,
            author=self._state.profile.number,
            from_me=True,
            sent_here=True,
            stanza_type=kind,
            edit=edit,
            message=message.SerializeToString(),
            server=server,
        )
        self._fan_out(kept, _beside(message))
        return kept.message_id

    def _fan_out(self, kept: Kept, beside: list[Node]) -> None:
        state = self._state
        to_jid = self._directory.jid_of(kept.chat, kept.server)
        devices = self._network.device_jids(to_jid)
        own_jid = self._directory.jid_of(state.profile.number, to_jid.server)
        own = [device for device in self._network.device_jids(own_jid) if device.device]
        extra = enc_attrs(e2e_pb2.Message.FromString(kept.message))
        for_others = kept.message
        for_own = _copy_for_own_devices(kept.message, str(to_jid))
        participants = [
            self._encrypted_to(device, for_own, extra) for device in own if kept.chat != state.profile.number
        ]
        participants += [
            self._encrypted_to(device, for_own if kept.chat == state.profile.number else for_others, extra)
            for device in devices
            if device != own_jid
        ]
        state.keep(kept)
        state.commit()
        attrs = {"id": kept.message_id, "to": str(to_jid), "type": kept.stanza_type}
        if kept.edit is not None:
            attrs["edit"] = kept.edit
        nodes = [node for node in participants if node is not None]
        self._network.submit(state.jid, Node("message", attrs, [Node("participants", {}, nodes), *beside]))

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

    def answer_retry(self, receipt: Node) -> None:
        """A device could not read a message: send it again, to that device alone, over a fresh session.

        As on a phone, requests for messages not sent here, from strangers, or beyond the fifth per device are ignored.
        """
        state = self._state
        device = Jid.parse(receipt.attrs.get("participant") or receipt.attrs["from"])
        kept = state.kept.get(receipt.attrs["id"])
        number = self._directory.number_of(device)
        if kept is None or not kept.sent_here or number not in (kept.chat, state.profile.number):
            return
        address = self.address(device)
        tries = self._retries.get((kept.message_id, address), 0)
        if tries >= MAX_RETRIES:
            return
        self._retries[kept.message_id, address] = tries + 1
        try:
            state.sessions.start(address, self._bundle_for_retry(receipt, device))
        except (RefusedError, SignalError):
            return
        own = number == state.profile.number
        to_jid = self._directory.jid_of(kept.chat, kept.server)
        message = _copy_for_own_devices(kept.message, str(to_jid)) if own else kept.message
        enc = self._encrypt(address, message, enc_attrs(e2e_pb2.Message.FromString(kept.message)))
        retry = receipt.child("retry")
        enc.attrs["count"] = "1" if retry is None else retry.attrs.get("count", "1")
        state.commit()
        attrs = {"id": kept.message_id, "to": str(device), "type": kept.stanza_type, "device_fanout": "false"}
        if own:
            attrs["recipient"] = str(to_jid)
        if kept.edit is not None:
            attrs["edit"] = kept.edit
        self._network.submit(state.jid, Node("message", attrs, [enc]))

    def _bundle_for_retry(self, receipt: Node, device: Jid) -> KeyBundle:
        return bundles.from_receipt(receipt) or self._network.take_bundle(device)

    def address(self, device: Jid, hint: str | None = None) -> str:
        """The name of a device in the session store, the same for its number and its LID."""
        return f"{self._directory.number_of(device, hint)}:{device.device}"

    def _kept(self, message_id: str, chat: str) -> Kept:
        kept = self._state.kept.get(message_id)
        if kept is None or kept.chat != chat:
            raise RefusedError(404, "messageId: this chat of the phone has no such message")
        return kept

    def _target(self, message_id: str, chat: str, server: str = PN_SERVER) -> Target:
        kept = self._kept(message_id, chat)
        return Target(
            message_id=kept.message_id,
            chat_jid=str(self._directory.jid_of(kept.chat, server)),
            author_jid=str(self._directory.jid_of(kept.author, server)),
            from_me=kept.from_me,
            message=e2e_pb2.Message.FromString(kept.message),
        )


def _beside(message: e2e_pb2.Message) -> list[Node]:
    """What stands beside the encrypted parts. Source: whatsmeow send.go (`getMessageContent`)."""
    if message.HasField("poll_update_message"):
        return [Node("meta", {"polltype": "vote"})]
    if message.HasField("poll_creation_message") or message.HasField("poll_creation_message_v3"):
        return [Node("meta", {"polltype": "creation"})]
    return []


def _copy_for_own_devices(message: bytes, chat_jid: str) -> bytes:
    inner = e2e_pb2.Message.FromString(message)
    sent = e2e_pb2.DeviceSentMessage(destination_jid=chat_jid, message=inner)
    return e2e_pb2.Message(device_sent_message=sent).SerializeToString()
