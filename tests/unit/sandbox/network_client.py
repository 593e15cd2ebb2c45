"""A client without a socket: the other half of Noise XX over a `Session`, for tests of the network."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wahub.sandbox.model import AccountSigner, Jid, KeyBundle, PairingRequest
from wahub.sandbox.network.network import Network
from wahub.sandbox.network.session import Session
from wahub.sandbox.node import Node
from wahub.sandbox.proto.adv_pb2 import AdvSignedDeviceIdentity, AdvSignedDeviceIdentityHmac
from wahub.sandbox.proto.handshake_pb2 import ClientFinish, ClientHello, HandshakeMessage
from wahub.sandbox.proto.payload_pb2 import ClientPayload, DevicePairingData
from wahub.sandbox.signal.curve import KeyPair, with_type
from wahub.sandbox.signal.identity import Identity
from wahub.sandbox.wire.frames import PROLOGUE, pack_frame
from wahub.sandbox.wire.nodes import decode_node, encode_node
from wahub.sandbox.wire.noise import CipherState

NAME = b"Noise_XX_25519_AESGCM_SHA256\0\0\0\0"


ALICE, BOB = "491510000001", "491510000002"


class Person:
    """A phone that keeps what it gets."""

    def __init__(self, number: str, lid: str | None = None) -> None:
        self.number = number
        self.lid = lid or "1" + number
        self.name = f"Person {number}"
        self.identity = Identity.generate()
        self.got: list[Node] = []
        self.moved: list[str] = []

    def move_to_lid(self, peer: str) -> None:
        self.moved.append(peer)

    def receive(self, stanza: Node) -> None:
        self.got.append(stanza)

    def key_bundle(self) -> KeyBundle:
        return self.identity.bundle()

    @property
    def jid(self) -> Jid:
        return Jid(self.number, "s.whatsapp.net")

    def tags(self) -> list[str]:
        return [stanza.tag for stanza in self.got]


class Signer(AccountSigner):
    def __init__(self, key: KeyPair) -> None:
        self._key = key

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    @property
    def identity_public(self) -> bytes:
        return self._key.public


class Client:
    """One companion: long-lived keys, and at most one live session."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.noise = KeyPair.generate()
        self.identity = Identity.generate()
        self.adv_secret = b"s" * 32
        self.ephemeral = KeyPair.generate()
        self.code = ""
        self.jid: Jid | None = None
        self.lid = ""
        self.session: Session | None = None
        self.got: list[Node] = []
        self._ids = itertools.count(1)
        self._outgoing: CipherState | None = None
        self._incoming: CipherState | None = None

    @property
    def address(self) -> str:
        return str(self.jid)

    def hello(self) -> Session:
        """Open a session and say hello; whether an answer comes is for the test to see."""
        session = self.session = self.network.open_session()
        session.feed(PROLOGUE + pack_frame(_Initiator().hello()))
        return session

    def connect(self, payload: ClientPayload, *, break_finish: bool = False) -> Session:
        """Open a session and do the handshake with that payload."""
        session = self.session = self.network.open_session()
        handshake = _Initiator()
        session.feed(PROLOGUE + pack_frame(handshake.hello()))
        (reply,) = (frame[3:] for frame in session.take_output())
        finish, self._outgoing, self._incoming = handshake.finish(reply, self.noise, payload.SerializeToString())
        if break_finish:
            finish = finish[:-1] + bytes((finish[-1] ^ 1,))
        session.feed(pack_frame(finish))
        self.read()
        return session

    def register(self, **changes: Any) -> Session:
        bundle = self.identity.bundle()
        values = {
            "registration_id": bundle.registration_id.to_bytes(4, "big"),
            "key_type": b"\x05",
            "identity_key": bundle.identity,
            "signed_prekey_id": bundle.signed_prekey_id.to_bytes(3, "big"),
            "signed_prekey": bundle.signed_prekey,
            "signed_prekey_signature": bundle.signed_prekey_signature,
            **changes,
        }
        return self.connect(ClientPayload(device_pairing_data=DevicePairingData(**values)))

    def pair(self, person: Person, *, forge: bool = False) -> int:
        """Show a code, have the person scan it, sign, and expect the restart."""
        self.register()
        device = self.network.pair(person.jid, self.request(), Signer(person.identity.key))
        self.accept(forge=forge)
        return device

    def accept(self, *, forge: bool = False) -> None:
        """Take `pair-success`, check its seal and sign."""
        stanza = self.take("iq")
        success = stanza.child("pair-success")
        assert success is not None
        container = AdvSignedDeviceIdentityHmac.FromString(child_data(success, "device-identity"))
        assert container.hmac == hmac.digest(self.adv_secret, container.details, "sha256")
        signed = AdvSignedDeviceIdentity.FromString(container.details)
        message = b"\x06\x01" + signed.details + self.identity.key.public + signed.account_signature_key
        key = KeyPair.generate() if forge else self.identity.key
        signed.device_signature = key.sign(message)
        addresses = success.child("device")
        assert addresses is not None
        self.jid, self.lid = Jid.parse(addresses.attrs["jid"]), addresses.attrs["lid"]
        proof = Node("device-identity", {"key-index": str(self.jid.device)}, signed.SerializeToString())
        self.send(Node("iq", {**_reply(stanza)}, [Node("pair-device-sign", {}, [proof])]))

    def ask_for_code(self, number: str, code: str, **changes: bytes) -> Node:
        """`companion_hello` with a code of our own; the server's answer. `changes` replace parts of it."""
        self.code = code
        salt, iv = bytes(range(32)), bytes(range(16))
        parts = {
            "link_code_pairing_wrapped_companion_ephemeral_pub": salt
            + iv
            + _code_cipher(code, salt, iv, self.ephemeral.public),
            "companion_server_auth_key_pub": self.noise.public,
            "companion_platform_id": b"1",
            "companion_platform_display": b"Chrome (Linux)",
            "link_code_pairing_nonce": b"0",
            **changes,
        }
        children = [Node(tag, {}, data) for tag, data in parts.items()]
        attrs = {"jid": f"{number}@s.whatsapp.net", "stage": "companion_hello"}
        return self.query("md", "set", Node("link_code_companion_reg", attrs, list(children)))

    def finish_code(self, number: str, identity: bytes | None = None) -> Node:
        """Answer the phone's `primary_hello` with the key bundle; the server's answer."""
        hello = self.take("notification").child("link_code_companion_reg")
        assert hello is not None
        wrapped, theirs = (
            child_data(hello, tag)
            for tag in ("link_code_pairing_wrapped_primary_ephemeral_pub", "primary_identity_pub")
        )
        shared = self.ephemeral.agree(_code_cipher(self.code, wrapped[:32], wrapped[32:48], wrapped[48:]))
        salt, nonce, random = b"s" * 32, b"n" * 12, b"r" * 32
        key = _hkdf(shared, salt, b"link_code_pairing_key_bundle_encryption_key")
        plain = self.identity.key.public + theirs + random
        bundle = salt + nonce + AESGCM(key).encrypt(nonce, plain, None)
        self.adv_secret = _hkdf(shared + self.identity.key.agree(theirs) + random, bytes(32), b"adv_secret")
        parts = {
            "link_code_pairing_wrapped_key_bundle": bundle,
            "companion_identity_public": identity or self.identity.key.public,
            "link_code_pairing_ref": child_data(hello, "link_code_pairing_ref"),
        }
        children = [Node(tag, {}, data) for tag, data in parts.items()]
        attrs = {"jid": f"{number}@s.whatsapp.net", "stage": "companion_finish"}
        return self.query("md", "set", Node("link_code_companion_reg", attrs, list(children)))

    def request(self) -> PairingRequest:
        """What the QR code shows."""
        stanza = self.take("iq")
        pair_device = stanza.child("pair-device")
        assert pair_device is not None
        self.send(Node("iq", _reply(stanza)))
        ref = child_data(pair_device, "ref").decode()
        return PairingRequest(ref, self.noise.public, self.identity.key.public, self.adv_secret)

    def log_in(self, *, prekeys: int = 10, active: bool = True) -> Session:
        """Log in, upload prekeys, ask for mail."""
        assert self.jid is not None
        session = self.connect(ClientPayload(username=int(self.jid.user), device=self.jid.device, passive=True))
        if session.closed:
            return session
        if prekeys:
            assert self.query("encrypt", "set", *self.upload(prekeys)).attrs["type"] == "result"
        if active:
            assert self.query("passive", "set", Node("active")).attrs["type"] == "result"
        return session

    def upload(self, count: int) -> list[Node]:
        bundles = [self.identity.bundle() for _ in range(count)]
        keys = [prekey_node(bundle) for bundle in bundles]
        return [
            Node("registration", {}, bundles[0].registration_id.to_bytes(4, "big")),
            Node("identity", {}, bundles[0].identity),
            Node("list", {}, list(keys)),
            signed_prekey_node(bundles[0]),
        ]

    def query(self, xmlns: str, kind: str, *children: Node) -> Node:
        query_id = f"q{next(self._ids)}"
        attrs = {"to": "@s.whatsapp.net", "xmlns": xmlns, "type": kind, "id": query_id}
        self.send(Node("iq", attrs, list(children)))
        for stanza in self.got:
            if stanza.tag == "iq" and stanza.attrs.get("id") == query_id:
                self.got.remove(stanza)
                return stanza
        raise AssertionError(f"no answer to {xmlns} {kind}")

    def message(self, to: str, message_id: str, *devices: str, data: bytes = b"x") -> None:
        """A message with one `enc` for each listed device."""
        enc = Node("enc", {"v": "2", "type": "msg"}, data)
        entries = [Node("to", {"jid": device}, [enc]) for device in devices]
        attrs = {"to": to, "id": message_id, "type": "text"}
        self.send(Node("message", attrs, [Node("participants", {}, list(entries))]))

    def receipt(self, to: str, message_id: str, **attrs: str) -> None:
        self.send(Node("receipt", {"to": to, "id": message_id, **attrs}))

    def send(self, node: Node) -> None:
        assert self._outgoing is not None
        self.send_raw(self._outgoing.encrypt(encode_node(node)))

    def send_raw(self, payload: bytes) -> None:
        assert self.session is not None
        self.session.feed(pack_frame(payload))
        self.read()

    def read(self) -> None:
        """Decrypt what the server has written."""
        assert self.session is not None and self._incoming is not None
        for frame in self.session.take_output():
            self.got.append(decode_node(self._incoming.decrypt(frame[3:])))

    def take(self, tag: str) -> Node:
        """The first stanza with that tag, taken out."""
        self.read()
        for stanza in self.got:
            if stanza.tag == tag:
                self.got.remove(stanza)
                return stanza
        raise AssertionError(f"no {tag}; got {[stanza.tag for stanza in self.got]}")

    def all(self, tag: str) -> list[Node]:
        self.read()
        return [stanza for stanza in self.got if stanza.tag == tag]


