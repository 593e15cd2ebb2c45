"""Sending: what a person wants to say becomes a message, in the right chat and about the right other message.

Source: Baileys Socket/messages-send (`sendMessage`, `sendMessagesAgain`), whatsmeow send.go and retry.go.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

from wahub.sandbox.model import LID_SERVER, PN_SERVER, Jid, NetworkPort, RefusedError
from wahub.sandbox.node import Node
from wahub.sandbox.phone.content import (
    Content,
    Delete,
    Edit,
    Media,
    Poll,
    Reaction,
    Target,
    build,
    stanza_edit,
    stanza_type,
)
from wahub.sandbox.phone.directory import Directory
from wahub.sandbox.phone.fanout import FanOut
from wahub.sandbox.phone.media import build_media
from wahub.sandbox.phone.polls import build_poll, build_vote
from wahub.sandbox.phone.resent import resent
from wahub.sandbox.phone.state import Kept, PhoneState
from wahub.sandbox.proto import e2e_pb2

MAX_RETRIES = 5


class Outgoing:
    """The sending half of a phone."""

    def __init__(self, state: PhoneState, network: NetworkPort, directory: Directory) -> None:
        self._state = state
        self._network = network
        self._directory = directory
        self._fan_out = FanOut(state, network, directory)
        self._retries: dict[tuple[str, str], int] = {}

    def send(self, to: str, content: Content, quote: str | None = None, server: str | None = None) -> str:
        """Send to a number or a group and return the message id.

        A number is addressed in the space `server`, by default as the chat with it is; a group decides itself.
        RefusedError 404 for an unknown number, group or message, 409 when the person is not in the group.
        """
        server = self.server_of(to, server)
        about = content.message_id if isinstance(content, Reaction | Edit | Delete) else None
        if isinstance(content, Edit | Delete) and not self._kept(content.message_id, to).from_me:
            raise RefusedError(400, "messageId: a person can only edit or delete their own messages")
        if isinstance(content, Poll):
            message = build_poll(content)
        else:
            quoted = None if quote is None else self._target(quote, to, server)
            if isinstance(content, Media):
                message = build_media(content, self._network.media, quoted)
            else:
                message = build(content, None if about is None else self._target(about, to, server), quoted)
        return self._send(to, message, stanza_type(content), stanza_edit(content), server)

    def vote(self, poll_id: str, options: Sequence[str], server: str | None) -> str:
        """Vote on a poll that this phone has seen, in the address space it came in unless `server` names another."""
        kept = self._state.kept.get(poll_id)
        if kept is None:
            raise RefusedError(404, "pollId: the phone has no such message")
        server = self.server_of(kept.chat, server or kept.server)
        voter = self._directory.jid_of(self._state.profile.number, server)
        message = build_vote(self._target(poll_id, kept.chat, server), options, str(voter))
        return self._send(kept.chat, message, "poll", None, server)

    def tell_moved(self, peer: str) -> None:
        """Tell the own companions which LID a number has, so that they move the chat too.

        Source: Baileys Utils/process-message (LID_MIGRATION_MAPPING_SYNC), whatsmeow message.go (storeLIDSyncMessage).
        """
        lid = self._directory.jid_of(peer, LID_SERVER).user
        mappings = e2e_pb2.LidMigrationMappings(chat_db_migration_timestamp=int(time.time()))
        mappings.mappings.add(pn=int(peer), assigned_lid=int(lid))
        protocol = e2e_pb2.ProtocolMessage(type=e2e_pb2.ProtocolMessage.LID_MIGRATION_MAPPING_SYNC)
        protocol.lid_migration_mapping_sync.encoded_mapping_payload = mappings.SerializeToString()
        self._fan_out.to_companions(secrets.token_hex(16).upper(), e2e_pb2.Message(protocol_message=protocol))

    def server_of(self, chat: str, wished: str | None) -> str:
        """The address space of a chat; RefusedError when nobody is there."""
        view = self._fan_out.audience(chat)
        if view is not None:
            return view.server
        if not self._network.device_jids(Jid(chat, PN_SERVER)):
            raise RefusedError(404, "to: nobody in the sandbox has this number; create the phone first")
        if self._directory.is_hidden(chat) or self._state.profile.hidden:
            return LID_SERVER
        return wished or (LID_SERVER if chat in self._state.moved else PN_SERVER)

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
            at=int(time.time()),
        )
        self._fan_out.send(kept, _beside(message))
        return kept.message_id

    def answer_retry(self, receipt: Node) -> None:
        """A device could not read a message: send it again, to that device alone, over a fresh session.

        As on a phone, requests for messages not sent here, from strangers, or beyond the fifth per device are ignored.
        """
        device = Jid.parse(receipt.attrs.get("participant") or receipt.attrs["from"])
        kept = self._state.kept.get(receipt.attrs["id"])
        if kept is None or not kept.sent_here or not self._may_read(kept, self._directory.number_of(device)):
            return
        address = self._fan_out.address(device)
        tries = self._retries.get((kept.message_id, address), 0)
        if tries < MAX_RETRIES:
            self._retries[kept.message_id, address] = tries + 1
            self._fan_out.again(kept, receipt, device)

    def answer_request(self, device: Jid, request_id: str, request: e2e_pb2.PeerDataOperationRequest) -> None:
        """A companion could not read messages and asks for them: it gets those that the phone has."""
        if request.type == e2e_pb2.PLACEHOLDER_MESSAGE_RESEND:
            ids = [wanted.message_key.id for wanted in request.placeholders]
            answer = resent(request_id, [self._state.kept.get(wanted) for wanted in ids], self._directory)
            self._fan_out.to_companion(device, secrets.token_hex(16).upper(), answer)

    def _may_read(self, kept: Kept, number: str) -> bool:
        try:
            view = self._fan_out.audience(kept.chat)
        except RefusedError:
            return False
        return number in (view.members if view is not None else (kept.chat, self._state.profile.number))

    def _kept(self, message_id: str, chat: str) -> Kept:
        kept = self._state.kept.get(message_id)
        if kept is None or kept.chat != chat:
            raise RefusedError(404, "messageId: this chat of the phone has no such message")
        return kept

    def _target(self, message_id: str, chat: str, server: str) -> Target:
        kept = self._kept(message_id, chat)
        return Target(
            message_id=kept.message_id,
            chat_jid=str(self._directory.chat_jid(kept.chat, server)),
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
