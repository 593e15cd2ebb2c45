"""The server's own keys: the root that clients trust, the intermediate, the static Noise key and the media CA's key.

All come from one seed by HKDF-SHA256, so the same seed gives the same trust root. The chain: root signs the
intermediate (serial 1, issuer 0), the intermediate signs the leaf (serial 2, issuer 1), whose key is the static key
(source: whatsmeow handshake.go verifyServerCert, which also checks the validity times; Baileys
src/Utils/noise-handler.ts).
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wahub.sandbox.proto.handshake_pb2 import CertChain, CertificateDetails, NoiseCertificate
from wahub.sandbox.signal.curve import KeyPair

_DAY = 86400
_VALID_BEFORE = 2 * _DAY
_VALID_AFTER = 3650 * _DAY


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """What the server signs and speaks with."""

    root_public: bytes
    static: X25519PrivateKey
    cert_chain: bytes
    media_ca: ec.EllipticCurvePrivateKey

    @property
    def trust_root(self) -> str:
        """The root's public key as 64 hex digits: what a client must be told to trust."""
        return self.root_public.hex()


def new_seed() -> str:
    """A random seed."""
    return secrets.token_hex(32)


def keys_from_seed(seed: str) -> ServerKeys:
    """Derive all keys; the certificates are signed anew for the current time."""
    root = KeyPair.from_private(_derive(seed, "noise root"))
    intermediate = KeyPair.from_private(_derive(seed, "noise intermediate"))
    static = _derive(seed, "noise static")
    leaf = KeyPair.from_private(static)
    chain = CertChain(
        leaf=_certificate(intermediate, 2, 1, leaf.public),
        intermediate=_certificate(root, 1, 0, intermediate.public),
    )
    return ServerKeys(
        root_public=root.public,
        static=X25519PrivateKey.from_private_bytes(static),
        cert_chain=chain.SerializeToString(),
        media_ca=ec.derive_private_key(int.from_bytes(_derive(seed, "media ca")[:31], "big") or 1, ec.SECP256R1()),
    )


def _derive(seed: str, purpose: str) -> bytes:
    info = b"wahub sandbox " + purpose.encode()
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(seed.encode())


def _certificate(signer: KeyPair, serial: int, issuer: int, key: bytes) -> NoiseCertificate:
    now = int(time.time())
    details = CertificateDetails(
        serial=serial, issuer_serial=issuer, key=key, not_before=now - _VALID_BEFORE, not_after=now + _VALID_AFTER
    ).SerializeToString()
    return NoiseCertificate(details=details, signature=signer.sign(details))
