"""Receiving: decrypt, note, store, and only then send the receipt.

What is promised: a message is in the journal with the ratchet step that read it before its receipt is handed in. A
crash before that leaves the old ratchet and a queued message: it is read again. A message that cannot be read is
counted and asked for again (at most five times); its sender then encrypts it anew.
Source: Baileys Utils/decode-wa-message and Socket/messages-recv (`sendRetryRequest`, `handleMessage`), whatsmeow
message.go, receipt.go (`buildBaseReceipt`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import DecodeError

from wahub.sandbox.model import Jid, NetworkPort, is_shared
from wahub.sandbox.node import Node
from wahub.sandbox.phone import bundles
from wahub.sandbox.phone.directory import Directory
from wahub.sandbox.phone.padding import unpad
from wahub.sandbox.phone.reading import Said, read
from wahub.sandbox.phone.state import Kept, PhoneState
from wahub.sandbox.proto import e2e_pb2
from wahub.sandbox.signal.cipher import PREKEY_MESSAGE
from wahub.sandbox.signal.errors import KeyUsedError, SignalError
from wahub.sandbox.signal.groups import GROUP_MESSAGE

AnswerRequest = Callable[[Jid, str, e2e_pb2.PeerDataOperationRequest], None]
"""Takes the device that asks, the id of its request and the request."""

MAX_RETRIES = 5
RETRY_WITH_KEYS_FROM = 2


class Envelope:
    """Who sent a message stanza, from which device, and in which chat."""

    __slots__ = ("address", "chat", "device", "from_me", "message_id", "number", "request", "server", "stanza")

    def __init__(self, stanza: Node, own_number: str, directory: Directory) -> None:
        attrs = stanza.attrs
        sender = Jid.parse(attrs["from"])
        shared = is_shared(sender)
        author = Jid.parse(attrs["participant"]) if shared else sender
        self.stanza = stanza
        self.request: e2e_pb2.PeerDataOperationRequest | None = None
        self.message_id = attrs["id"]
        self.device = author.device
        self.number = directory.number_of(author, attrs.get("sender_pn") or attrs.get("participant_pn"))
        self.from_me = self.number == own_number
        self.address = f"{self.number}:{author.device}"
        self.server = author.server
        if shared:
            self.chat = str(sender)
        elif self.from_me and "recipient" in attrs:
            peer = attrs.get("peer_recipient_pn") or attrs.get("recipient_pn")
            self.chat = directory.number_of(Jid.parse(attrs["recipient"]), peer)
        else:
            self.chat = self.number


class Incoming:
    """The receiving half of a phone for `message` stanzas."""

    def __init__(
        self, state: PhoneState, network: NetworkPort, directory: Directory, answer_request: AnswerRequest
    ) -> None:
        self._state = state
        self._network = network
        self._directory = directory
        self._answer_request = answer_request
        self._retries: dict[tuple[str, str], int] = {}
        self.undecryptable = 0
        self.duplicates = 0

    def message(self, stanza: Node) -> None:
        """Take one `message` stanza."""
        try:
            envelope = Envelope(stanza, self._state.profile.number, self._directory)
        except (KeyError, ValueError):
            return
        try:
            self._note(envelope)
        except KeyUsedError:
            self._again(envelope)
        except (SignalError, ValueError, DecodeError):
            self._ask_again(envelope)
        else:
            self._state.commit()
            self._receipt(envelope)
            self._answer(envelope)

    def _note(self, envelope: Envelope) -> None:
        """Decrypt every part and put what it says into the inbox."""
        parts = [node for node in envelope.stanza.children if node.tag == "enc"]
        if not parts:
            raise ValueError("nothing to decrypt")
        for part in parts:
            kind = part.attrs.get("type", "")
            plaintext = self._decrypt(envelope, kind, part.data)
            self._said(envelope, e2e_pb2.Message.FromString(unpad(plaintext)))

    def _decrypt(self, envelope: Envelope, kind: str, body: bytes) -> bytes:
        state = self._state
        if kind == GROUP_MESSAGE:
            plaintext = state.sender_keys.decrypt(envelope.chat, envelope.address, body)
            state.sender_key_changed(envelope.chat, envelope.address)
            return plaintext
        plaintext = state.sessions.decrypt(envelope.address, kind, body)
        state.session_changed(envelope.address)
        if kind == PREKEY_MESSAGE:
            state.identity_changed()
        return plaintext

    def _said(self, envelope: Envelope, message: e2e_pb2.Message) -> None:
        if envelope.from_me and message.HasField("device_sent_message"):
            sent = message.device_sent_message
            if "recipient" not in envelope.stanza.attrs and sent.destination_jid:
                envelope.chat = self._directory.number_of(Jid.parse(sent.destination_jid))
            message = sent.message
        if message.HasField("sender_key_distribution_message"):
            self._take_sender_key(envelope, message.sender_key_distribution_message)
        if envelope.stanza.attrs.get("category") == "peer":
            if envelope.from_me and message.protocol_message.HasField("peer_data_operation_request"):
                envelope.request = message.protocol_message.peer_data_operation_request
            return
        said = read(message)
        if said is None:
            return
        self.duplicates += self._state.add_to_inbox(_entry(envelope, said))
        self._state.keep(
            Kept(
                message_id=envelope.message_id,
                chat=envelope.chat,
                author=envelope.number,
                from_me=envelope.from_me,
                sent_here=False,
                stanza_type=envelope.stanza.attrs.get("type", "text"),
                edit=None,
                message=message.SerializeToString(),
                server=envelope.server,
                at=_seconds(envelope.stanza.attrs.get("t", "")),
            )
        )

    def _take_sender_key(self, envelope: Envelope, given: e2e_pb2.SenderKeyDistributionMessage) -> None:
        distribution = given.axolotl_sender_key_distribution_message
        self._state.sender_keys.process(given.group_id, envelope.address, distribution)
        self._state.sender_key_changed(given.group_id, envelope.address)

    def _answer(self, envelope: Envelope) -> None:
        if envelope.request is not None:
            self._answer_request(Jid.parse(envelope.stanza.attrs["from"]), envelope.message_id, envelope.request)

    def _again(self, envelope: Envelope) -> None:
        """The key of this message was used: it was read before, unless its first arrival was lost with our memory."""
        if (envelope.number, envelope.message_id) not in self._state.seen_ids:
            self._ask_again(envelope)
            return
        self.duplicates += 1
        self._receipt(envelope)

    def _receipt(self, envelope: Envelope) -> None:
        attrs = self._answer_attrs(envelope)
        if envelope.stanza.attrs.get("category") == "peer":
            attrs["type"] = "peer_msg"
        elif envelope.from_me:
            attrs["type"] = "sender"
        self._network.submit(self._state.jid, Node("receipt", attrs))

    def _ask_again(self, envelope: Envelope) -> None:
        """Count the message as unreadable and send a retry receipt, with our keys from the second one on."""
        self.undecryptable += 1
        state, attrs = self._state, envelope.stanza.attrs
        count = self._retries.get((envelope.number, envelope.message_id), 0) + 1
        self._retries[envelope.number, envelope.message_id] = count
        if count <= MAX_RETRIES:
            details = {"count": str(count), "id": envelope.message_id, "t": attrs.get("t", "0"), "v": "1", "error": "0"}
            children = [Node("retry", details), bundles.registration(state.identity.registration_id)]
            if count >= RETRY_WITH_KEYS_FROM:
                children.append(bundles.to_node(state.identity.bundle()))
                state.identity_changed()
            state.commit()
            receipt = Node("receipt", self._answer_attrs(envelope) | {"type": "retry"}, [*children])
            self._network.submit(state.jid, receipt)
        ack = self._answer_attrs(envelope) | {"class": "message", "from": str(state.jid)}
        self._network.submit(state.jid, Node("ack", ack))

    @staticmethod
    def _answer_attrs(envelope: Envelope) -> dict[str, str]:
        attrs = envelope.stanza.attrs
        answer = {"id": envelope.message_id, "to": attrs["from"]}
        for name in ("recipient", "participant"):
            if name in attrs:
                answer[name] = attrs[name]
        return answer


def _entry(envelope: Envelope, said: Said) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "messageId": envelope.message_id,
        "from": envelope.number,
        "chat": envelope.chat,
        "fromMe": envelope.from_me,
        "type": said.type,
        "text": said.text,
        "poll": said.poll,
        "media": said.media,
        "timestamp": iso_time(envelope.stanza.attrs.get("t")),
        "deviceId": envelope.device,
    }
    return entry if said.more is None else entry | said.more


def _seconds(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def iso_time(seconds: str | None = None) -> str:
    """ISO-8601 in UTC of Unix seconds as a stanza carries them; of now when there are none."""
    value = float(seconds) if seconds is not None and seconds.isdecimal() else time.time()
    return datetime.fromtimestamp(value, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
