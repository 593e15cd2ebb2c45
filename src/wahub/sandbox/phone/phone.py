"""A person's phone: device 0 of its account, with an identity, an inbox and a finger for the QR scanner.

It implements `PhonePort` for the network, and offers the control API what a person can do. Calls come from one event
loop; a call into the network may come back into `receive` before it returns, so state is always settled before
anything is handed in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from wahub.sandbox.model import PN_SERVER, Jid, KeyBundle, NetworkPort, PairingRequest, RefusedError, is_shared
from wahub.sandbox.node import Node
from wahub.sandbox.phone.content import Content
from wahub.sandbox.phone.directory import Directory
from wahub.sandbox.phone.incoming import Incoming
from wahub.sandbox.phone.journal import Journal
from wahub.sandbox.phone.linkcode import CodeAnswer, WrongCodeError
from wahub.sandbox.phone.live import Live
from wahub.sandbox.phone.media import download
from wahub.sandbox.phone.outgoing import Outgoing
from wahub.sandbox.phone.state import PhoneState, Profile
from wahub.sandbox.proto import e2e_pb2
from wahub.sandbox.signal.curve import KeyPair
from wahub.sandbox.signal.identity import Identity


class _Signer:
    """Signs what makes a companion the account's own."""

    def __init__(self, key: KeyPair) -> None:
        self._key = key

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    @property
    def identity_public(self) -> bytes:
        return self._key.public


