"""Media: the upload and download server with WhatsApp's paths, over TLS with a CA made from the seed.

`POST` (or `PUT`) `/mms/<kind>/<token>` stores the encrypted bytes and answers `url` and `direct_path`; `GET` of that
path gives them back. Clients encrypt media themselves; nothing here can read it.
source: Baileys src/Utils/messages-media.ts (getWAUploadToServer, getUrlFromDirectPath); whatsmeow upload.go
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wahub.sandbox.media_store import MAX_FILE_BYTES, MediaStore

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_CA_FROM = datetime(2024, 1, 1, tzinfo=UTC)
_CA_UNTIL = datetime(2050, 1, 1, tzinfo=UTC)
_LEAF_DAYS = 365


class MediaApp:
    """The ASGI application of the media port."""

    def __init__(self, store: MediaStore, fault: Callable[[str], int | None] = lambda _: None) -> None:
        """`fault` is asked for each `upload` and `download`: the status with which it fails, or None."""
        self._store = store
        self._fault = fault

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        path = str(scope["path"])
        uploads = scope["method"] in ("POST", "PUT")
        failure = self._fault("upload" if uploads else "download")
        if failure is not None:
            await _reply(send, failure, b"", "application/octet-stream")
        elif uploads:
            await self._upload(path, receive, send)
        elif scope["method"] in ("GET", "HEAD"):
            body = self._store.get(path)
            if body is None:
                await _reply(send, 404, b"", "application/octet-stream")
            else:
                await _reply(send, 200, b"" if scope["method"] == "HEAD" else body, "application/octet-stream")
        else:
            await _reply(send, 405, b"", "application/octet-stream")

    async def _upload(self, path: str, receive: Receive, send: Send) -> None:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > MAX_FILE_BYTES:
                await _reply(send, 413, b'{"error":"file is too large"}', "application/json")
                return
            if not message.get("more_body", False):
                break
        answer = {"url": self._store.put(path, b"".join(parts)), "direct_path": path}
        await _reply(send, 200, json.dumps(answer).encode(), "application/json")


async def _reply(send: Send, status: int, body: bytes, kind: str) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@dataclass(frozen=True, slots=True)
class MediaCertificate:
    """Paths of PEM files: what clients trust, and what the server shows."""

    ca: Path
    certificate: Path
    key: Path


def write_certificates(
    ca_key: ec.EllipticCurvePrivateKey, hosts: list[str], ca: Path, directory: Path
) -> MediaCertificate:
    """Write the CA to `ca` and a fresh server certificate for `hosts` into `directory`.

    The CA has the same name and key for the same seed, so a client that has its file from before a restart still
    accepts the new server certificate.
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "wahub sandbox CA")])
    authority = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(ca_key.public_key())
        .serial_number(1)
        .not_valid_before(_CA_FROM)
        .not_valid_after(_CA_UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, SHA256())
    )
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    leaf = _leaf(ca_key, name, leaf_key, hosts)
    files = MediaCertificate(ca, directory / "media.pem", directory / "media-key.pem")
    files.ca.write_bytes(authority.public_bytes(Encoding.PEM))
    files.certificate.write_bytes(leaf.public_bytes(Encoding.PEM))
    files.key.touch(mode=0o600)
    files.key.write_bytes(leaf_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


def _leaf(
    ca_key: ec.EllipticCurvePrivateKey, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, hosts: list[str]
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "wahub sandbox media")]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_LEAF_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, SHA256())
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
