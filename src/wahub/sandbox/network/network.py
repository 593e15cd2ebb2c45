"""The network as phones and the control API see it: `NetworkPort` and `NetworkControl` over one `Core`."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from wahub.sandbox.control.ports import LinkedDevice
from wahub.sandbox.media_store import MediaStore
from wahub.sandbox.model import (
    AccountSigner,
    CodeRequest,
    GroupView,
    Jid,
    KeyBundle,
    PairingRequest,
    PhonePort,
    RefusedError,
)
from wahub.sandbox.network import (
    calls,
    companions,
    dispatch,
    groups,
    linkcode,
    login,
    pairing,
    persist,
    prekeys,
    presence,
    routing,
)
from wahub.sandbox.network.accounts import Account, Device
from wahub.sandbox.network.core import Core, PairingTimes
from wahub.sandbox.network.faults import (
    ARMED_ONLY,
    DELIVERY_ONLY,
    GONE,
    MEDIA_FAULTS,
    MIGRATION,
    SOCKET_FAULTS,
    THEFTS,
    UPGRADE,
    UPGRADE_FAULTS,
    Action,
    parse_action,
)
from wahub.sandbox.network.group import Group
from wahub.sandbox.network.origin import Origin
from wahub.sandbox.network.session import Session
from wahub.sandbox.network.store import Store
from wahub.sandbox.network.trust import ServerKeys
from wahub.sandbox.node import Node

_MAX_RAW_ID = 2**31 - 1


class Network:
    """The server. Everything happens on the event loop that it is used on; no call blocks."""

    def __init__(self, keys: ServerKeys, store: Store | None = None, pairing_times: PairingTimes | None = None) -> None:
        """Accounts of a state file come back at once; their phones attach themselves by `add_account`."""
        self._core = Core(keys, store or Store(None), pairing_times)
        persist.load(self._core)

    @property
    def trust_root(self) -> str:
        """The public key that clients must trust, 64 hex digits."""
        return self._core.keys.trust_root

    @property
    def store(self) -> Store:
        """The state file; also the phones' journal."""
        return self._core.store

    @property
    def media(self) -> MediaStore:
        """The files of the media server, which clients and phones share."""
        return self._core.media

    def media_fault(self, place: str) -> int | None:
        """A client uploads or downloads media (`place`): the HTTP status with which it fails, None when it may."""
        faults = self._core.faults
        action = faults.take(MEDIA_FAULTS, "", None, 0, place) if faults.armed else None
        return None if action is None else int(action.arguments["status"])

    def take_attempt(self) -> str | None:
        """A WebSocket connection is tried. None when it may go on, otherwise the fault: `gone` or `upgradeSilent`."""
        core = self._core
        core.stats.attempts += 1
        if core.faults.is_gone(None):
            return GONE
        action = core.faults.take(UPGRADE_FAULTS, "", None, 0, UPGRADE) if core.faults.armed else None
        return None if action is None else action.name

    @contextlib.contextmanager
    def held(self, hang_up: Callable[[], None]) -> Iterator[None]:
        """While an upgrade is left unanswered; `hang_up` closes its TCP connection."""
        self._core.held.add(hang_up)
        try:
            yield
        finally:
            self._core.held.discard(hang_up)

    def open_session(self) -> Session:
        """A new socket."""
        core = self._core
        session = Session(
            core,
            lambda session, link, payload: dispatch.take_ready(core, session, link, payload),
            lambda session, stanza: dispatch.take_stanza(core, session, stanza),
            lambda session: dispatch.take_closed(core, session),
        )
        core.sessions.add(session)
        return session

    def close_sessions(self) -> None:
        """End every socket."""
        for session in list(self._core.sessions):
            session.close()

    # NetworkPort: what a phone may ask.

    def submit(self, sender: Jid, stanza: Node) -> None:
        """Hand in a stanza as a phone. Answers and acks come to `PhonePort.receive` in a later turn of the loop."""
        account = self._account_of(sender)
        origin = Origin(account, sender.device, None)
        self._core.trace.record(account.number, sender.device, "in", stanza)
        if stanza.tag == "message":
            routing.take_message(self._core, origin, stanza)
        elif stanza.tag == "receipt":
            routing.take_receipt(self._core, origin, stanza)
        elif stanza.tag == "presence":
            presence.take_presence(self._core, account, sender.device, None, stanza)
        elif stanza.tag == "chatstate":
            presence.take_chatstate(self._core, account, sender.device, stanza)
        elif stanza.tag == "call":
            calls.take_call(self._core, origin, stanza)

    def device_jids(self, user: Jid) -> list[Jid]:
        """All devices of a user in the same address space, the phone first; empty when unknown."""
        account = self._core.account_of(user)
        if account is None:
            return []
        return [Jid(user.user, user.server, device) for device in (0, *account.devices)]

    def group(self, group: Jid) -> GroupView | None:
        """A group as phones see it."""
        found = self._core.groups.get(str(group))
        return None if found is None else found.view()

    def contacts(self, phone: Jid) -> Sequence[str]:
        """Numbers of everyone the account has exchanged messages with."""
        return sorted(self._account_of(phone).peers)

    def take_bundle(self, device: Jid) -> KeyBundle:
        """Public keys of a device; uses up a one-time prekey."""
        return prekeys.take_bundle(self._core, self._account_of(device), device.device)

    def pair(self, phone: Jid, request: PairingRequest, account_signature: AccountSigner) -> int:
        """Link the companion that shows `request.ref`; its device id."""
        return pairing.pair(self._core, self._account_of(phone), request, account_signature)

    def code_request(self, phone: Jid) -> CodeRequest:
        """The newest request to be linked by a code with this number; RefusedError 409 when none waits."""
        return linkcode.request_for(self._core, self._account_of(phone))

    async def answer_code(self, phone: Jid, ref: str, wrapped_key: bytes, identity: bytes) -> tuple[bytes, bytes]:
        """Hand the phone's wrapped key to the client that waits; its key bundle and its identity key."""
        return await linkcode.answer(self._core, self._account_of(phone), ref, wrapped_key, identity)

    def pair_by_code(self, phone: Jid, ref: str, adv_secret: bytes, account_signature: AccountSigner) -> int:
        """Link the client whose code was typed; its device id."""
        return linkcode.pair(self._core, self._account_of(phone), ref, adv_secret, account_signature)

    # NetworkControl: what only an operator may do.

    def add_account(self, phone: PhonePort, *, business: bool, hidden: bool = False, lid_hidden: bool = False) -> None:
        """Register a phone; one whose account came from the state file takes its place there."""
        core = self._core
        known = core.registry.by_number.get(phone.number)
        if known is not None:
            if known.phone is not None:
                raise RefusedError(409, "the number has a phone already")
            known.phone = phone
            if known.phone_online:
                core.open_phone_mailbox(known)
            return
        if core.registry.lid_taken(phone.lid):
            raise RefusedError(409, "lid is taken by another phone")
        account = Account(phone.number, phone.lid, phone.name, business, secrets.randbelow(_MAX_RAW_ID) + 1, phone)
        account.hidden, account.lid_hidden = hidden, lid_hidden
        core.registry.add(account)
        persist.save_account(core.store, account)

    def create_group(self, subject: str, owner: str, members: Sequence[str], server: str) -> dict[str, Any]:
        """A new group; `server` is its address space."""
        core = self._core
        people = [self._account(number) for number in members]
        return groups.as_json(core, groups.create(core, subject, self._account(owner), people, server))

    def change_group(self, group: Jid, actor: str | None, changes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Add, remove, promote or demote members; `actor` is the owner when left out."""
        core, found = self._core, self._group(group)
        people = {action: [self._account(number) for number in numbers] for action, numbers in changes.items()}
        for action, members in people.items():
            groups.change(core, found, self._account(actor or found.owner), action, members)
        return groups.as_json(core, found)

    def rename_group(self, group: Jid, actor: str | None, subject: str) -> dict[str, Any]:
        """A new subject; `actor` is the owner when left out."""
        found = self._group(group)
        groups.rename(self._core, found, self._account(actor or found.owner), subject)
        return groups.as_json(self._core, found)

    def groups(self) -> Sequence[dict[str, Any]]:
        """All groups, oldest first."""
        return [groups.as_json(self._core, group) for group in self._core.groups.values()]

    def set_phone_online(self, number: str, online: bool) -> None:
        """Switch a phone on or off; when it comes on it gets what waited."""
        account = self._account(number)
        if account.phone_online == online:
            return
        before = presence.available(account)
        account.phone_online = online
        persist.save_account(self._core.store, account)
        presence.tell_if_changed(self._core, account, before)
        if online:
            self._core.open_phone_mailbox(account)

    def phone_online(self, number: str) -> bool:
        """Whether a phone is switched on."""
        return self._account(number).phone_online

    def linked_devices(self, number: str) -> Sequence[LinkedDevice]:
        """Companions of an account, lowest id first."""
        devices = self._account(number).devices
        return [
            LinkedDevice(
                device.id,
                device.platform,
                device.session is not None,
                datetime.fromtimestamp(device.paired_at, UTC),
                None if device.last_seen_at is None else datetime.fromtimestamp(device.last_seen_at, UTC),
            )
            for _, device in sorted(devices.items())
        ]

    def remove_device(self, number: str, device_id: int) -> None:
        """The person unlinks a companion."""
        account = self._account(number)
        self._device(account, device_id)
        companions.remove(self._core, account, device_id)

    def arm_fault(self, match: Mapping[str, Any], do: Mapping[str, Any], times: int | None) -> str:
        """Arm a fault; its id. Without `times` it fires once, with 0 until it is disarmed."""
        fault_id = self._core.faults.arm(match, do, times)
        if MIGRATION in do:
            self._core.faults.disarm(fault_id)
            self._move_to_lid(match["number"], do[MIGRATION]["number"])
        if GONE in do:
            self._cut(match.get("number"))
        return fault_id

    def disarm_fault(self, fault_id: str) -> None:
        """Forget an armed fault."""
        self._core.faults.disarm(fault_id)

    def faults(self) -> Sequence[dict[str, Any]]:
        """The armed faults, oldest first."""
        self._core.faults.forget_past()
        return [fault.as_json() for fault in self._core.faults.armed]

    def inject(self, number: str, device_id: int, fault: Mapping[str, Any]) -> None:
        """Do a socket fault now; a stanza fault is armed for the device's next message."""
        action = parse_action(fault)
        session = self._device(self._account(number), device_id).session
        if session is None:
            raise RefusedError(409, f"device {device_id} is not connected")
        if action.name == MIGRATION:
            self._move_to_lid(number, action.arguments["number"])
        elif action.name in ARMED_ONLY:
            raise RefusedError(400, f"{action.name} cannot hit a live socket; arm it by POST /control/faults")
        elif action.name in THEFTS:
            self._steal(number, device_id, session, action)
        elif action.name not in SOCKET_FAULTS or action.name in DELIVERY_ONLY:
            match = {"number": number, "deviceId": device_id, "stanza": "message"}
            self._core.faults.arm(match, fault, 1)
        else:
            session.apply(action)

    def _move_to_lid(self, number: str, peer: str) -> None:
        """The chat of two accounts is named by LID from now on; their phones tell their companions.

        Nothing is hidden of either any more that a client could learn from this.
        """
        one, other = self._account(number), self._account(peer)
        for account, to in ((one, other), (other, one)):
            account.lid_hidden = False
            persist.save_account(self._core.store, account)
            if account.phone is not None:
                account.phone.move_to_lid(to.number)

    def _steal(self, number: str, device_id: int, session: Session, action: Action) -> None:
        """This session, and as many later ones as `times` says."""
        core, after = self._core, action.arguments["afterMs"]
        core.call_later(after / 1000, lambda: login.steal(core, session))
        more = action.arguments.get("times", 1) - 1
        if more > 0:
            core.faults.arm({"number": number, "deviceId": device_id}, {action.name: {"afterMs": after}}, more)

    def _cut(self, number: str | None) -> None:
        """End sockets without a word: all, or those of one account."""
        for session in list(self._core.sessions):
            if number is None or (session.account is not None and session.account.number == number):
                session.abort()
        if number is None:
            for hang_up in list(self._core.held):
                hang_up()

    def stats(self) -> dict[str, Any]:
        """Counters, unknown queries and violations."""
        return self._core.stats.as_json()

    def trace(self, number: str | None, after: int) -> Sequence[dict[str, Any]]:
        """The last stanzas, without keys and plaintext."""
        return self._core.trace.as_json(number, after)

    def reset(self) -> None:
        """Forget everything but the server's keys; live sockets are closed."""
        core = self._core
        self._cut(None)
        core.registry.clear()
        core.faults.clear()
        core.trace.clear()
        core.tickets.clear()
        core.codes.clear()
        core.subscribers.clear()
        core.groups.clear()
        core.media.clear()
        core.stats = type(core.stats)()
        persist.forget_everything(core.store)

    def _account(self, number: str) -> Account:
        account = self._core.registry.by_number.get(number)
        if account is None:
            raise RefusedError(404, "no such phone")
        return account

    def _group(self, jid: Jid) -> Group:
        group = self._core.groups.get(str(jid))
        if group is None:
            raise RefusedError(404, "no such group")
        return group

    def _account_of(self, jid: Jid) -> Account:
        account = self._core.account_of(jid)
        if account is None:
            raise RefusedError(404, "no such account")
        return account

    def _device(self, account: Account, device_id: int) -> Device:
        device = account.devices.get(device_id)
        if device is None:
            raise RefusedError(404, f"no device {device_id}")
        return device
