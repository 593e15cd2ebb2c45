"""What the Baileys engine has to know, given by whoever composes the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_TRUST_ROOT_DIGITS = 64


@dataclass(frozen=True, slots=True)
class BaileysSettings:
    """`node` and `directory` come from `install.ensure_installed`. Times are seconds unless the name says `_ms`.

    `wa_url`, `trust_root` (64 hex digits) and `ca_file` (PEM) choose another WhatsApp than the real one; None leaves
    Baileys' own values untouched. ValueError names the field that is wrong.
    """

    node: Path
    directory: Path
    run_dir: Path
    spool_dir: Path
    wa_url: str | None = None
    trust_root: str | None = None
    ca_file: Path | None = None
    instances_per_engine: int = 100
    ack_timeout: float = 20.0
    qr_first_ms: int = 60_000
    qr_next_ms: int = 20_000
    encryption_key: bytes | None = None
    """Any length; the spool's key is derived from it. None: the spool is not encrypted."""
    spool_flush: bool = True
    """Whether a received message must survive a loss of power, not only of the process, before it is acknowledged."""
    keep_alive: float = 30.0
    """Between our pings. Nothing heard for so long and 5 s more: the link is lost."""
    handshake_timeout: float = 45.0
    """How long connecting may take to the end of the encrypted handshake, the way through a proxy included."""
    statuses: bool = False
    """Whether what people post on the status list is reported."""
    fault: str | None = None
    """Fault point and turn, as `after_spool:2`. Only in tests."""
    start_timeout: float = 30.0
    """How long a process may take from its start to its first answer."""
    lock_timeout: float = 30.0
    """How long to wait for the processes of a predecessor to end."""
    silence_timeout: float = 15.0
    """A process that answers nothing for so long is killed."""

    most_memory_mb: int = 400
    """What a process may hold (RSS) before it is replaced at a quiet moment …"""
    most_memory_per_link_mb: int = 6
    """… and so much more for each link that it had lately. Measured: 120 MB empty, 330 MB at 100 links
    (docs/benchmarks.md)."""
    look_after_every: float = 10.0
    """How often processes are looked after: idle ones ended, swollen ones replaced."""

    def __post_init__(self) -> None:
        if self.instances_per_engine < 1:
            raise ValueError("instances_per_engine must be at least 1")
        if self.trust_root is not None and not _is_hex(self.trust_root, _TRUST_ROOT_DIGITS):
            raise ValueError("trust_root must be 64 hexadecimal digits")
        if self.wa_url is not None:
            _check_url(self.wa_url)

    def spool_key(self) -> bytes | None:
        """The AES-256 key of the spool, or None."""
        if not self.encryption_key:
            return None
        return HKDF(SHA256(), length=32, salt=None, info=b"wahub spool").derive(self.encryption_key)


def _is_hex(text: str, digits: int) -> bool:
    return len(text) == digits and all(character in "0123456789abcdefABCDEF" for character in text)


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError("wa_url must be a ws:// or wss:// address")
    if parts.scheme == "ws" and parts.hostname not in _LOOPBACK:
        raise ValueError("wa_url may use ws:// only to this machine (localhost, 127.0.0.1, ::1); use wss://")
