"""Curve25519: key pairs, agreement and XEdDSA signatures.

Keys are raw 32 bytes here; on the wire they carry the type byte 0x05 (33 bytes). Loaded key objects are kept, because
loading a private key costs as much as using it. Source: Signal's XEdDSA specification; libsignal src/curve.js.
"""

from __future__ import annotations

from functools import lru_cache

import xeddsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from wahub.sandbox.signal.errors import SignalError

KEY_TYPE = b"\x05"
_SIGN_BIT = 0x80


class KeyPair:
    """A Curve25519 key pair: the loaded private key and the raw public one."""

    __slots__ = ("_private", "public")

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> KeyPair:
        """A new random pair."""
        return cls(X25519PrivateKey.generate())

    @classmethod
    def from_private(cls, raw: bytes) -> KeyPair:
        """Load a raw 32-byte private key."""
        return cls(X25519PrivateKey.from_private_bytes(raw))

    @property
    def private(self) -> bytes:
        """The raw private key, for storage and signing."""
        return self._private.private_bytes_raw()

    def agree(self, their_public: bytes) -> bytes:
        """The shared secret (32 bytes) with a raw public key; SignalError for a key that is not on the curve."""
        try:
            return self._private.exchange(_public(their_public))
        except ValueError as error:
            raise SignalError("public key is not usable") from error

    def sign(self, message: bytes) -> bytes:
        """XEdDSA signature (64 bytes); verifies with the public key alone."""
        return xeddsa.ed25519_priv_sign(xeddsa.priv_force_sign(self.private, False), message)


@lru_cache(maxsize=4096)
def _public(raw: bytes) -> X25519PublicKey:
    return X25519PublicKey.from_public_bytes(raw)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Check an XEdDSA signature by a raw Curve25519 key.

    The curve key loses the sign of the Edwards point; signers that keep it put it into the signature's top bit
    (source: libsignal and curve25519-js), those that force it to zero leave the bit clear. Both are accepted.
    """
    if len(public) != 32 or len(signature) != 64:
        return False
    sign_bit = bool(signature[63] & _SIGN_BIT)
    plain = signature[:63] + bytes((signature[63] & ~_SIGN_BIT & 0xFF,))
    return xeddsa.ed25519_verify(plain, xeddsa.curve25519_pub_to_ed25519_pub(public, sign_bit), message)


def with_type(public: bytes) -> bytes:
    """The wire form of a raw public key."""
    return KEY_TYPE + public


def without_type(public: bytes) -> bytes:
    """The raw form of a wire key (33 bytes with 0x05) or of a raw one; SignalError otherwise."""
    if len(public) == 33 and public[:1] == KEY_TYPE:
        return public[1:]
    if len(public) == 32:
        return public
    raise SignalError("not a Curve25519 public key")
