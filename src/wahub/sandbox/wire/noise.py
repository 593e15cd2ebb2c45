"""The server's half of Noise_XX_25519_AESGCM_SHA256 and the transport ciphers that follow it.

The three messages are protobuf `HandshakeMessage`s; the hash starts with the protocol's name, then takes the prologue.
The first HKDF half is the client's write key; nonces are 8 zero bytes and a big-endian 32-bit counter that restarts
with every key; the associated data is the handshake hash, and empty in transport.
source: Noise specification rev. 34; Baileys src/Utils/noise-handler.ts; whatsmeow handshake.go and
socket/noisehandshake.go
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError

from wahub.sandbox.proto.handshake_pb2 import ClientFinish, HandshakeMessage, ServerHello
from wahub.sandbox.wire.frames import PROLOGUE

_NAME = b"Noise_XX_25519_AESGCM_SHA256\0\0\0\0"
_NO_DATA = b""


class NoiseError(Exception):
    """The handshake or a transport message did not verify."""


class CipherState:
    """One direction of the transport: a key and its counter."""

    __slots__ = ("_cipher", "_counter")

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._counter = 0

    def encrypt(self, plaintext: bytes) -> bytes:
        """Ciphertext with its 16-byte tag; advances the counter."""
        return self._cipher.encrypt(self._nonce(), plaintext, None)

    def decrypt(self, ciphertext: bytes) -> bytes:
        """NoiseError when tag or counter do not match."""
        try:
            return self._cipher.decrypt(self._nonce(), ciphertext, None)
        except (InvalidTag, ValueError) as error:
            raise NoiseError("wrong MAC or counter") from error

    def _nonce(self) -> bytes:
        nonce = self._counter.to_bytes(12, "big")
        self._counter += 1
        return nonce


class _SymmetricState:
    """Noise's chaining key, hash and current cipher."""

    def __init__(self) -> None:
        self._hash = _NAME
        self._chaining = _NAME
        self._cipher = AESGCM(_NAME)
        self._counter = 0

    def mix_hash(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()

    def mix_key(self, secret: bytes) -> None:
        self._chaining, key = self._hkdf(secret)
        self._cipher = AESGCM(key)
        self._counter = 0

    def encrypt(self, plaintext: bytes) -> bytes:
        ciphertext = self._cipher.encrypt(self._nonce(), plaintext, self._hash)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt(self, ciphertext: bytes) -> bytes:
        try:
            plaintext = self._cipher.decrypt(self._nonce(), ciphertext, self._hash)
        except (InvalidTag, ValueError) as error:
            raise NoiseError("handshake does not verify") from error
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """The client's write key, then the server's."""
        return self._hkdf(_NO_DATA)

    def _hkdf(self, secret: bytes) -> tuple[bytes, bytes]:
        extracted = hmac.digest(self._chaining, secret, "sha256")
        first = hmac.digest(extracted, b"\x01", "sha256")
        return first, hmac.digest(extracted, first + b"\x02", "sha256")

    def _nonce(self) -> bytes:
        nonce = self._counter.to_bytes(12, "big")
        self._counter += 1
        return nonce


@dataclass(frozen=True, slots=True)
class Established:
    """What a finished handshake yields: who the client is, what it said, and the two ciphers."""

    client_static: bytes
    payload: bytes
    incoming: CipherState
    outgoing: CipherState


class ServerHandshake:
    """Answers one client: `hello` first, then `finish`."""

    def __init__(self, static: X25519PrivateKey, cert_chain: bytes, ephemeral: X25519PrivateKey | None = None) -> None:
        """`cert_chain` is an encoded CertChain; `ephemeral` is given only where a recorded handshake is replayed."""
        self._static = static
        self._cert_chain = cert_chain
        self._ephemeral = ephemeral or X25519PrivateKey.generate()
        self._state = _SymmetricState()
        self._state.mix_hash(PROLOGUE)

    def hello(self, message: bytes) -> bytes:
        """Read ClientHello, give the encoded ServerHello. IK resumption (a static key in the hello) is refused."""
        hello = _parse(message).client_hello
        if len(hello.ephemeral) != 32 or hello.HasField("static"):
            raise NoiseError("not an XX client hello")
        state = self._state
        state.mix_hash(hello.ephemeral)
        ephemeral_public = self._ephemeral.public_key().public_bytes_raw()
        state.mix_hash(ephemeral_public)
        state.mix_key(_agree(self._ephemeral, hello.ephemeral))
        static = state.encrypt(self._static.public_key().public_bytes_raw())
        state.mix_key(_agree(self._static, hello.ephemeral))
        reply = ServerHello(ephemeral=ephemeral_public, static=static, payload=state.encrypt(self._cert_chain))
        return HandshakeMessage(server_hello=reply).SerializeToString()

    def finish(self, message: bytes) -> Established:
        """Read ClientFinish; NoiseError when it does not verify."""
        finish: ClientFinish = _parse(message).client_finish
        state = self._state
        client_static = state.decrypt(finish.static)
        if len(client_static) != 32:
            raise NoiseError("client static key has the wrong length")
        state.mix_key(_agree(self._ephemeral, client_static))
        payload = state.decrypt(finish.payload)
        client_write, server_write = state.split()
        return Established(client_static, payload, CipherState(client_write), CipherState(server_write))


def _parse(message: bytes) -> HandshakeMessage:
    try:
        return HandshakeMessage.FromString(message)
    except DecodeError as error:
        raise NoiseError("not a handshake message") from error


def _agree(private: X25519PrivateKey, public: bytes) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise NoiseError("invalid public key") from error
