"""Files of messages: where one is, what is kept of it, which type it may be shown as, when fetching is tried again.

What a message says of its file was written by its sender: a name is cleaned, a type counts only as far as the bytes
bear it out, a length is a claim.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote

from wahub.domain.ids import InstanceId, MessageId
from wahub.domain.inbox import Received
from wahub.domain.retry import Backoff

_BEARERS: Final = {
    "imageMessage": "image",
    "videoMessage": "video",
    "ptvMessage": "video",
    "audioMessage": "audio",
    "documentMessage": "document",
    "stickerMessage": "sticker",
}
_DEEPEST = 5
"""Wrappers inside each other (view once, ephemeral, with a caption, …); source: Baileys normalizeMessageContent."""

_LARGEST = 2**53
_LONGEST_NAME = 150
_LONGEST_PATH = 4_096
_LONGEST_KEY = 64
"""Bytes; keys and hashes have 32. A sender could have the engine choke on longer ones."""


@dataclass(frozen=True, slots=True)
class MediaRef:
    """Where the file of a message is and what opens it. `kind`: image, video, audio, document or sticker."""

    kind: str
    direct_path: str
    media_key: bytes = field(repr=False)
    file_sha256: bytes | None = None
    file_enc_sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class Attached:
    """The file of a message as its sender describes it. `size` in bytes, None if it is not said."""

    ref: MediaRef
    mime: str
    size: int | None
    name: str | None


def attached(received: Received) -> Attached | None:
    """The file of a message; None if it has none, or not what it takes to open it."""
    found = _bearer(received.raw)
    if found is None:
        return None
    kind, part = found
    path, key = part.get("directPath"), _bytes(part.get("mediaKey"))
    if not isinstance(path, str) or not 0 < len(path) <= _LONGEST_PATH or not key:
        return None
    name = part.get("fileName")
    return Attached(
        MediaRef(kind, path, key, _bytes(part.get("fileSha256")), _bytes(part.get("fileEncSha256"))),
        mime=str(part.get("mimetype") or ""),
        size=_length(part.get("fileLength")),
        name=name if isinstance(name, str) else None,
    )


def _bearer(raw: str | None) -> tuple[str, Mapping[str, Any]] | None:
    try:
        message = None if raw is None else json.loads(raw)
    except (ValueError, RecursionError):
        return None
    for _ in range(_DEEPEST):
        if not isinstance(message, dict):
            return None
        for name, kind in _BEARERS.items():
            if isinstance(part := message.get(name), dict):
                return kind, part
        wrapped = [part["message"] for part in message.values() if isinstance(part, dict) and "message" in part]
        message = wrapped[0] if wrapped else None
    return None


def _bytes(given: object) -> bytes | None:
    try:
        found = base64.b64decode(given, validate=True) if isinstance(given, str) else b""
    except (ValueError, binascii.Error):
        return None
    return found if 0 < len(found) <= _LONGEST_KEY else None


def _length(given: object) -> int | None:
    """A length is a number, or the digits of one (rawJson writes 64-bit numbers so)."""
    if isinstance(given, str) and re.fullmatch("[0-9]{1,20}", given):
        given = int(given)
    return min(given, _LARGEST) if isinstance(given, int) and given > 0 else None


def with_url(details: Mapping[str, Any], instance: InstanceId, message_id: MessageId) -> dict[str, Any]:
    """The details of a message as callers see them: a file has the path at which it is asked for."""
    media = details.get("media")
    if not isinstance(media, Mapping):
        return dict(details)
    # Ids are chosen by senders.
    path = f"/instances/{instance}/messages/{quote(message_id, safe='')}/media"
    return {**details, "media": {**media, "url": path}}


# --- what is kept -----------------------------------------------------------------------------------------------------


class MediaState(StrEnum):
    """`WANTED`: to be fetched unasked. `HERE`: it is there. `FAILED`: given up; tried again when it is asked for."""

    WANTED = "wanted"
    HERE = "here"
    FAILED = "failed"


class Trouble(StrEnum):
    """Why there is no file: the words of `ports.engine.Fetched`."""

    TOO_LARGE = "too_large"
    GONE = "gone"
    REFUSED = "refused"
    DAMAGED = "damaged"
    UNREACHABLE = "unreachable"
    NOT_OPEN = "not_open"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class MediaFile:
    """What is known of the file of a message. While it is `HERE` it has a path, type, size, SHA-256 (hex) and time.

    `path` is below the media folder, `mime` what it may be shown as.
    """

    instance: InstanceId
    message_id: MessageId
    state: MediaState
    path: str | None = None
    mime: str | None = None
    size: int | None = None
    sha256: str | None = None
    attempts: int = 0
    next_attempt_at: float | None = None
    fetched_at: float | None = None
    error: str | None = None


_WAITS = Backoff(base=30.0, cap=14_400.0)
_ATTEMPTS: Final = {Trouble.TOO_LARGE: 1, Trouble.GONE: 1, Trouble.DAMAGED: 3}
"""How often a trouble that will hardly pass is met; the sender may mean it."""

_MOST_ATTEMPTS = 14
"""With these waits the last attempt comes about a day after the first."""


def failed(file: MediaFile, trouble: Trouble, now: float) -> MediaFile:
    """After an attempt without success: tried again later, or given up. A link that was not open was no attempt."""
    if trouble is Trouble.NOT_OPEN:
        return file
    if file.state is not MediaState.WANTED:
        return replace(file, state=MediaState.FAILED, path=None, fetched_at=None, error=trouble)
    attempts = file.attempts + 1
    if attempts >= _ATTEMPTS.get(trouble, _MOST_ATTEMPTS):
        return replace(file, state=MediaState.FAILED, attempts=attempts, next_attempt_at=None, error=trouble)
    return replace(file, attempts=attempts, next_attempt_at=now + _WAITS.delay(attempts), error=trouble)


# --- what it is shown as ----------------------------------------------------------------------------------------------

UNKNOWN_TYPE: Final = "application/octet-stream"

_TYPE = re.compile(
    r"(?P<plain>[a-z0-9][a-z0-9!#$&^_.+-]{0,99}/[a-z0-9][a-z0-9!#$&^_.+-]{0,99})"
    r"(?:.*?;\s*codecs=(?P<codecs>[\w.,-]{1,60}|\"[\w., -]{1,60}\")\s*(?:;|$))?",
    # It becomes a header: letters beyond ASCII would fail there.
    re.IGNORECASE | re.ASCII,
)
_CONTAINERS: Final = {
    "audio": frozenset({"application/ogg", "video/ogg", "video/mp4", "video/3gpp", "video/webm", "video/quicktime"}),
    "video": frozenset({"application/x-matroska", "application/ogg"}),
}
"""Types of files that hold sound or pictures, whatever they are called by their first bytes."""

_FAMILIES: Final = {"image": "image/", "sticker": "image/", "video": "video/", "audio": "audio/"}
_ACTIVE = re.compile(r"text/html|.*[/+]xml|.*/.*script", re.IGNORECASE)
"""Types that a browser would run."""


def shown_type(kind: str, declared: str, found: frozenset[str]) -> str:
    """The Content-Type of a file that was sent as `kind` with the type `declared`; `found`: what its bytes may be.

    The declared type if the bytes are of that kind (a document: if they may be of that very type), else one that says
    nothing. Of its parameters only `codecs` is kept.
    """
    match = _TYPE.match(declared.strip())
    if match is None or _ACTIVE.fullmatch(match["plain"]) or not _bear_out(kind, match["plain"].lower(), found):
        return UNKNOWN_TYPE
    plain = match["plain"].lower()
    return f"{plain}; codecs={match['codecs']}" if match["codecs"] else plain


def _bear_out(kind: str, declared: str, found: frozenset[str]) -> bool:
    family = _FAMILIES.get(kind)
    if family is None:
        return declared in found
    holds = _CONTAINERS.get(kind, frozenset())
    return declared.startswith(family) and any(
        one in holds or (one.startswith(family) and not _ACTIVE.fullmatch(one)) for one in found
    )


_ENDINGS: Final = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "video/mp4": ".mp4",
    "video/3gpp": ".3gp",
    "audio/ogg": ".ogg",
    "audio/mpeg": ".mp3",
    "audio/mp4": ".m4a",
    "audio/aac": ".aac",
    "application/pdf": ".pdf",
}
_NO_NAME = re.compile(r"[/\\:*?\"<>|]")


def file_name(file: Attached, message_id: MessageId, mime: str) -> str:
    """A name to save it under: the sender's without folders and invisible characters, else `kind-message.ending`."""
    last = re.split(r"[/\\]", file.name or "")[-1]
    visible = "".join(character for character in last if not unicodedata.category(character).startswith("C"))
    name = _NO_NAME.sub("_", visible).strip(" .")
    if not name:
        identity = re.sub(r"[^A-Za-z0-9]", "", message_id)[:32] or "file"
        return f"{file.ref.kind}-{identity}{_ENDINGS.get(mime.partition(';')[0], '')}"
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending) > 10:
        return name[:_LONGEST_NAME]
    return f"{stem[: _LONGEST_NAME - len(ending) - 1]}.{ending}"