class _Initiator:
    def __init__(self) -> None:
        self.ephemeral = KeyPair.generate()
        self.hash = hashlib.sha256(hashlib.sha256(NAME + PROLOGUE).digest() + self.ephemeral.public).digest()
        self.chaining = NAME
        self.key = NAME
        self.counter = 0

    def hello(self) -> bytes:
        return HandshakeMessage(client_hello=ClientHello(ephemeral=self.ephemeral.public)).SerializeToString()

    def finish(self, reply: bytes, static: KeyPair, payload: bytes) -> tuple[bytes, CipherState, CipherState]:
        hello = HandshakeMessage.FromString(reply).server_hello
        self._mix_hash(hello.ephemeral)
        self._mix_key(self.ephemeral.agree(hello.ephemeral))
        server_static = self._open(hello.static)
        self._mix_key(self.ephemeral.agree(server_static))
        self._open(hello.payload)
        encrypted_static = self._seal(static.public)
        self._mix_key(static.agree(hello.ephemeral))
        finish = ClientFinish(static=encrypted_static, payload=self._seal(payload))
        write, read = self._derive(b"")
        return HandshakeMessage(client_finish=finish).SerializeToString(), CipherState(write), CipherState(read)

    def _derive(self, secret: bytes) -> tuple[bytes, bytes]:
        extracted = hmac.digest(self.chaining, secret, "sha256")
        first = hmac.digest(extracted, b"\x01", "sha256")
        return first, hmac.digest(extracted, first + b"\x02", "sha256")

    def _mix_key(self, secret: bytes) -> None:
        self.chaining, self.key = self._derive(secret)
        self.counter = 0

    def _mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def _nonce(self) -> bytes:
        self.counter += 1
        return (self.counter - 1).to_bytes(12, "big")

    def _seal(self, plaintext: bytes) -> bytes:
        ciphertext = AESGCM(self.key).encrypt(self._nonce(), plaintext, self.hash)
        self._mix_hash(ciphertext)
        return ciphertext

    def _open(self, ciphertext: bytes) -> bytes:
        plaintext = AESGCM(self.key).decrypt(self._nonce(), ciphertext, self.hash)
        self._mix_hash(ciphertext)
        return plaintext


