"""Linking by a code that a person types on the phone: the phone's half of the key agreement.

The client shows a code of 8 characters and hands the server its ephemeral key, encrypted by a key that PBKDF2 makes of
the code. The phone opens it with the code that was typed, answers with an ephemeral key of its own, encrypted the same
way, and both have a shared secret. Every code opens to 32 bytes, so a wrong one shows only when the client's key
bundle, sealed by that secret, does not open. The bundle names both identity keys and brings the client's share of the
ADV secret, which takes the place of the secret in a QR code.
source: Baileys src/Socket/socket.ts (requestPairingCode), messages-recv.ts (link_code_companion_reg), Utils/crypto.ts;
whatsmeow pair-code.go
"""

from __future__ import annotations

import hashlib
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wahub.sandbox.signal.curve import KeyPair
from wahub.sandbox.signal.errors import SignalError
from wahub.sandbox.signal.kdf import derive

CODE_LENGTH = 8
KEY_BUNDLE_LENGTH = 156
"""Salt (32), nonce (12), sealed bundle (96 and a tag of 16)."""

_ITERATIONS = 131_072
_NO_SALT = bytes(32)
_BUNDLE_INFO = b"link_code_pairing_key_bundle_encryption_key"
_ADV_INFO = b"adv_secret"


class UnreadableCodeError(ValueError):
    """What was typed cannot be a linking code; the text does not repeat it."""


class WrongCodeError(Exception):
    """The client's answer does not open with what the typed code gave."""


def read_code(text: str) -> str:
    """A code as clients show it (`ABCD-EFGH`), typed with or without the dash and spaces, in either case."""
    code = "".join(text.split()).replace("-", "").upper()
    if len(code) != CODE_LENGTH or not (code.isascii() and code.isalnum()):
        raise UnreadableCodeError(f"expected {CODE_LENGTH} letters and digits, with or without a dash")
    return code


class CodeAnswer:
    """The phone's answer to one request. `wrapped_key` is for the client: salt (32), IV (16), encrypted key (32)."""

    def __init__(self, code: str, wrapped_client_key: bytes) -> None:
        """`code` comes from `read_code`. Takes about 0.1 s of CPU."""
        ephemeral = KeyPair.generate()
        salt, iv = wrapped_client_key[:32], wrapped_client_key[32:48]
        client_key = _crypt(_code_key(code, salt), iv, wrapped_client_key[48:])
        try:
            self._shared: bytes | None = ephemeral.agree(client_key)
        except SignalError:
            self._shared = None  # what a wrong code gave is no usable key; the client finds out like we do
        salt, iv = secrets.token_bytes(32), secrets.token_bytes(16)
        self.wrapped_key = salt + iv + _crypt(_code_key(code, salt), iv, ephemeral.public)

    def adv_secret(self, bundle: bytes, client_identity: bytes, identity: KeyPair) -> bytes:
        """Open the client's key bundle (156 bytes); the ADV secret (32 bytes). WrongCodeError when it does not open.

        `client_identity` is what the server says of the client: the bundle must say the same, or somebody in the middle
        put in a key.
        """
        if self._shared is None or len(bundle) != KEY_BUNDLE_LENGTH:
            raise WrongCodeError
        (key,) = derive(self._shared, bundle[:32], _BUNDLE_INFO, 1)
        try:
            opened = AESGCM(key).decrypt(bundle[32:44], bundle[44:], None)
        except InvalidTag as error:
            raise WrongCodeError from error
        theirs, ours, random = opened[:32], opened[32:64], opened[64:]
        if theirs != client_identity or ours != identity.public:
            raise WrongCodeError
        secret = self._shared + identity.agree(theirs) + random
        return derive(secret, _NO_SALT, _ADV_INFO, 1)[0]


def _code_key(code: str, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", code.encode(), salt, _ITERATIONS, 32)


def _crypt(key: bytes, iv: bytes, data: bytes) -> bytes:
    """AES-256-CTR, which undoes itself."""
    cipher = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return cipher.update(data) + cipher.finalize()
