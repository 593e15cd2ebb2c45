"""The proxy of an instance: which URLs are taken, and how one is shown.

A proxy URL holds a password, so no error and no reply repeats any part of it but scheme, host and port.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from wahub.domain.errors import InvalidFieldError
from wahub.domain.target import check_url

SCHEMES = ("http", "https", "socks5")
_SHAPE = "write it as socks5://user:password@host:port (or http://, https://)"
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]|\\")
# Two parsers may disagree about an @ or a colon that is not encoded, and then about the host as well.
_USER = re.compile(r"[^@:/?#\[\]]*(?::[^@:/?#\[\]]*)?")


def check_proxy(url: str) -> None:
    """InvalidFieldError, unless this is the URL of a proxy that we may call."""
    if _UNPRINTABLE.search(url):
        raise InvalidFieldError("proxy must contain printable ASCII characters only: percent-encode the others")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidFieldError(f"proxy is not a valid URL: {_SHAPE}") from None
    if parts.scheme.lower() not in SCHEMES:
        raise InvalidFieldError("proxy must start with http://, https:// or socks5://")
    if not parts.hostname or not port:
        raise InvalidFieldError(f"proxy needs a host and a port: {_SHAPE}")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "?" in url or "#" in url:
        raise InvalidFieldError("proxy must end with its port: percent-encode / ? # in the user and the password")
    user, _, place = parts.netloc.rpartition("@")
    if not _USER.fullmatch(user):
        raise InvalidFieldError("proxy has a user or a password that cannot be read: percent-encode them")
    _check_place(place)


def _check_place(place: str) -> None:
    """Refuse the addresses that nobody may make us call (contract 0.9)."""
    try:
        check_url(f"http://{place}", field="proxy")
    except InvalidFieldError as refused:
        what = str(refused).partition(":")[0].removesuffix(", which is not allowed")
        raise InvalidFieldError(f"{what}: name the host and the port of your proxy") from None


def mask_proxy(url: str | None) -> str | None:
    """The URL as it may be shown: `socks5://***@host:port`; None stays None."""
    if not url:
        return None
    scheme, separator, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    place = place.rstrip("/")
    return f"{scheme}{separator}{'***@' if user or at else ''}{place}" if separator else "***"
