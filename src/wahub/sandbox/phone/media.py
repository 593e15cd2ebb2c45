"""Media as phones send and open it: encrypted before the upload, checked after the download.

A file has a random key of 32 bytes. HKDF with a text that names the kind gives IV (16), cipher key (32) and MAC key
(32); the file on the server is AES-256-CBC ciphertext and the first 10 bytes of HMAC-SHA256 over IV and ciphertext.
Source: Baileys src/Utils/messages-media.ts (`getMediaKeys`, `encryptedStream`, `getWAUploadToServer`) and
src/Defaults/index.ts (MEDIA_HKDF_KEY_MAPPING, MEDIA_PATH_MAP); whatsmeow upload.go, download.go.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from wahub.sandbox.model import MediaPort, RefusedError
from wahub.sandbox.phone.content import Media, Target, context_of
from wahub.sandbox.phone.reading import media_part, opened
from wahub.sandbox.proto import e2e_pb2
from wahub.sandbox.signal.kdf import derive

_KEY_BYTES = 32
_MAC_BYTES = 10
_BLOCK = 16
_INFO = {"image": "Image", "sticker": "Image", "video": "Video", "audio": "Audio", "document": "Document"}
_PATHS = {"sticker": "image"}


class DamagedMediaError(Exception):
    """A downloaded file is not what the message says: MAC, hash or length differ."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """An encrypted file: its key, what is uploaded, and the SHA-256 of both forms."""

    key: bytes
    body: bytes
    sha256: bytes
    enc_sha256: bytes
    length: int


def seal(kind: str, data: bytes, key: bytes | None = None) -> Sealed:
    """Encrypt a file under a new key (tests give recorded ones)."""
    key = key or secrets.token_bytes(_KEY_BYTES)
    iv, cipher_key, mac_key = _keys(kind, key)
    pad = _BLOCK - len(data) % _BLOCK
    encryptor = Cipher(algorithms.AES(cipher_key), modes.CBC(iv)).encryptor()
    ciphertext = encryptor.update(data + bytes((pad,)) * pad) + encryptor.finalize()
    body = ciphertext + hmac.digest(mac_key, iv + ciphertext, "sha256")[:_MAC_BYTES]
    return Sealed(key, body, hashlib.sha256(data).digest(), hashlib.sha256(body).digest(), len(data))


def unseal(kind: str, sealed: Sealed) -> bytes:
    """Undo `seal`; DamagedMediaError when anything does not fit."""
    if not hmac.compare_digest(hashlib.sha256(sealed.body).digest(), sealed.enc_sha256):
        raise DamagedMediaError("the encrypted file has another hash")
    ciphertext, mac = sealed.body[:-_MAC_BYTES], sealed.body[-_MAC_BYTES:]
    iv, cipher_key, mac_key = _keys(kind, sealed.key)
    if not hmac.compare_digest(hmac.digest(mac_key, iv + ciphertext, "sha256")[:_MAC_BYTES], mac):
        raise DamagedMediaError("the MAC is wrong")
    if not ciphertext or len(ciphertext) % _BLOCK:
        raise DamagedMediaError("not a whole number of blocks")
    decryptor = Cipher(algorithms.AES(cipher_key), modes.CBC(iv)).decryptor()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    data = padded[: -padded[-1]]
    if hashlib.sha256(data).digest() != sealed.sha256 or len(data) != sealed.length:
        raise DamagedMediaError("the file has another hash or length")
    return data


def _keys(kind: str, key: bytes) -> tuple[bytes, bytes, bytes]:
    expanded = b"".join(derive(key, bytes(32), f"WhatsApp {_INFO[kind]} Keys".encode(), 3))
    return expanded[:16], expanded[16:48], expanded[48:80]


def build_media(media: Media, server: MediaPort, quoted: Target | None) -> e2e_pb2.Message:
    """Encrypt and upload a file, and make the message that says where it is."""
    sealed = seal(media.kind, media.data)
    token = base64.urlsafe_b64encode(sealed.enc_sha256).decode()
    path = f"/mms/{_PATHS.get(media.kind, media.kind)}/{token}"
    common: dict[str, Any] = {
        "url": server.put(path, sealed.body),
        "direct_path": path,
        "mimetype": media.mime,
        "file_sha256": sealed.sha256,
        "file_enc_sha256": sealed.enc_sha256,
        "file_length": sealed.length,
        "media_key": sealed.key,
        "media_key_timestamp": int(time.time()),
    }
    if quoted is not None:
        common["context_info"] = context_of(quoted)
    return _message(media, common)


def _message(media: Media, common: dict[str, Any]) -> e2e_pb2.Message:
    if media.caption and media.kind in ("image", "video", "document"):
        common["caption"] = media.caption
    match media.kind:
        case "image":
            return e2e_pb2.Message(image_message=e2e_pb2.ImageMessage(**common))
        case "video":
            return e2e_pb2.Message(video_message=e2e_pb2.VideoMessage(**common))
        case "audio":
            return e2e_pb2.Message(audio_message=e2e_pb2.AudioMessage(**common, ptt=media.voice))
        case "sticker":
            return e2e_pb2.Message(sticker_message=e2e_pb2.StickerMessage(**common))
    document = e2e_pb2.DocumentMessage(**common)
    if media.file_name:
        document.file_name = document.title = media.file_name
    message = e2e_pb2.Message(document_message=document)
    # The apps wrap a document that has a caption, so that old ones do not show it without.
    wrapped = e2e_pb2.Message(document_with_caption_message=e2e_pb2.WrappedMessage(message=message))
    return wrapped if media.caption else message


def download(message: e2e_pb2.Message, server: MediaPort) -> tuple[str, bytes]:
    """MIME type and bytes of the file in a message. RefusedError 404 no file, or gone, 409 it is damaged."""
    found = media_part(opened(message))
    if found is None:
        raise RefusedError(404, "messageId: this message has no file")
    kind, part = found
    body = server.get(part.direct_path)
    if body is None:
        raise RefusedError(404, "the media server does not have this file (any more)")
    try:
        sealed = Sealed(part.media_key, body, part.file_sha256, part.file_enc_sha256, part.file_length)
        return part.mimetype or "application/octet-stream", unseal(kind, sealed)
    except DamagedMediaError as error:
        raise RefusedError(409, f"the file is damaged: {error}") from error
