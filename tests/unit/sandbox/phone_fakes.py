"""A network without sockets, and a companion that is only keys: enough to drive phones in unit tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from wahub.sandbox.control.ports import LinkedDevice
from wahub.sandbox.media_store import MediaStore
from wahub.sandbox.model import (
    LID_SERVER,
    PN_SERVER,
    AccountSigner,
    CodeRequest,
    GroupView,
    Jid,
    KeyBundle,
    PairingRequest,
    PhonePort,
    RefusedError,
)
from wahub.sandbox.node import Node
from wahub.sandbox.phone.padding import pad, unpad
from wahub.sandbox.proto import e2e_pb2
from wahub.sandbox.signal.cipher import SignalStore
from wahub.sandbox.signal.identity import Identity


class FakeCompanion:
    """A linked device: it keeps what it got, and encrypts what a test wants to send."""

    def __init__(self, network: FakeNetwork, jid: Jid) -> None:
        self.network = network
        self.jid = jid
        self.signal = SignalStore(Identity.generate())
        self.got: list[Node] = []

    def receive(self, stanza: Node) -> None:
        self.got.append(stanza)

    def key_bundle(self) -> KeyBundle:
        return self.signal.identity.bundle()

    def forget_sessions(self) -> None:
        for address in self.signal.addresses():
            self.signal.forget(address)

    def of(self, tag: str) -> list[Node]:
        return [stanza for stanza in self.got if stanza.tag == tag]

    def read(self, stanza: Node) -> e2e_pb2.Message:
        """Decrypt the one `enc` of a message."""
        enc = stanza.child("enc")
        assert enc is not None
        plain = self.signal.decrypt(stanza.attrs["from"], enc.attrs["type"], enc.data)
        return e2e_pb2.Message.FromString(unpad(plain))

    def encrypt(self, to: Jid, message: e2e_pb2.Message) -> Node:
        address = str(to)
        if not self.signal.has_open_session(address):
            self.signal.start(address, self.network.take_bundle(to))
        kind, body = self.signal.encrypt(address, pad(message.SerializeToString()))
        return Node("enc", {"v": "2", "type": kind}, body)

    def write(self, to: Jid, message: e2e_pb2.Message, message_id: str = "C1", **attrs: str) -> None:
        """Hand in a message for one device."""
        participants = Node("participants", {}, [Node("to", {"jid": str(to)}, [self.encrypt(to, message)])])
        stanza = Node("message", {"id": message_id, "to": str(to.bare), "type": "text", **attrs}, [participants])
        self.network.submit(self.jid, stanza)


class FakeNetwork:
    """Routes at once, queues for phones that are off, and notes everything that was handed in."""

    trust_root = "ab" * 32

    def __init__(self) -> None:
        self.media = MediaStore("media.test")
        self.phones: dict[str, PhonePort] = {}
        self.companions: dict[str, list[FakeCompanion]] = {}
        self.off: dict[str, list[Node]] = {}
        self.submitted: list[tuple[Jid, Node]] = []
        self.refs: set[str] = set()
        self.armed: dict[str, dict[str, Any]] = {}
        self.injected: list[tuple[str, int, Mapping[str, Any]]] = []

    def _account(self, jid: Jid) -> str:
        if jid.server == LID_SERVER:
            return next((number for number, phone in self.phones.items() if phone.lid == jid.user), "")
        return jid.user

    def add_companion(self, number: str) -> FakeCompanion:
        linked = self.companions.setdefault(number, [])
        linked.append(FakeCompanion(self, Jid(number, PN_SERVER, len(linked) + 1)))
        return linked[-1]

    def device_jids(self, user: Jid) -> list[Jid]:
        number = self._account(user)
        if number not in self.phones:
            return []
        return [Jid(user.user, user.server, n) for n in range(len(self.companions.get(number, [])) + 1)]

    def _device(self, jid: Jid) -> PhonePort | FakeCompanion:
        number = self._account(jid)
        if jid.device == 0 and number in self.phones:
            return self.phones[number]
        linked = self.companions.get(number, [])
        if 1 <= jid.device <= len(linked):
            return linked[jid.device - 1]
        raise RefusedError(404, "no such device")

    def group(self, group: Jid) -> GroupView | None:
        return None

    def contacts(self, phone: Jid) -> Sequence[str]:
        return sorted(number for number in self.phones if number != phone.user)

    def take_bundle(self, device: Jid) -> KeyBundle:
        return self._device(device).key_bundle()

    def submit(self, sender: Jid, stanza: Node) -> None:
        self.submitted.append((sender, stanza))
        attrs = {"id": stanza.attrs.get("id", ""), "from": str(sender), "t": "1700000000"}
        for name in ("type", "category"):
            if name in stanza.attrs:
                attrs[name] = stanza.attrs[name]
        if stanza.tag == "message":
            self._message(sender, stanza, attrs)
        elif stanza.tag == "receipt":
            to = Jid.parse(stanza.attrs["to"])
            self.deliver(to, Node("receipt", attrs, stanza.content))

    def _message(self, sender: Jid, stanza: Node, attrs: dict[str, str]) -> None:
        participants = stanza.child("participants")
        parts = (
            [(Jid.parse(stanza.attrs["to"]), stanza.children)]
            if participants is None
            else [(Jid.parse(to.attrs["jid"]), to.children) for to in participants.children]
        )
        for device, content in parts:
            extra = dict(attrs)
            if self._account(device) == self._account(sender):
                extra["recipient"] = stanza.attrs.get("recipient", stanza.attrs["to"])
            self.deliver(device, Node("message", extra, list(content)))

    def deliver(self, device: Jid, stanza: Node) -> None:
        if device.device == 0 and device.user in self.off:
            self.off[device.user].append(stanza)
        else:
            self._device(device).receive(stanza)

    def sent(self, tag: str, sender: str) -> list[Node]:
        return [stanza for jid, stanza in self.submitted if stanza.tag == tag and str(jid) == sender]

    def pair(self, phone: Jid, request: PairingRequest, account_signature: AccountSigner) -> int:
        if request.ref not in self.refs:
            raise RefusedError(409, "this QR code expired or was used")
        self.refs.discard(request.ref)
        return self.add_companion(phone.user).jid.device

    def code_request(self, phone: Jid) -> CodeRequest:
        raise RefusedError(409, "code: no client waits")

    async def answer_code(self, phone: Jid, ref: str, wrapped_key: bytes, identity: bytes) -> tuple[bytes, bytes]:
        raise AssertionError("nobody asked")

    def pair_by_code(self, phone: Jid, ref: str, adv_secret: bytes, account_signature: AccountSigner) -> int:
        raise AssertionError("nobody asked")

    def add_account(self, phone: PhonePort, *, business: bool, hidden: bool = False, lid_hidden: bool = False) -> None:
        self.phones[phone.number] = phone

    def set_phone_online(self, number: str, online: bool) -> None:
        if not online:
            self.off.setdefault(number, [])
            return
        for stanza in self.off.pop(number, []):
            self.phones[number].receive(stanza)

    def linked_devices(self, number: str) -> Sequence[LinkedDevice]:
        paired = datetime(2026, 1, 2, 3, 4, 5, 678900, UTC)
        return [LinkedDevice(c.jid.device, "chrome", True, paired, None) for c in self.companions.get(number, [])]

    def remove_device(self, number: str, device_id: int) -> None:
        linked = self.companions.get(number, [])
        if not 1 <= device_id <= len(linked):
            raise RefusedError(404, "this phone has no such device")
        del linked[device_id - 1]

    def arm_fault(self, match: Mapping[str, Any], do: Mapping[str, Any], times: int | None) -> str:
        self.armed["f1"] = {"id": "f1", "match": match, "do": do, "times": times}
        return "f1"

    def disarm_fault(self, fault_id: str) -> None:
        if self.armed.pop(fault_id, None) is None:
            raise RefusedError(404, "no such fault")

    def faults(self) -> Sequence[dict[str, Any]]:
        return list(self.armed.values())

    def inject(self, number: str, device_id: int, fault: Mapping[str, Any]) -> None:
        self.injected.append((number, device_id, fault))

    def stats(self) -> dict[str, Any]:
        return {"connections": 0, "messages": {"accepted": len(self.submitted)}}

    def trace(self, number: str | None, after: int) -> Sequence[dict[str, Any]]:
        return [{"seq": after + 1, "number": number}]

    def reset(self) -> None:
        self.phones.clear()
        self.companions.clear()
        self.off.clear()
