"""The state of the whole network and the one way a stanza leaves it: `deliver`.

Topics (pairing, routing, ...) are modules of functions over a `Core`; nothing but `Core` is shared between them.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wahub.sandbox.media_store import MediaStore
from wahub.sandbox.model import Jid
from wahub.sandbox.network.accounts import Account, Device, Registry
from wahub.sandbox.network.faults import DEAF_FAULTS, PHONE_FAULTS, SOCKET_FAULTS, STANZA_FAULTS, Faults
from wahub.sandbox.network.group import Group
from wahub.sandbox.network.stats import Stats
from wahub.sandbox.network.store import Store
from wahub.sandbox.network.trace import Trace
from wahub.sandbox.network.trust import ServerKeys
from wahub.sandbox.node import Node
from wahub.sandbox.wire.nodes import encode_node

if TYPE_CHECKING:
    from wahub.sandbox.network.linkcode import CodeTicket
    from wahub.sandbox.network.pairing import Ticket
    from wahub.sandbox.network.session import Session

SERVER = "@s.whatsapp.net"
"""The server's own address: a JID with an empty user."""

_CORRUPTED_FROM_END = 12
_OVERTAKEN_MS = 2000
_DELIVERY_FAULTS = SOCKET_FAULTS | (STANZA_FAULTS & {"dropStanza"})


@dataclass(frozen=True, slots=True)
class PairingTimes:
    """How long QR codes live, in seconds: the first of a registration, and each of the others.

    The defaults are those of WhatsApp (source: Baileys src/Socket/socket.ts, whatsmeow qrchan.go); tests shorten them.
    """

    first_seconds: float = 60.0
    next_seconds: float = 20.0

    @property
    def grace_seconds(self) -> float:
        """How long after its time a code still works: the client's clock starts later than ours."""
        return min(5.0, self.next_seconds)


