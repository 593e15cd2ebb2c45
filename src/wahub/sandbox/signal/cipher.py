"""Encrypting for and decrypting from other devices: the one entry point of the Signal part.

Messages come in two types: `pkmsg` carries what the other side needs to begin a session (until it answers), `msg` is a
plain ratchet message. Source: libsignal src/session_cipher.js.
"""

from __future__ import annotations

import hmac
from typing import Any

from wahub.sandbox.model import KeyBundle
from wahub.sandbox.signal.curve import with_type
from wahub.sandbox.signal.envelope import (
    PreKeyMessage,
    RatchetMessage,
    read_prekey,
    read_ratchet,
    write_prekey,
    write_ratchet,
)
from wahub.sandbox.signal.errors import KeyUsedError, NoSessionError, SignalError, UndecryptableError
from wahub.sandbox.signal.handshake import answer_session, start_session
from wahub.sandbox.signal.identity import Identity
from wahub.sandbox.signal.kdf import MessageKeys
from wahub.sandbox.signal.record import SessionRecord
from wahub.sandbox.signal.session import PendingPreKey, Session

PREKEY_MESSAGE = "pkmsg"
MESSAGE = "msg"


class SignalStore:
    """The sessions of one device with all others, by an address the caller chooses (any string, one per device)."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self._records: dict[str, SessionRecord] = {}

    def has_open_session(self, address: str) -> bool:
        """Whether `encrypt` would work without a key bundle."""
        record = self._records.get(address)
        return record is not None and record.open is not None

    def start(self, address: str, bundle: KeyBundle) -> None:
        """Begin a new session from a key bundle; the former one only reads late messages from now on."""
        session = start_session(self.identity.key, bundle, self.identity.new_key)
        self._records.setdefault(address, SessionRecord()).add(session)

    def close(self, address: str) -> None:
        """Close the open session, so that the next message begins a new one."""
        record = self._records.get(address)
        if record is not None:
            record.close()

    def forget(self, address: str) -> None:
        """Drop all sessions with a device that is gone."""
        self._records.pop(address, None)

    def encrypt(self, address: str, plaintext: bytes) -> tuple[str, bytes]:
        """Returns (type, body). NoSessionError when there is no open session."""
        record = self._records.get(address)
        session = record.open if record is not None else None
        if session is None or session.sending is None:
            raise NoSessionError("no open session with that device")
        keys = MessageKeys(session.sending.next_seed())
        body = write_ratchet(
            RatchetMessage(
                session.ours.public, session.sending.counter, session.previous_counter, keys.encrypt(plaintext)
            )
        )
        body += keys.mac(self.identity.wire_key, with_type(session.remote_identity), body)
        if session.pending is None:
            return MESSAGE, body
        return PREKEY_MESSAGE, self._with_prekeys(session.pending, body)

    def _with_prekeys(self, pending: PendingPreKey, body: bytes) -> bytes:
        return write_prekey(
            PreKeyMessage(
                registration_id=self.identity.registration_id,
                prekey_id=pending.prekey_id,
                signed_prekey_id=pending.signed_prekey_id,
                base_key=pending.base_key,
                identity=self.identity.key.public,
                message=body,
            )
        )

    def decrypt(self, address: str, kind: str, body: bytes) -> bytes:
        """Plaintext of a `pkmsg` or `msg`; after NoSessionError, KeyUsedError or UndecryptableError nothing changed."""
        if kind == PREKEY_MESSAGE:
            return self._decrypt_prekey(address, body)
        if kind != MESSAGE:
            raise UndecryptableError("neither pkmsg nor msg")
        record = self._records.get(address)
        if record is None or not record.sessions:
            raise NoSessionError("no session with that device")
        message = read_ratchet(body)
        failure: SignalError | None = None
        for session in record.sessions:
            try:
                plaintext = self._read(session, message, body)
            except SignalError as error:
                # A used key says more than the wrong MACs of the other sessions.
                failure = error if failure is None or isinstance(error, KeyUsedError) else failure
                continue
            record.promote(session)
            return plaintext
        raise failure or UndecryptableError("no session can read the message")

    def _decrypt_prekey(self, address: str, body: bytes) -> bytes:
        outer = read_prekey(body)
        message = read_ratchet(outer.message)
        record = self._records.get(address) or SessionRecord()
        session = record.begun_by_them(outer.base_key)
        if session is not None:
            plaintext = self._read(session, message, outer.message)
            record.promote(session)
            return plaintext
        session = self._answer(outer)
        plaintext = self._read(session, message, outer.message)
        record.add(session)
        self._records[address] = record
        if outer.prekey_id is not None:
            self.identity.use_up(outer.prekey_id)
        return plaintext

    def _answer(self, outer: PreKeyMessage) -> Session:
        if outer.signed_prekey_id != self.identity.signed_prekey_id:
            raise UndecryptableError("the signed prekey is not ours")
        prekey = None if outer.prekey_id is None else self.identity.prekey(outer.prekey_id)
        return answer_session(
            self.identity.key,
            self.identity.signed_prekey,
            prekey,
            their_identity=outer.identity,
            base_key=outer.base_key,
            registration_id=outer.registration_id,
        )

    def _read(self, session: Session, message: RatchetMessage, body: bytes) -> bytes:
        reading = session.look_up(message.ratchet_key, message.counter, message.previous_counter)
        keys = MessageKeys(reading.found.seed)
        mac = keys.mac(with_type(session.remote_identity), self.identity.wire_key, body[: -len(message.mac)])
        if not hmac.compare_digest(mac, message.mac):
            raise UndecryptableError("the MAC is wrong")
        plaintext = keys.decrypt(message.ciphertext)
        session.commit(reading, self.identity.new_key)
        return plaintext

    def addresses(self) -> list[str]:
        """Every address there is a session record for."""
        return list(self._records)

    def dump(self, address: str) -> list[dict[str, Any]]:
        """The sessions with one address as plain values; empty when there are none."""
        record = self._records.get(address)
        return [] if record is None else record.dump()

    def load(self, address: str, state: list[dict[str, Any]]) -> None:
        """Put back what `dump` gave."""
        self._records[address] = SessionRecord.load(state)
