"""Polls and votes: what they look like, and the encryption between a poll's creator and a voter.

A poll carries a secret. A vote names the chosen options by SHA-256 and is encrypted with a key made of that secret and
of the addresses of creator and voter, each as the voter's phone knows them: numbers in a chat by number, LIDs in a
chat by LID. Source: whatsmeow msgsecret.go (`generateMsgSecretKey`, `EncryptPollVote`), Baileys Utils/messages
(`generateWAMessageContent`) and Utils/process-message (`decryptPollVote`).
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wahub.sandbox.model import RefusedError
from wahub.sandbox.phone.content import Poll, Target
from wahub.sandbox.phone.reading import POLLS, opened
from wahub.sandbox.proto import e2e_pb2

_SECRET_BYTES = 32
_IV_BYTES = 12


def build_poll(poll: Poll) -> e2e_pb2.Message:
    """A new poll with a secret of its own. Polls with one choice have a field of their own."""
    creation = e2e_pb2.PollCreationMessage(
        name=poll.name,
        options=[e2e_pb2.PollCreationMessage.Option(option_name=name) for name in poll.options],
        selectable_options_count=poll.selectable,
    )
    context = e2e_pb2.MessageContextInfo(message_secret=secrets.token_bytes(_SECRET_BYTES))
    if poll.selectable == 1:
        return e2e_pb2.Message(poll_creation_message_v3=creation, message_context_info=context)
    return e2e_pb2.Message(poll_creation_message=creation, message_context_info=context)


def build_vote(poll: Target, chosen: Sequence[str], voter_jid: str) -> e2e_pb2.Message:
    """A vote for these options, none to withdraw. RefusedError 400 names what the poll does not allow."""
    creation, secret = _poll_of(poll.message)
    names = [option.option_name for option in creation.options]
    unknown = [name for name in chosen if name not in names]
    if unknown:
        raise RefusedError(400, f"options: the poll has no option {unknown[0]!r}; it has {', '.join(names)}")
    if creation.selectable_options_count and len(set(chosen)) > creation.selectable_options_count:
        raise RefusedError(400, f"options: this poll allows {creation.selectable_options_count}")
    hashes = [hashlib.sha256(name.encode()).digest() for name in names if name in chosen]
    plain = e2e_pb2.PollVoteMessage(selected_options=hashes).SerializeToString()
    iv = secrets.token_bytes(_IV_BYTES)
    key = vote_key(secret, poll.message_id, poll.author_jid, voter_jid)
    sealed = AESGCM(key).encrypt(iv, plain, f"{poll.message_id}\0{voter_jid}".encode())
    update = e2e_pb2.PollUpdateMessage(
        poll_creation_message_key=poll.key(),
        vote=e2e_pb2.PollEncValue(enc_payload=sealed, enc_iv=iv),
        sender_timestamp_ms=int(time.time() * 1000),
    )
    return e2e_pb2.Message(poll_update_message=update)


def vote_key(secret: bytes, poll_id: str, creator_jid: str, voter_jid: str) -> bytes:
    """The AES-256 key of one voter's votes on one poll."""
    info = f"{poll_id}{creator_jid}{voter_jid}Poll Vote".encode()
    return HKDF(SHA256(), length=32, salt=None, info=info).derive(secret)


def _poll_of(message: e2e_pb2.Message) -> tuple[e2e_pb2.PollCreationMessage, bytes]:
    inner = opened(message)
    field = next((name for name in POLLS if inner.HasField(name)), None)  # type: ignore[arg-type]
    secret = message.message_context_info.message_secret or inner.message_context_info.message_secret
    if field is None or not secret:
        raise RefusedError(400, "pollId: this message is no poll that can be voted on")
    return getattr(inner, field), secret
