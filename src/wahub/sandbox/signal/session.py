"""The double ratchet: one session between two devices.

What is promised: a session that fails to read a message is unchanged, so a forged or damaged message cannot hurt it;
keys of messages that were skipped are kept (at most 2000 per chain) and used once. A crash loses what was not stored
by the caller: `dump` and `load` carry the whole state.
Source: libsignal src/session_cipher.js and session_builder.js; counters start at 0 and `previous_counter` names the
last message of the sender's previous chain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wahub.sandbox.signal.curve import KeyPair
from wahub.sandbox.signal.errors import KeyUsedError, UndecryptableError
from wahub.sandbox.signal.kdf import message_seed, next_chain_key, ratchet_keys

MAX_SKIP = 2000
MAX_OLD_CHAINS = 40
KeySource = Callable[[], KeyPair]


class Chain:
    """Message keys under one ratchet key. `counter` is the number of the last derived message, -1 before the first."""

    __slots__ = ("counter", "key", "skipped")

    def __init__(self, key: bytes | None, counter: int = -1, skipped: dict[int, bytes] | None = None) -> None:
        self.key = key
        self.counter = counter
        self.skipped: dict[int, bytes] = {} if skipped is None else skipped

    def next_seed(self) -> bytes:
        """Move one message on and return its seed (sending side)."""
        if self.key is None:
            raise UndecryptableError("chain is closed")
        seed = message_seed(self.key)
        self.key = next_chain_key(self.key)
        self.counter += 1
        return seed

    def find(self, counter: int) -> Found:
        """The seed of message `counter`, without changing the chain; `take` makes the change."""
        if counter <= self.counter:
            seed = self.skipped.get(counter)
            if seed is None:
                raise KeyUsedError("message key was used already")
            return Found(seed, counter, self.key, {})
        if counter - self.counter > MAX_SKIP:
            raise UndecryptableError(f"more than {MAX_SKIP} messages ahead")
        if self.key is None:
            raise UndecryptableError("chain is closed")
        key = self.key
        skipped: dict[int, bytes] = {}
        for number in range(self.counter + 1, counter):
            skipped[number] = message_seed(key)
            key = next_chain_key(key)
        return Found(message_seed(key), counter, next_chain_key(key), skipped)

    def take(self, found: Found) -> None:
        """Use up the key that `find` returned, and keep those of the messages before it."""
        if found.counter <= self.counter:
            self.skipped.pop(found.counter, None)
            return
        self.skipped.update(found.skipped)
        while len(self.skipped) > MAX_SKIP:
            del self.skipped[next(iter(self.skipped))]
        self.key, self.counter = found.next_key, found.counter

    def close(self, last_counter: int) -> None:
        """The sender left this chain after message `last_counter`: keep the keys of missing messages, drop the rest."""
        if self.key is not None and self.counter < last_counter <= self.counter + MAX_SKIP:
            found = self.find(last_counter)
            self.take(found)
            self.skipped[last_counter] = found.seed
        self.key = None


class Found:
    """A message key that was looked up but not yet taken."""

    __slots__ = ("counter", "next_key", "seed", "skipped")

    def __init__(self, seed: bytes, counter: int, next_key: bytes | None, skipped: dict[int, bytes]) -> None:
        self.seed = seed
        self.counter = counter
        self.next_key = next_key
        self.skipped = skipped


class PendingPreKey:
    """Goes with every message until the other side answers: which of its prekeys this session was made from."""

    __slots__ = ("base_key", "prekey_id", "signed_prekey_id")

    def __init__(self, base_key: bytes, signed_prekey_id: int, prekey_id: int | None) -> None:
        self.base_key = base_key
        self.signed_prekey_id = signed_prekey_id
        self.prekey_id = prekey_id


class Reading:
    """A received message whose key is known but not yet taken; `Session.commit` takes it after the MAC was checked."""

    __slots__ = ("chain", "found", "is_new_chain", "previous_counter", "ratchet_key", "root")

    def __init__(
        self, chain: Chain, found: Found, ratchet_key: bytes, root: bytes, previous_counter: int, is_new_chain: bool
    ) -> None:
        self.chain = chain
        self.found = found
        self.ratchet_key = ratchet_key
        self.root = root
        self.previous_counter = previous_counter
        self.is_new_chain = is_new_chain


class Session:
    """One double-ratchet session. Public keys are raw; `base_key` is the name of the session."""

    __slots__ = (
        "base_key", "closed", "last_remote", "ours", "pending", "previous_counter", "receiving", "registration_id",
        "remote_identity", "root", "sending", "started_by_us",
    )  # fmt: skip

    def __init__(
        self,
        *,
        root: bytes,
        ours: KeyPair,
        last_remote: bytes,
        remote_identity: bytes,
        base_key: bytes,
        started_by_us: bool,
        registration_id: int,
    ) -> None:
        self.root = root
        self.ours = ours
        self.last_remote = last_remote
        self.remote_identity = remote_identity
        self.base_key = base_key
        self.started_by_us = started_by_us
        self.registration_id = registration_id
        self.previous_counter = 0
        self.sending: Chain | None = None
        self.receiving: dict[bytes, Chain] = {}
        self.pending: PendingPreKey | None = None
        self.closed = False

    def start_sending(self) -> None:
        """Derive the sending chain for our present ratchet key."""
        self.root, key = ratchet_keys(self.root, self.ours.agree(self.last_remote))
        self.sending = Chain(key)

    def look_up(self, ratchet_key: bytes, counter: int, previous_counter: int) -> Reading:
        """Find the key of a received message; changes nothing. KeyUsedError or UndecryptableError if there is none."""
        chain = self.receiving.get(ratchet_key)
        if chain is not None:
            return Reading(chain, chain.find(counter), ratchet_key, self.root, previous_counter, False)
        root, key = ratchet_keys(self.root, self.ours.agree(ratchet_key))
        chain = Chain(key)
        return Reading(chain, chain.find(counter), ratchet_key, root, previous_counter, True)

    def commit(self, reading: Reading, new_key: KeySource) -> None:
        """Take the key and, for a new ratchet key, step the ratchet: close the old chain, make a new sending chain."""
        reading.chain.take(reading.found)
        self.pending = None
        if not reading.is_new_chain:
            return
        previous = self.receiving.get(self.last_remote)
        if previous is not None:
            previous.close(reading.previous_counter)
        self.receiving[reading.ratchet_key] = reading.chain
        while len(self.receiving) > MAX_OLD_CHAINS:
            del self.receiving[next(iter(self.receiving))]
        if self.sending is not None:
            self.previous_counter = max(self.sending.counter, 0)
        self.root = reading.root
        self.last_remote = reading.ratchet_key
        self.ours = new_key()
        self.start_sending()

    def dump(self) -> dict[str, Any]:
        """The state as plain values (bytes, numbers, lists)."""
        pending = self.pending
        sending = self.sending
        return {
            "root": self.root,
            "ours": self.ours.private,
            "last_remote": self.last_remote,
            "remote_identity": self.remote_identity,
            "base_key": self.base_key,
            "started_by_us": self.started_by_us,
            "registration_id": self.registration_id,
            "previous_counter": self.previous_counter,
            "sending": None if sending is None else [sending.key, sending.counter],
            "receiving": [[key, c.key, c.counter, list(c.skipped.items())] for key, c in self.receiving.items()],
            "pending": None if pending is None else [pending.base_key, pending.signed_prekey_id, pending.prekey_id],
            "closed": self.closed,
        }

    @classmethod
    def load(cls, state: dict[str, Any]) -> Session:
        """Rebuild a session from `dump`."""
        session = cls(
            root=state["root"],
            ours=KeyPair.from_private(state["ours"]),
            last_remote=state["last_remote"],
            remote_identity=state["remote_identity"],
            base_key=state["base_key"],
            started_by_us=state["started_by_us"],
            registration_id=state["registration_id"],
        )
        session.previous_counter = state["previous_counter"]
        session.closed = state["closed"]
        if state["sending"] is not None:
            session.sending = Chain(*state["sending"])
        for ratchet_key, key, counter, skipped in state["receiving"]:
            session.receiving[ratchet_key] = Chain(key, counter, dict(skipped))
        if state["pending"] is not None:
            session.pending = PendingPreKey(*state["pending"])
        return session
