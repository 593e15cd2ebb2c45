"""Key derivation and message cipher of the double ratchet: HKDF-SHA256, HMAC chains, AES-256-CBC with an 8-byte MAC.

Source: libsignal src/crypto.js and src/session_cipher.js (info strings, chunk sizes, chain constants, MAC input).
"""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from wahub.sandbox.signal.errors import UndecryptableError

MAC_LENGTH = 8
_ZERO_SALT = bytes(32)
_BLOCK = 16


def derive(secret: bytes, salt: bytes, info: bytes, chunks: int) -> list[bytes]:
    """HKDF-SHA256 (RFC 5869) in 32-byte chunks."""
    key = hmac.digest(salt, secret, "sha256")
    out: list[bytes] = []
    previous = b""
    for index in range(1, chunks + 1):
        previous = hmac.digest(key, previous + info + bytes((index,)), "sha256")
        out.append(previous)
    return out


def agreement_keys(secret: bytes) -> tuple[bytes, bytes]:
    """Root key and first chain key from the X3DH secret; only the root key is used by WhatsApp's sessions."""
    root, chain = derive(secret, _ZERO_SALT, b"WhisperText", 2)
    return root, chain


def ratchet_keys(root: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """Next root key and a new chain key from a Diffie-Hellman step."""
    next_root, chain = derive(secret, root, b"WhisperRatchet", 2)
    return next_root, chain


def message_seed(chain_key: bytes) -> bytes:
    """The seed of the message at the chain's current place."""
    return hmac.digest(chain_key, b"\x01", "sha256")


def next_chain_key(chain_key: bytes) -> bytes:
    """The chain key one message later."""
    return hmac.digest(chain_key, b"\x02", "sha256")


class MessageKeys:
    """Cipher key, MAC key and IV of one message; good for one use."""

    __slots__ = ("_cipher", "_mac_key")

    def __init__(self, seed: bytes) -> None:
        cipher_key, self._mac_key, iv = derive(seed, _ZERO_SALT, b"WhisperMessageKeys", 3)
        self._cipher = Cipher(algorithms.AES(cipher_key), modes.CBC(iv[:_BLOCK]))

    def mac(self, sender_identity: bytes, receiver_identity: bytes, message: bytes) -> bytes:
        """MAC over both identities (wire form) and the versioned message, cut to 8 bytes."""
        return hmac.digest(self._mac_key, sender_identity + receiver_identity + message, "sha256")[:MAC_LENGTH]

    def encrypt(self, plaintext: bytes) -> bytes:
        """AES-256-CBC with PKCS#7 padding."""
        pad = _BLOCK - len(plaintext) % _BLOCK
        encryptor = self._cipher.encryptor()
        return encryptor.update(plaintext + bytes((pad,)) * pad) + encryptor.finalize()

    def decrypt(self, ciphertext: bytes) -> bytes:
        """Undo `encrypt`; UndecryptableError when the padding is wrong."""
        if not ciphertext or len(ciphertext) % _BLOCK:
            raise UndecryptableError("ciphertext is not a whole number of blocks")
        decryptor = self._cipher.decryptor()
        padded = decryptor.update(ciphertext) + decryptor.finalize()
        pad = padded[-1]
        if not 1 <= pad <= _BLOCK or padded[-pad:] != bytes((pad,)) * pad:
            raise UndecryptableError("padding is wrong")
        return padded[:-pad]
