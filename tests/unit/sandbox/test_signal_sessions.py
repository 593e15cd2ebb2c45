"""What the recordings cannot show: forged messages, limits, both sides starting at once for ever, used-up prekeys."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wahub.sandbox.signal.cipher import SignalStore
from wahub.sandbox.signal.errors import (
    BadSignatureError,
    KeyUsedError,
    NoSessionError,
    SignalError,
    UndecryptableError,
    UnknownPreKeyError,
)
from wahub.sandbox.signal.identity import Identity

A_MESSAGE = b"\x33\x0a\x21\x05" + bytes(32) + b"\x10\x00\x18\x00\x22\x10" + bytes(16) + bytes(8)


def pair() -> tuple[SignalStore, SignalStore]:
    alice, bob = SignalStore(Identity.generate()), SignalStore(Identity.generate())
    alice.start("bob", bob.identity.bundle())
    return alice, bob


def exchange(sender: SignalStore, to: str, receiver: SignalStore, of: str, text: bytes) -> None:
    assert receiver.decrypt(of, *sender.encrypt(to, text)) == text


def settled() -> tuple[SignalStore, SignalStore]:
    alice, bob = pair()
    exchange(alice, "bob", bob, "alice", b"hello")
    exchange(bob, "alice", alice, "bob", b"hello yourself")
    return alice, bob


def test_first_messages_are_pkmsg_until_the_answer() -> None:
    alice, bob = pair()
    kinds = [alice.encrypt("bob", b"a")[0], alice.encrypt("bob", b"b")[0]]
    exchange(alice, "bob", bob, "alice", b"c")
    exchange(bob, "alice", alice, "bob", b"d")
    assert [*kinds, alice.encrypt("bob", b"e")[0]] == ["pkmsg", "pkmsg", "msg"]


def test_without_session() -> None:
    store = SignalStore(Identity.generate())
    with pytest.raises(NoSessionError):
        store.encrypt("nobody", b"x")
    with pytest.raises(NoSessionError):
        store.decrypt("nobody", "msg", A_MESSAGE)


def test_two_sessions_begun_at_once_become_one() -> None:
    alice, bob = SignalStore(Identity.generate()), SignalStore(Identity.generate())
    alice.start("bob", bob.identity.bundle())
    bob.start("alice", alice.identity.bundle())
    from_alice, from_bob = alice.encrypt("bob", b"a0"), bob.encrypt("alice", b"b0")
    assert bob.decrypt("alice", *from_alice) == b"a0"
    assert alice.decrypt("bob", *from_bob) == b"b0"
    for turn in range(6):
        exchange(alice, "bob", bob, "alice", b"a%d" % turn)
        exchange(bob, "alice", alice, "bob", b"b%d" % turn)
    assert alice.encrypt("bob", b"x")[0] == bob.encrypt("alice", b"x")[0] == "msg"


@pytest.mark.parametrize("where", [0, 1, 5, 20, -1, -9])
def test_damaged_message_changes_nothing(where: int) -> None:
    alice, bob = settled()
    kind, body = alice.encrypt("bob", b"the real one")
    damaged = bytearray(body)
    damaged[where] ^= 1
    before = bob.dump("alice")
    with pytest.raises(SignalError):
        bob.decrypt("alice", kind, bytes(damaged))
    assert bob.dump("alice") == before
    assert bob.decrypt("alice", kind, body) == b"the real one"


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["msg", "pkmsg", "skmsg"]))
def test_rubbish_is_refused_cleanly(body: bytes, kind: str) -> None:
    _, bob = settled()
    with pytest.raises(SignalError):
        bob.decrypt("alice", kind, body)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(8)))
def test_any_order_once(order: list[int]) -> None:
    alice, bob = settled()
    sent = [alice.encrypt("bob", b"%d" % number) for number in range(8)]
    for number in order:
        assert bob.decrypt("alice", *sent[number]) == b"%d" % number
    for message in sent:
        with pytest.raises(KeyUsedError):
            bob.decrypt("alice", *message)


def test_two_thousand_may_be_skipped_but_not_more() -> None:
    alice, bob = settled()
    for _ in range(1999):
        alice.encrypt("bob", b"lost")
    exchange(alice, "bob", bob, "alice", b"just in reach")
    for _ in range(2000):
        alice.encrypt("bob", b"lost")
    with pytest.raises(UndecryptableError, match="2000"):
        bob.decrypt("alice", *alice.encrypt("bob", b"too far"))


def test_one_time_prekey_works_once() -> None:
    bob = SignalStore(Identity.generate())
    bundle = bob.identity.bundle()
    for name in ("alice", "mallory"):
        store = SignalStore(Identity.generate())
        store.start("bob", bundle)
        message = store.encrypt("bob", b"hi")
        if name == "alice":
            assert bob.decrypt(name, *message) == b"hi"
        else:
            with pytest.raises(UnknownPreKeyError):
                bob.decrypt(name, *message)


def test_bundle_must_be_signed_by_its_identity() -> None:
    alice, bob = SignalStore(Identity.generate()), SignalStore(Identity.generate())
    forged = replace(bob.identity.bundle(), identity=Identity.generate().key.public)
    with pytest.raises(BadSignatureError):
        alice.start("bob", forged)


def test_identity_survives_storage_with_its_offered_prekeys() -> None:
    alice, bob = pair()
    message = alice.encrypt("bob", b"while bob was away")
    again = SignalStore(Identity.load(bob.identity.dump()))
    assert again.decrypt("alice", *message) == b"while bob was away"
    assert again.identity.bundle().prekey_id == 2


def test_a_chain_that_was_left_reads_its_missing_messages_and_nothing_more() -> None:
    alice, bob = settled()
    missing = alice.encrypt("bob", b"missing")
    exchange(alice, "bob", bob, "alice", b"last of this chain")
    stolen = SignalStore(Identity.load(alice.identity.dump()))
    stolen.load("bob", alice.dump("bob"))
    exchange(bob, "alice", alice, "bob", b"step")
    exchange(alice, "bob", bob, "alice", b"first of the next chain")
    assert bob.decrypt("alice", *missing) == b"missing"
    with pytest.raises(UndecryptableError, match="closed"):
        bob.decrypt("alice", *stolen.encrypt("bob", b"one too many on the old chain"))