class Phone:
    """A virtual phone. All its plaintext stays in here."""

    def __init__(self, state: PhoneState, network: NetworkPort, directory: Directory) -> None:
        self.state = state
        self._network = network
        self._directory = directory
        self._outgoing = Outgoing(state, network, directory)
        self._incoming = Incoming(state, network, directory, self._outgoing.answer_request)
        self.live = Live(state, network, directory)

    @classmethod
    def new(cls, profile: Profile, network: NetworkPort, directory: Directory, journal: Journal | None = None) -> Phone:
        """A new person with new keys."""
        return cls(PhoneState(profile, Identity.generate(), journal), network, directory)

    @property
    def number(self) -> str:
        """Digits of the phone number."""
        return self.state.profile.number

    @property
    def lid(self) -> str:
        """Digits of the hidden identity."""
        return self.state.profile.lid

    @property
    def name(self) -> str:
        """The push name."""
        return self.state.profile.name

    @property
    def online(self) -> bool:
        """Whether the phone is switched on."""
        return self.state.online

    @property
    def jid(self) -> Jid:
        """The phone's address."""
        return self.state.jid

    @property
    def undecryptable(self) -> int:
        """How many arrivals could not be read (each was asked for again)."""
        return self._incoming.undecryptable

    @property
    def duplicates(self) -> int:
        """How many arrivals carried an id that had been read before."""
        return self._incoming.duplicates

    def key_bundle(self) -> KeyBundle:
        """Fresh public keys with a new one-time prekey."""
        bundle = self.state.identity.bundle()
        self.state.identity_changed()
        self.state.commit()
        return bundle

    def receive(self, stanza: Node) -> None:
        """Take a stanza addressed to the phone. Stanzas of unknown kinds are acknowledged and ignored."""
        match stanza.tag:
            case "message":
                self._incoming.message(stanza)
            case "receipt":
                self._acknowledge(stanza)
                if stanza.attrs.get("type") == "retry":
                    self._outgoing.answer_retry(stanza)
            case "presence":
                self.live.take_presence(stanza)
            case "chatstate":
                self.live.take_chat_state(stanza)
            case "notification":
                self._acknowledge(stanza)
            case "call":
                self._acknowledge(stanza)
                self.live.take_call(stanza)

    def _acknowledge(self, stanza: Node) -> None:
        attrs = stanza.attrs
        ack = {"class": stanza.tag, "id": attrs.get("id", ""), "to": attrs.get("from", "")}
        ack |= {name: attrs[name] for name in ("type", "participant", "recipient") if name in attrs}
        self._network.submit(self.jid, Node("ack", ack))

    def scan(self, request: PairingRequest) -> int:
        """Link the companion that shows the QR code; returns its device id. RefusedError 409 when off or outdated."""
        self._require_online()
        return self._network.pair(self.jid, request, _Signer(self.state.identity.key))

    async def link_by_code(self, code: str) -> int:
        """Link the companion that shows this code (as `read_code` gives it); returns its device id.

        RefusedError 409 when the phone is off, no companion waits for a code of this number, or it is another code.
        """
        self._require_online()
        request = self._network.code_request(self.jid)
        answer = await asyncio.to_thread(CodeAnswer, code, request.wrapped_key)
        key = self.state.identity.key
        bundle, identity = await self._network.answer_code(self.jid, request.ref, answer.wrapped_key, key.public)
        self._require_online()
        try:
            adv_secret = answer.adv_secret(bundle, identity, key)
        except WrongCodeError as error:
            raise RefusedError(409, "code: it is not the one that the client shows for this number") from error
        return self._network.pair_by_code(self.jid, request.ref, adv_secret, _Signer(key))

    def send(self, to: str, content: Content, quote: str | None = None, server: str | None = None) -> str:
        """Send to a number, a group or `status@broadcast`; returns the message id.

        A number is addressed in the space `server`, by default by number. RefusedError 404 unknown number, group or
        message, 409 the phone is off or not in the group.
        """
        self._require_online()
        return self._outgoing.send(to, content, quote, server)

    def vote(self, poll_id: str, options: Sequence[str], server: str | None = None) -> str:
        """Vote on a poll of one of the phone's chats, none to withdraw; returns the vote's message id.

        Creator and voter are named as the poll was addressed, or in the address space `server`. RefusedError 400 what
        the poll does not allow, 404 no such poll, 409 phone off.
        """
        self._require_online()
        return self._outgoing.vote(poll_id, options, server)

    def show_presence(self, state: str, to: str | None = None) -> None:
        """The person is there or not, or types in a chat (`live.STATES`).

        RefusedError 400 no chat to type in, 404 nobody there, 409 phone off.
        """
        self._require_online()
        server = PN_SERVER if to is None else self._outgoing.server_of(to, None)
        self.live.show(state, to, server)

    def call(self, to: str, server: str | None = None, *, video: bool = False) -> str:
        """Ring a number; returns the call's id. RefusedError 404 nobody has it, 409 the phone is off."""
        self._require_online()
        if to == self.number:
            raise RefusedError(400, "to: nobody can call themselves")
        return self.live.call(to, self._outgoing.server_of(to, server), video=video)

    def hang_up(self, call_id: str, how: str = "terminate") -> None:
        """End a call that this phone began. RefusedError 404 no such call, 409 the phone is off."""
        self._require_online()
        self.live.hang_up(call_id, how)

    def open_media(self, message_id: str) -> tuple[str, bytes]:
        """Download and check the file of a message: MIME type and bytes.

        RefusedError 404 no such message or file, 409 it is damaged.
        """
        kept = self.state.kept.get(message_id)
        if kept is None:
            raise RefusedError(404, "messageId: the phone has no such message")
        return download(e2e_pb2.Message.FromString(kept.message), self._network.media)

    def move_to_lid(self, peer: str) -> None:
        """The chat with a number is named by LID from now on; the own companions are told."""
        self.state.move_to_lid(peer)
        self._outgoing.tell_moved(peer)

    def mark_read(self, message_id: str) -> None:
        """Send the read receipt for a received message. RefusedError 404 when the inbox has no such message."""
        self._require_online()
        kept = self.state.kept.get(message_id)
        if kept is None or kept.from_me:
            raise RefusedError(404, "messageId: this phone received no such message")
        to = self._directory.chat_jid(kept.chat, kept.server)
        attrs = {"id": message_id, "to": str(to), "type": "read", "t": str(int(time.time()))}
        if is_shared(to):
            attrs["participant"] = str(self._directory.jid_of(kept.author, kept.server))
        self._network.submit(self.jid, Node("receipt", attrs))

    def _require_online(self) -> None:
        if not self.state.online:
            raise RefusedError(409, "the phone is off; switch it on with /online")

    def dump(self) -> dict[str, bytes]:
        """All rows of the phone's state."""
        return self.state.dump()

    @classmethod
    def load(
        cls,
        number: str,
        rows: Mapping[str, bytes],
        network: NetworkPort,
        directory: Directory,
        journal: Journal | None = None,
    ) -> Phone:
        """Rebuild a phone from its rows."""
        return cls(PhoneState.load(number, rows, journal), network, directory)
