"""Conversations recorded with the library that Baileys uses: our side must read them, and write the same bytes."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wahub.sandbox.model import KeyBundle
from wahub.sandbox.signal.cipher import SignalStore
from wahub.sandbox.signal.curve import KeyPair, verify
from wahub.sandbox.signal.errors import SignalError
from wahub.sandbox.signal.identity import Identity

FIXTURES = sorted((Path(__file__).parents[2] / "fixtures" / "signal").glob("*.json"))


def test_there_are_recordings() -> None:
    assert len(FIXTURES) >= 6


class RecordedParty:
    """One side of a recording, played by our implementation with the recorded keys."""

    def __init__(self, recorded: dict[str, Any]) -> None:
        drawn: Iterator[str] = iter(recorded["drawn"])
        signed = recorded["signedPreKey"]
        identity = Identity(
            KeyPair.from_private(b64decode(recorded["identity"])),
            recorded["registrationId"],
            KeyPair.from_private(b64decode(signed["private"])),
            signed_prekey_id=signed["id"],
            new_key=lambda: KeyPair.from_private(b64decode(next(drawn))),
        )
        self.prekeys = {int(i): KeyPair.from_private(b64decode(raw)) for i, raw in recorded["preKeys"].items()}
        for number, pair in self.prekeys.items():
            identity.add_prekey(number, pair)
        identity.signed_prekey_signature = b64decode(signed["signature"])
        assert identity.wire_key == b64decode(recorded["identityPublic"])
        self.identity = identity
        self.store = SignalStore(identity)

    def bundle(self, prekey_id: int | None) -> KeyBundle:
        identity = self.identity
        prekey = None if prekey_id is None else self.prekeys[prekey_id].public
        return KeyBundle(
            identity.registration_id,
            identity.key.public,
            identity.signed_prekey_id,
            identity.signed_prekey.public,
            identity.signed_prekey_signature,
            prekey_id,
            prekey,
        )


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
@pytest.mark.parametrize("through_storage", [False, True], ids=["in_memory", "stored_each_step"])
def test_replay(path: Path, through_storage: bool) -> None:
    recording = json.loads(path.read_text())
    parties = {who: RecordedParty(recording[who]) for who in ("alice", "bob")}
    for step in recording["steps"]:
        who = step["who"]
        other = "bob" if who == "alice" else "alice"
        store = parties[who].store
        if through_storage:
            store.load(other, store.dump(other))
        match step["op"]:
            case "start":
                store.start(other, parties[other].bundle(step["prekeyId"]))
            case "close":
                store.close(other)
            case "encrypt":
                kind, body = store.encrypt(other, step["text"].encode())
                assert (kind, body) == (step["type"], b64decode(step["body"]))
            case "decrypt" if step["text"] is None:
                with pytest.raises(SignalError):
                    store.decrypt(other, step["type"], b64decode(step["body"]))
            case "decrypt":
                assert store.decrypt(other, step["type"], b64decode(step["body"])).decode() == step["text"]
            case unknown:
                pytest.fail(f"unknown step {unknown}")


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_recorded_signatures_verify(path: Path) -> None:
    recording = json.loads(path.read_text())
    for who in ("alice", "bob"):
        party = recording[who]
        public = b64decode(party["identityPublic"])[1:]
        signed = KeyPair.from_private(b64decode(party["signedPreKey"]["private"]))
        signature = b64decode(party["signedPreKey"]["signature"])
        assert verify(public, b"\x05" + signed.public, signature)
        assert not verify(public, b"\x05" + bytes(32), signature)
        assert not verify(public, b"\x05" + signed.public, signature[:-2] + bytes((signature[-2] ^ 1, signature[-1])))
