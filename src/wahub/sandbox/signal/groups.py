"""Sender keys: how a device writes to a group once instead of once per member.

A device has one chain per group and hands its start to every other device over pairwise sessions (a distribution);
each message moves the chain on by one and is signed. Chain steps are those of the double ratchet; the message cipher
is AES-256-CBC with keys from HKDF under the text `WhisperGroup`.
Source: Baileys src/Signal/Group (sender-key-message.ts, sender-key-distribution-message.ts, group_cipher.ts,
sender-chain-key.ts, sender-message-key.ts); libsignal's group protocol.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from google.protobuf.message import DecodeError

from wahub.sandbox.proto.whisper_pb2 import SenderKeyDistribution, SenderKeyMessage
from wahub.sandbox.signal.curve import KeyPair, verify, with_type, without_type
from wahub.sandbox.signal.errors import KeyUsedError, NoSessionError, SignalError, UndecryptableError
from wahub.sandbox.signal.kdf import derive, message_seed, next_chain_key

GROUP_MESSAGE = "skmsg"
MAX_SKIPPED = 2000
MAX_CHAINS = 5
_VERSION = b"\x33"
_SIGNATURE = 64
_MAX_KEY_ID = 2**31 - 1
_BLOCK = 16


@dataclass(slots=True)
class _Own:
    """Our chain in a group, and the devices (by address) that were given it."""

    key_id: int
    iteration: int
    chain_key: bytes
    signing: KeyPair
    shared: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Theirs:
    """A chain that another device gave us; `skipped` are seeds of messages that did not come yet."""

    key_id: int
    iteration: int
    chain_key: bytes
    signing_key: bytes
    skipped: dict[int, bytes] = field(default_factory=dict)


class SenderKeys:
    """The sender keys of one device: its own by group, those of others by group and address."""

    def __init__(self) -> None:
        self._own: dict[str, _Own] = {}
        self._theirs: dict[tuple[str, str], list[_Theirs]] = {}

    def shared_with(self, group: str) -> set[str]:
        """The devices (addresses) that can read what we write next; add those that were given the distribution."""
        return self._own_chain(group).shared

    def renew(self, group: str) -> None:
        """Begin a new chain at the next message: somebody who has the present one left the group."""
        self._own.pop(group, None)

    def distribution(self, group: str) -> bytes:
        """Our chain from where it stands now, for a device that shall read what comes."""
        own = self._own_chain(group)
        message = SenderKeyDistribution(
            id=own.key_id,
            iteration=own.iteration,
            chain_key=own.chain_key,
            signing_key=with_type(own.signing.public),
        )
        return _VERSION + message.SerializeToString()

    def encrypt(self, group: str, plaintext: bytes) -> bytes:
        """Write the next message of our chain."""
        own = self._own_chain(group)
        ciphertext = _encrypt(message_seed(own.chain_key), plaintext)
        body = SenderKeyMessage(id=own.key_id, iteration=own.iteration, ciphertext=ciphertext)
        own.iteration, own.chain_key = own.iteration + 1, next_chain_key(own.chain_key)
        signed = _VERSION + body.SerializeToString()
        return signed + own.signing.sign(signed)

    def process(self, group: str, sender: str, distribution: bytes) -> None:
        """Take the chain that a device gave us; UndecryptableError when it is malformed."""
        try:
            read = SenderKeyDistribution.FromString(distribution[1:])
            chain = _Theirs(read.id, read.iteration, read.chain_key, without_type(read.signing_key))
        except (DecodeError, SignalError) as error:
            raise UndecryptableError("the sender key distribution is malformed") from error
        chains = self._theirs.setdefault((group, sender), [])
        known = next((had for had in chains if had.key_id == chain.key_id), None)
        if known is not None and known.iteration <= chain.iteration:
            return  # what we have reads more
        self._theirs[group, sender] = [chain, *(had for had in chains if had is not known)][:MAX_CHAINS]

    def decrypt(self, group: str, sender: str, body: bytes) -> bytes:
        """Read a message; after NoSessionError, KeyUsedError or UndecryptableError nothing changed."""
        if len(body) <= _SIGNATURE + 1 or body[0] >> 4 != _VERSION[0] >> 4:
            raise UndecryptableError("not a sender key message")
        signed, signature = body[:-_SIGNATURE], body[-_SIGNATURE:]
        try:
            message = SenderKeyMessage.FromString(signed[1:])
        except DecodeError as error:
            raise UndecryptableError("the sender key message is malformed") from error
        chains = self._theirs.get((group, sender), [])
        chain = next((found for found in chains if found.key_id == message.id), None)
        if chain is None:
            raise NoSessionError("no sender key of that device for this group")
        if not verify(chain.signing_key, signed, signature):
            raise UndecryptableError("the signature is wrong")
        return _read(chain, message)

    def _own_chain(self, group: str) -> _Own:
        own = self._own.get(group)
        if own is None:
            own = _Own(secrets.randbelow(_MAX_KEY_ID), 0, secrets.token_bytes(32), KeyPair.generate())
            self._own[group] = own
        return own

    def names(self) -> list[tuple[str, str | None]]:
        """Group and address of every chain; the address is None for our own."""
        return [(group, None) for group in self._own] + list(self._theirs)

    def dump(self, group: str, sender: str | None) -> list[Any]:
        """One entry of `names` as plain values."""
        if sender is None:
            own = self._own[group]
            return [own.key_id, own.iteration, own.chain_key, own.signing.private, sorted(own.shared)]
        chains = self._theirs[group, sender]
        return [[c.key_id, c.iteration, c.chain_key, c.signing_key, list(c.skipped.items())] for c in chains]

    def load(self, group: str, sender: str | None, state: list[Any]) -> None:
        """Put back what `dump` gave."""
        if sender is None:
            key_id, iteration, chain_key, private, shared = state
            self._own[group] = _Own(key_id, iteration, chain_key, KeyPair.from_private(private), set(shared))
            return
        self._theirs[group, sender] = [
            _Theirs(key_id, iteration, chain_key, signing_key, dict(skipped))
            for key_id, iteration, chain_key, signing_key, skipped in state
        ]


def _read(chain: _Theirs, message: SenderKeyMessage) -> bytes:
    wanted = message.iteration
    if wanted < chain.iteration:
        seed = chain.skipped.get(wanted)
        if seed is None:
            raise KeyUsedError("the key of this message was used")
        plaintext = _decrypt(seed, message.ciphertext)
        del chain.skipped[wanted]
        return plaintext
    if wanted - chain.iteration > MAX_SKIPPED:
        raise UndecryptableError("too many messages were skipped")
    key, skipped = chain.chain_key, {}
    for iteration in range(chain.iteration, wanted):
        skipped[iteration] = message_seed(key)
        key = next_chain_key(key)
    plaintext = _decrypt(message_seed(key), message.ciphertext)
    chain.iteration, chain.chain_key = wanted + 1, next_chain_key(key)
    chain.skipped.update(skipped)
    while len(chain.skipped) > MAX_SKIPPED:
        del chain.skipped[next(iter(chain.skipped))]
    return plaintext


def _cipher(seed: bytes) -> Cipher[modes.CBC]:
    expanded = b"".join(derive(seed, bytes(32), b"WhisperGroup", 2))
    return Cipher(algorithms.AES(expanded[16:48]), modes.CBC(expanded[:16]))


def _encrypt(seed: bytes, plaintext: bytes) -> bytes:
    pad = _BLOCK - len(plaintext) % _BLOCK
    encryptor = _cipher(seed).encryptor()
    return encryptor.update(plaintext + bytes((pad,)) * pad) + encryptor.finalize()


def _decrypt(seed: bytes, ciphertext: bytes) -> bytes:
    if not ciphertext or len(ciphertext) % _BLOCK:
        raise UndecryptableError("ciphertext is not a whole number of blocks")
    decryptor = _cipher(seed).decryptor()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    pad = padded[-1]
    if not 1 <= pad <= _BLOCK or padded[-pad:] != bytes((pad,)) * pad:
        raise UndecryptableError("padding is wrong")
    return padded[:-pad]
