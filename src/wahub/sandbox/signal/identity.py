"""The long-lived keys of one device: identity, registration id, signed prekey and one-time prekeys."""

from __future__ import annotations

import secrets
from typing import Any

from wahub.sandbox.model import KeyBundle
from wahub.sandbox.signal.curve import KeyPair, with_type
from wahub.sandbox.signal.errors import UnknownPreKeyError
from wahub.sandbox.signal.session import KeySource

MAX_PREKEYS = 5000
_MAX_PREKEY_ID = 0xFFFFFF
_MAX_REGISTRATION_ID = 0x3FFF


class Identity:
    """The private keys of a device. `new_key` is where fresh key pairs come from (tests give recorded ones)."""

    def __init__(
        self,
        key: KeyPair,
        registration_id: int,
        signed_prekey: KeyPair,
        *,
        signed_prekey_id: int = 1,
        new_key: KeySource = KeyPair.generate,
    ) -> None:
        self.key = key
        self.registration_id = registration_id
        self.signed_prekey = signed_prekey
        self.signed_prekey_id = signed_prekey_id
        self.signed_prekey_signature = key.sign(with_type(signed_prekey.public))
        self.new_key = new_key
        self.wire_key = with_type(key.public)
        self._prekeys: dict[int, KeyPair] = {}
        self._next_prekey_id = 1

    @classmethod
    def generate(cls) -> Identity:
        """A new device."""
        registration_id = secrets.randbelow(_MAX_REGISTRATION_ID) + 1
        return cls(KeyPair.generate(), registration_id, KeyPair.generate())

    def bundle(self) -> KeyBundle:
        """Public keys with a fresh one-time prekey."""
        prekey_id = self._next_prekey_id
        prekey = self.new_key()
        self.add_prekey(prekey_id, prekey)
        return KeyBundle(
            registration_id=self.registration_id,
            identity=self.key.public,
            signed_prekey_id=self.signed_prekey_id,
            signed_prekey=self.signed_prekey.public,
            signed_prekey_signature=self.signed_prekey_signature,
            prekey_id=prekey_id,
            prekey=prekey.public,
        )

    def add_prekey(self, prekey_id: int, prekey: KeyPair) -> None:
        """Offer a one-time prekey; the oldest beyond the limit is forgotten."""
        self._prekeys[prekey_id] = prekey
        self._next_prekey_id = prekey_id % _MAX_PREKEY_ID + 1
        while len(self._prekeys) > MAX_PREKEYS:
            del self._prekeys[next(iter(self._prekeys))]

    def prekey(self, prekey_id: int) -> KeyPair:
        """An offered one-time prekey; UnknownPreKeyError when it was never offered or is used up."""
        found = self._prekeys.get(prekey_id)
        if found is None:
            raise UnknownPreKeyError("the one-time prekey was never offered or is used up")
        return found

    def use_up(self, prekey_id: int) -> None:
        """Forget a one-time prekey after a message made with it was read."""
        self._prekeys.pop(prekey_id, None)

    def dump(self) -> dict[str, Any]:
        """The state as plain values."""
        return {
            "key": self.key.private,
            "registration_id": self.registration_id,
            "signed_prekey": self.signed_prekey.private,
            "signed_prekey_id": self.signed_prekey_id,
            "next_prekey_id": self._next_prekey_id,
            "prekeys": [[number, pair.private] for number, pair in self._prekeys.items()],
        }

    @classmethod
    def load(cls, state: dict[str, Any]) -> Identity:
        """Rebuild from `dump`."""
        identity = cls(
            KeyPair.from_private(state["key"]),
            state["registration_id"],
            KeyPair.from_private(state["signed_prekey"]),
            signed_prekey_id=state["signed_prekey_id"],
        )
        for number, private in state["prekeys"]:
            identity.add_prekey(number, KeyPair.from_private(private))
        identity._next_prekey_id = state["next_prekey_id"]
        return identity
