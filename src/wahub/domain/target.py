"""Which addresses we may be asked to call (contract 0.9): webhooks now, media downloads later.

Link-local and cloud-metadata addresses are never called, in whatever spelling. There are two checks, and both are
needed: `check_url` reads the URL when a caller sets it and refuses every spelling of such an address; `refusal` judges
the address that a name resolved to, right before each connection. A URL that only one of two parsers reads as harmless
is refused by the second check at the latest.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from typing import overload
from urllib.parse import unquote, urlsplit

from wahub.domain.errors import InvalidFieldError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure's wire server
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::23",  # AWS, credentials of pods and tasks
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google Cloud
        "fd00:42::42",  # Scaleway
    )
)
"""Metadata services outside the link-local ranges 169.254.0.0/16 and fe80::/10, which are refused as a whole."""

_METADATA_NAMES = frozenset({"metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"})

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f\\]")
_HOST = re.compile(r"[A-Za-z0-9._-]+")
_AUTHORITY = re.compile(r"\A([^:/?#]+://)([^/?#]*)@")
_NUMBER = re.compile(r"(?:0[xX][0-9A-Fa-f]*|[0-9]+)")


def check_url(url: str, *, block_private: bool = False, field: str = "webhook.url") -> None:
    """InvalidFieldError naming `field` unless this is an http(s) URL whose host we may call."""
    host = _host_of(url, field)
    address = read_address(host)
    if address is not None:
        reason = refusal(address, block_private=block_private)
    else:
        reason = _name_refusal(host, block_private=block_private)
    if reason is not None:
        raise InvalidFieldError(f"{field} points to {reason}, which is not allowed: use an address of your receiver")


@overload
def mask_url(url: str) -> str: ...
@overload
def mask_url(url: None) -> None: ...
def mask_url(url: str | None) -> str | None:
    """The URL as it may be shown: `https://***@host/path` where it has a user or a password; None stays None.

    New URLs have neither. Those that were stored before they were refused are still called with them.
    """
    return None if url is None else _AUTHORITY.sub(r"\1***@", url, count=1)


def refusal(address: _Address | str, *, block_private: bool = False) -> str | None:
    """Why this address must not be called, or None. A text that is no address is refused too."""
    if isinstance(address, str):
        try:
            address = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return "something that is no IP address"
    for form in (address, *_embedded(address)):
        if form.is_link_local:
            return "a link-local address"
        if form in _METADATA:
            return "a cloud metadata address"
        if form.is_multicast:
            return "a multicast address"
        if block_private and (not form.is_global or form.is_unspecified):
            return "a private address"
    return None


def read_address(host: str) -> _Address | None:
    """The address that a host spells, as the C library would read it; None if it is a name.

    `2852039166`, `0xA9FEA9FE`, `0251.0376.0251.0376` and `169.254.43518` are all 169.254.169.254.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host.removesuffix(".")
    if ":" in bare:
        try:
            return ipaddress.IPv6Address(bare.partition("%")[0])
        except ValueError:
            return None
    return _read_ipv4(bare)


def _host_of(url: str, field: str) -> str:
    """The host of a URL, lower-case, with every disguise taken off."""
    if _UNPRINTABLE.search(url):
        raise InvalidFieldError(f"{field} must not contain spaces, control characters or backslashes: encode them")
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
        host = parts.hostname
    except ValueError:
        raise InvalidFieldError(f"{field} is not a valid URL: write it as https://host[:port]/path") from None
    if parts.scheme.lower() not in ("http", "https"):
        raise InvalidFieldError(f"{field} must start with http:// or https://")
    if "@" in parts.netloc:
        raise InvalidFieldError(
            f"{field} must not contain a user or a password, for replies show it: set WEBHOOK_AUTH_TOKEN instead"
        )
    if not host or not port_is_valid:
        raise InvalidFieldError(f"{field} has no valid host and port: write it as https://host[:port]/path")
    # Full-width digits and ideographic full stops are read as their plain forms by the resolvers of some systems.
    plain = unicodedata.normalize("NFKC", unquote(host)).replace("\u3002", ".").lower()
    plain = plain.removesuffix(".")
    if ":" in plain:
        if read_address(plain) is None:
            raise InvalidFieldError(f"{field} has an IPv6 address that cannot be read")
        return plain
    if not plain or ".." in plain or not _HOST.fullmatch(_ascii(plain)):
        raise InvalidFieldError(f"{field} has a host name that cannot be read")
    return plain


def _ascii(host: str) -> str:
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return ""


def _name_refusal(host: str, *, block_private: bool) -> str | None:
    if host in _METADATA_NAMES:
        return "a cloud metadata service"
    last = host.rpartition(".")[2]
    if _NUMBER.fullmatch(last):
        return "a number that is no IP address"
    if block_private and last == "localhost":
        return "a private address"
    return None


def _read_ipv4(host: str) -> ipaddress.IPv4Address | None:
    """One to four numbers, decimal, octal (`0…`) or hexadecimal (`0x…`); the last one fills the rest (inet_aton(3))."""
    numbers = host.split(".")
    if len(numbers) > 4 or not all(_NUMBER.fullmatch(number) for number in numbers):
        return None
    try:
        values = [_read_number(number) for number in numbers]
    except ValueError:
        return None
    *leading, last = values
    room = 4 - len(leading)
    if any(value > 255 for value in leading) or last >= 256**room:
        return None
    total = last
    for index, value in enumerate(leading):
        total += value << (8 * (3 - index))
    return ipaddress.IPv4Address(total)


def _read_number(text: str) -> int:
    if text[:2] in ("0x", "0X"):
        return int(text[2:] or "0", 16)
    return int(text, 8) if text.startswith("0") else int(text)


def _embedded(address: _Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address stands for: mapped, compatible, NAT64, 6to4, Teredo."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    low = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    found = [form for form in (address.ipv4_mapped, address.sixtofour) if form is not None]
    if address in _NAT64 or address in _NAT64_LOCAL or (address in _COMPATIBLE and int(address) > 0xFFFF):
        found.append(low)
    if address.teredo is not None:
        found.extend(address.teredo)
    return found
