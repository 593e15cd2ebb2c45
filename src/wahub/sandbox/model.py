"""What the network and the phones say to each other: addresses, key bundles and the two seams between them.

The network (`network/`) is the server: it knows accounts, devices, queues and public keys, never plaintext.
A phone (`phone/`) is a person: it holds a Signal identity and reads its mail. Both live in one process and one
event loop, so the seams are plain calls; stanzas cross them in the form a companion would send or get.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from wahub.sandbox.node import Node

PN_SERVER = "s.whatsapp.net"
LID_SERVER = "lid"
GROUP_SERVER = "g.us"


@dataclass(frozen=True, slots=True)
class Jid:
    """An address: user, server, and the device (0 is the phone itself)."""

    user: str
    server: str
    device: int = 0

    @classmethod
    def parse(cls, text: str) -> Jid:
        """Read `user@server`, `user:device@server` or a bare `@server`; ValueError otherwise."""
        user, at, server = text.partition("@")
        if not at or not server:
            raise ValueError("not a JID")
        name, colon, device = user.partition(":")
        return cls(name, server, int(device) if colon else 0)

    @property
    def bare(self) -> Jid:
        """The same user without the device."""
        return Jid(self.user, self.server)

    def __str__(self) -> str:
        device = f":{self.device}" if self.device else ""
        return f"{self.user}{device}@{self.server}"


STATUS = Jid("status", "broadcast")
"""Where people post what everybody they know may see for a day."""


def is_shared(chat: Jid) -> bool:
    """Whether a chat is written with sender keys: a group, or the status list."""
    return chat.server == GROUP_SERVER or chat == STATUS


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group as its members see it: `members` are their numbers, `server` the address space they are named in."""

    jid: Jid
    subject: str
    server: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyBundle:
    """Public keys of one device, enough to start a Signal session. Keys are raw 32 bytes, the signature 64."""

    registration_id: int
    identity: bytes
    signed_prekey_id: int
    signed_prekey: bytes
    signed_prekey_signature: bytes
    prekey_id: int | None = None
    prekey: bytes | None = None


@dataclass(frozen=True, slots=True)
class PairingRequest:
    """What a QR shows: the server's reference, then the companion's public keys (raw) and its ADV secret."""

    ref: str
    noise_key: bytes
    identity_key: bytes
    adv_secret: bytes


@dataclass(frozen=True, slots=True)
class CodeRequest:
    """A companion that shows a linking code: the server's reference and the companion's wrapped key (80 bytes)."""

    ref: str
    wrapped_key: bytes


class RefusedError(Exception):
    """The network refuses: `status` is the HTTP status of the control API (400, 404, 409), the text the remedy."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class MediaPort(Protocol):
    """The media server: encrypted files by path."""

    def put(self, path: str, body: bytes) -> str:
        """Upload a file; returns its address."""

    def get(self, path: str) -> bytes | None:
        """Download a file; None when there is none (any more)."""


class NetworkPort(Protocol):
    """What a phone may ask of the network.

    Calls return at once; replies that are stanzas come to `PhonePort.receive` in a later turn of the event loop.
    """

    @property
    def media(self) -> MediaPort:
        """Where media goes up and comes down."""

    def submit(self, sender: Jid, stanza: Node) -> None:
        """Hand in a stanza (message, receipt, ack, presence, chatstate) as the device `sender`."""

    def device_jids(self, user: Jid) -> list[Jid]:
        """All devices of a user (number or LID, answered in the same space), the phone first. Unknown: empty."""

    def group(self, group: Jid) -> GroupView | None:
        """A group; None when there is none."""

    def contacts(self, phone: Jid) -> Sequence[str]:
        """Numbers of everyone the account has exchanged messages with."""

    def take_bundle(self, device: Jid) -> KeyBundle:
        """Public keys of a device; uses up one one-time prekey when there is one. RefusedError 404 if unknown."""

    def pair(self, phone: Jid, request: PairingRequest, account_signature: AccountSigner) -> int:
        """Link the companion that shows `request.ref`; returns its device id.

        RefusedError 409 when the reference expired or was used. The server sends `pair-success`; the device counts as
        linked when its signature came back and verified.
        """

    def code_request(self, phone: Jid) -> CodeRequest:
        """The newest request to be linked by a code with the phone's number. RefusedError 409 when none waits."""

    async def answer_code(self, phone: Jid, ref: str, wrapped_key: bytes, identity: bytes) -> tuple[bytes, bytes]:
        """Hand the phone's wrapped key and identity key to the companion: its key bundle and its identity key.

        RefusedError 409 when the request ended or the companion does not answer.
        """

    def pair_by_code(self, phone: Jid, ref: str, adv_secret: bytes, account_signature: AccountSigner) -> int:
        """Link the companion behind a request that was answered; returns its device id, as `pair` does."""


class AccountSigner(Protocol):
    """The phone's part of ADV: it signs what makes a companion its own.

    source: whatsmeow pair.go, Baileys src/Utils/validate-connection.ts
    """

    def sign(self, message: bytes) -> bytes:
        """XEdDSA signature (64 bytes) over `message` by the account's identity key."""

    @property
    def identity_public(self) -> bytes:
        """The account's identity key, raw 32 bytes."""


class PhonePort(Protocol):
    """What the network needs of a phone (device 0 of its account)."""

    @property
    def number(self) -> str:
        """Digits of the phone number."""

    @property
    def lid(self) -> str:
        """Digits of the hidden identity."""

    @property
    def name(self) -> str:
        """The push name."""

    def receive(self, stanza: Node) -> None:
        """Take a stanza addressed to the phone. Only called while the phone is online."""

    def move_to_lid(self, peer: str) -> None:
        """The chat with a number is named by LID from now on; the own companions are told."""

    def key_bundle(self) -> KeyBundle:
        """Fresh public keys with a new one-time prekey."""