def _code_cipher(code: str, salt: bytes, iv: bytes, data: bytes) -> bytes:
    key = hashlib.pbkdf2_hmac("sha256", code.encode(), salt, 2 << 16, 32)
    cipher = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return cipher.update(data) + cipher.finalize()


def _hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(secret)


def child_data(node: Node, tag: str) -> bytes:
    child = node.child(tag)
    assert child is not None, tag
    return child.data


def prekey_node(bundle: KeyBundle) -> Node:
    assert bundle.prekey_id is not None and bundle.prekey is not None
    return Node("key", {}, [Node("id", {}, bundle.prekey_id.to_bytes(3, "big")), Node("value", {}, bundle.prekey)])


def signed_prekey_node(bundle: KeyBundle) -> Node:
    parts = {
        "id": bundle.signed_prekey_id.to_bytes(3, "big"),
        "value": bundle.signed_prekey,
        "signature": bundle.signed_prekey_signature,
    }
    return Node("skey", {}, [Node(tag, {}, data) for tag, data in parts.items()])


def new_signed_prekey(identity: Identity, key_id: int) -> Node:
    pair = KeyPair.generate()
    parts = {
        "id": key_id.to_bytes(3, "big"),
        "value": pair.public,
        "signature": identity.key.sign(with_type(pair.public)),
    }
    return Node("skey", {}, [Node(tag, {}, data) for tag, data in parts.items()])


def _reply(stanza: Node) -> dict[str, str]:
    return {"to": "@s.whatsapp.net", "type": "result", "id": stanza.attrs["id"]}


async def settle() -> None:
    """Let phones take what was handed to them (and what that leads to)."""
    for _ in range(5):
        await asyncio.sleep(0)


async def linked(network: Network, person: Person) -> Client:
    """A device of that account, linked and logged in, that has read nothing yet."""
    client = Client(network)
    client.pair(person)
    client.log_in()
    client.got.clear()
    return client


def kinds(network: Network) -> list[str]:
    """What the network found wrong so far."""
    return [violation["kind"] for violation in network.stats()["violations"]]
