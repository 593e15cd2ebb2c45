"""Who exists: accounts (a number and its LID), their companions, and the ways to find them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wahub.sandbox.model import LID_SERVER, PN_SERVER, Jid, PhonePort
from wahub.sandbox.network.mailbox import Mailbox

if TYPE_CHECKING:
    from wahub.sandbox.network.session import Session

MAX_DEVICE_ID = 255
"""A device id is one byte on the wire."""


@dataclass(slots=True)
class SignedPreKey:
    """A signed prekey; key raw 32 bytes, signature 64."""

    id: int
    public: bytes
    signature: bytes


@dataclass(slots=True)
class Device:
    """A companion of an account, as the server knows it: public keys, mail and the live socket.

    `device_identity` is the encoded AdvSignedDeviceIdentity with both signatures. `spent` are ids of one-time prekeys
    that were handed out. Times are seconds since 1970. `session` is the confirmed login; `sockets` are all live sockets
    that showed this device's key, confirmed or not.
    """

    id: int
    platform: str
    noise_key: bytes
    identity: bytes
    registration_id: int
    signed_prekey: SignedPreKey
    device_identity: bytes
    paired_at: float
    last_seen_at: float | None = None
    prekeys: dict[int, bytes] = field(default_factory=dict)
    spent: set[int] = field(default_factory=set)
    low_prekeys_told: bool = False
    mailbox: Mailbox = field(default_factory=Mailbox)
    session: Session | None = None
    sockets: set[Session] = field(default_factory=set)


@dataclass(slots=True)
class Account:
    """A person's account. `peers` are the numbers it has exchanged messages with; device 0 is `phone`.

    `hidden`: others know the account by its LID alone, its number is told to nobody. `lid_hidden`: others know
    both, but are not told that they are one person.
    """

    number: str
    lid: str
    push_name: str
    business: bool
    raw_id: int
    phone: PhonePort | None = None
    hidden: bool = False
    lid_hidden: bool = False
    phone_online: bool = True
    phone_available: bool = False
    next_device: int = 1
    devices: dict[int, Device] = field(default_factory=dict)
    peers: set[str] = field(default_factory=set)
    phone_mailbox: Mailbox = field(default_factory=Mailbox)
    recent_ids: dict[str, None] = field(default_factory=dict)

    def jid(self, device: int, server: str = PN_SERVER) -> str:
        """The address of a device, in the address space of `server`."""
        user = self.lid if server == LID_SERVER else self.number
        space = LID_SERVER if server == LID_SERVER else PN_SERVER
        return f"{user}:{device}@{space}" if device else f"{user}@{space}"

    def other_jid(self, server: str) -> str | None:
        """What others see beside the address in one address space: that in the other one, if they may know it."""
        if self.lid_hidden or (self.hidden and server == LID_SERVER):
            return None
        return self.jid(0, PN_SERVER if server == LID_SERVER else LID_SERVER)

    def space_for(self, viewer: Account, server: str) -> str:
        """The address space in which another account may see this one: that of `server`, unless it is hidden."""
        return LID_SERVER if self.hidden and viewer is not self else server

    def has_device(self, device: int) -> bool:
        """Whether the phone (0) or a linked companion has that id."""
        return device == 0 or device in self.devices

    def was_device(self, device: int) -> bool:
        """Whether that id was given out once and is no longer linked."""
        return 0 < device < self.next_device and device not in self.devices


class Registry:
    """Accounts by number and by LID, and the Noise keys of devices that were unlinked."""

    def __init__(self) -> None:
        self.by_number: dict[str, Account] = {}
        self._by_lid: dict[str, Account] = {}
        self.revoked: set[bytes] = set()

    def add(self, account: Account) -> None:
        """Register an account; the caller has checked that number and LID are free."""
        self.by_number[account.number] = account
        self._by_lid[account.lid] = account

    def lid_taken(self, lid: str) -> bool:
        """Whether an account has that LID."""
        return lid in self._by_lid

    def find(self, jid: Jid) -> Account | None:
        """The account that a JID names, by number or by LID."""
        if jid.server == LID_SERVER:
            return self._by_lid.get(jid.user)
        if jid.server in (PN_SERVER, "c.us"):
            return self.by_number.get(jid.user)
        return None

    def clear(self) -> None:
        """Forget everybody."""
        self.by_number.clear()
        self._by_lid.clear()
        self.revoked.clear()
