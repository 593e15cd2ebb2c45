"""X3DH: how a session begins, from either side.

Source: Signal's X3DH specification; libsignal src/session_builder.js (`initSession`: 32 bytes of 0xFF, then the
agreements signed-prekey x identity, base x identity, base x signed-prekey, base x one-time prekey).
"""

from __future__ import annotations

from wahub.sandbox.model import KeyBundle
from wahub.sandbox.signal.curve import KeyPair, verify, with_type
from wahub.sandbox.signal.errors import BadSignatureError
from wahub.sandbox.signal.kdf import agreement_keys
from wahub.sandbox.signal.session import KeySource, PendingPreKey, Session

_DISCONTINUITY = b"\xff" * 32


def start_session(identity: KeyPair, bundle: KeyBundle, new_key: KeySource) -> Session:
    """A session from the other device's key bundle. BadSignatureError when its signed prekey is not its own."""
    if not verify(bundle.identity, with_type(bundle.signed_prekey), bundle.signed_prekey_signature):
        raise BadSignatureError("the signed prekey is not signed by the identity key")
    base = new_key()
    secret = _DISCONTINUITY + identity.agree(bundle.signed_prekey) + base.agree(bundle.identity)
    secret += base.agree(bundle.signed_prekey)
    if bundle.prekey is not None:
        secret += base.agree(bundle.prekey)
    root, _ = agreement_keys(secret)
    session = Session(
        root=root,
        ours=new_key(),
        last_remote=bundle.signed_prekey,
        remote_identity=bundle.identity,
        base_key=base.public,
        started_by_us=True,
        registration_id=bundle.registration_id,
    )
    prekey_id = bundle.prekey_id if bundle.prekey is not None else None
    session.pending = PendingPreKey(base.public, bundle.signed_prekey_id, prekey_id)
    session.start_sending()
    return session


def answer_session(
    identity: KeyPair,
    signed_prekey: KeyPair,
    prekey: KeyPair | None,
    *,
    their_identity: bytes,
    base_key: bytes,
    registration_id: int,
) -> Session:
    """The session that the other device began with our bundle; its first message then steps the ratchet."""
    secret = _DISCONTINUITY + signed_prekey.agree(their_identity) + identity.agree(base_key)
    secret += signed_prekey.agree(base_key)
    if prekey is not None:
        secret += prekey.agree(base_key)
    root, _ = agreement_keys(secret)
    return Session(
        root=root,
        ours=signed_prekey,
        last_remote=base_key,
        remote_identity=their_identity,
        base_key=base_key,
        started_by_us=False,
        registration_id=registration_id,
    )