class Core:
    """Everything the server knows."""

    def __init__(self, keys: ServerKeys, store: Store, pairing_times: PairingTimes | None = None) -> None:
        self.keys = keys
        self.store = store
        self.pairing_times = pairing_times or PairingTimes()
        self.registry = Registry()
        self.stats = Stats()
        self.trace = Trace()
        self.faults = Faults()
        self.sessions: set[Session] = set()
        self.held: set[Callable[[], None]] = set()
        """Hangs up on sockets whose upgrade is left unanswered."""
        self.tickets: dict[str, Ticket] = {}
        self.codes: dict[str, CodeTicket] = {}
        self.groups: dict[str, Group] = {}
        """By address."""
        self.subscribers: dict[str, dict[tuple[str, int], str]] = {}
        """By number: who wants to know, and in which address space it was asked."""
        self.media = MediaStore()
        self.mail_sequence = itertools.count(1)
        self._stanza_ids = itertools.count(1)
        self._id_prefix = secrets.token_hex(4)

    def stanza_id(self) -> str:
        """A new id for a stanza of the server's own."""
        return f"{self._id_prefix}-{next(self._stanza_ids)}"

    def deliver(self, account: Account, device: int, stanza: Node, peer: str | None = None) -> None:
        """Send a stanza that must arrive: it waits in the mailbox until the device acknowledges it."""
        if device == 0:
            self._to_phone(account, stanza)
            return
        companion = account.devices.get(device)
        if companion is None:
            return
        sequence = next(self.mail_sequence)
        companion.mailbox.add(sequence, stanza)
        if self.store.durable:
            self.store.put(mail_key(account, device, sequence), encode_node(stanza))
        session = companion.session
        if session is not None and session.active:
            self._send_with_faults(session, account, companion, stanza, peer)

    def send_if_live(self, account: Account, device: int, stanza: Node) -> None:
        """Send a stanza that is worth nothing later (presence, chat state): only to whoever is there now."""
        if device == 0:
            phone = account.phone
            if account.phone_online and phone is not None:
                later(lambda: phone.receive(stanza))
            return
        companion = account.devices.get(device)
        if companion is not None and companion.session is not None and companion.session.active:
            companion.session.send(stanza)

    def popped(self, account: Account, device: int, sequence: int | None) -> bool:
        """Note that a stanza arrived: forget its row. False when there was none."""
        if sequence is None:
            return False
        if self.store.durable:
            self.store.delete(mail_key(account, device, sequence))
        return True

    def open_phone_mailbox(self, account: Account) -> None:
        """The phone came online: give it what waited."""
        waiting = account.phone_mailbox.stanzas()
        account.phone_mailbox.clear()
        for sequence, stanza in waiting:
            self._hand_over(account, sequence, stanza)

    def _to_phone(self, account: Account, stanza: Node) -> None:
        """Stored before the sender's ack can leave: both belong to one turn of the loop, and so to one commit."""
        sequence = next(self.mail_sequence)
        if self.store.durable:
            self.store.put(mail_key(account, 0, sequence), encode_node(stanza))
        if self.faults.armed and _asks_again(stanza) and self._takes(DEAF_FAULTS, account, stanza):
            self.popped(account, 0, sequence)
        elif account.phone_online and account.phone is not None:
            if self.faults.armed and self._takes(PHONE_FAULTS, account, stanza):
                stanza = _corrupted(stanza)
            self._hand_over(account, sequence, stanza)
        else:
            account.phone_mailbox.add(sequence, stanza)

    def _takes(self, kinds: frozenset[str], account: Account, stanza: Node) -> bool:
        return self.faults.take(kinds, account.number, None, 0, stanza.tag) is not None

    def _hand_over(self, account: Account, sequence: int, stanza: Node) -> None:
        self.trace.record(account.number, 0, "out", stanza)
        later(lambda: self._receive(account, sequence, stanza))

    def _receive(self, account: Account, sequence: int, stanza: Node) -> None:
        """The row goes in the same commit with what the phone makes of the stanza, its receipt included."""
        phone = account.phone
        if phone is None:
            return
        with self.store.together():
            self.popped(account, 0, sequence)
            phone.receive(stanza)
        if stanza.tag == "message":
            self.stats.delivered += 1

    def _send_with_faults(
        self, session: Session, account: Account, device: Device, stanza: Node, peer: str | None
    ) -> None:
        if not self.faults.armed:
            _write(session, stanza)
            return
        action = self.faults.take(_DELIVERY_FAULTS, account.number, peer, device.id, stanza.tag)
        if action is None:
            _write(session, stanza)
        elif action.name == "duplicate":
            session.send(stanza)
            session.send(stanza)
        elif action.name == "corrupt":
            session.send(_corrupted(stanza))
        elif action.name == "reorder":
            session.held_back.append(stanza)
            self.call_later(action.arguments.get("ms", _OVERTAKEN_MS) / 1000, lambda: _write(session, None))
        elif action.name != "dropStanza" and not session.apply(action):
            session.send(stanza)

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Run after a delay."""
        asyncio.get_running_loop().call_later(seconds, call)

    def now(self) -> str:
        """Seconds since 1970, as stanzas carry them."""
        return str(int(time.time()))

    def account_of(self, jid: Jid) -> Account | None:
        """The account a JID names."""
        return self.registry.find(jid)


def _write(session: Session, stanza: Node | None) -> None:
    """Send a stanza, and what was held back behind it; with None only that."""
    if stanza is not None:
        session.send(stanza)
    if session.held_back and (stanza is None or stanza.tag == "message"):
        held, session.held_back = session.held_back, []
        for late in held:
            session.send(late)


def mail_key(account: Account, device: int, sequence: int) -> str:
    """The row of a queued stanza; the number is padded so that rows sort by age."""
    return f"mail/{account.number}/{device}/{sequence:016d}"


def later(call: Callable[[], None]) -> None:
    """Run in the next turn of the loop: a phone that sends is never called back before its send returned."""
    asyncio.get_running_loop().call_soon(call)


def _asks_again(stanza: Node) -> bool:
    return stanza.tag == "receipt" and stanza.attrs.get("type") == "retry"


def _corrupted(stanza: Node) -> Node:
    """A copy whose ciphertexts have one flipped bit, in the MAC or just before (a pkmsg ends with up to 7 more)."""
    children = []
    for child in stanza.children:
        if child.tag == "enc" and len(child.data) > _CORRUPTED_FROM_END:
            data = bytearray(child.data)
            data[-_CORRUPTED_FROM_END] ^= 1
            children.append(Node("enc", child.attrs, bytes(data)))
        else:
            children.append(child)
    return Node(stanza.tag, stanza.attrs, children)
