"""Who may call (contract A.0, 0.9).

With an API key: every route but the three health routes asks for it, before the route is looked for.

Without one we serve this machine only, and a browser on it must not become anyone's door: the Host has to be a
loopback name (against DNS rebinding), and a request that another site's page makes is refused by its `Origin` or
`Sec-Fetch-Site`. This holds for the health routes too.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from functools import lru_cache

from starlette.responses import Response
from starlette.types import Scope

from wahub.api.problems import problem

OPEN_PATHS = frozenset({"/health", "/healthz", "/readyz"})

_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::[0-9]*)?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Guard:
    """Decides on each request before it is routed."""

    def __init__(self, api_key: str | None, *, open_to_network: bool = False) -> None:
        # Digests have one length, so that comparing them tells nothing about the key, not even its length.
        self._expected = None if api_key is None else hashlib.sha256(api_key.encode()).digest()
        self._loopback_only = not open_to_network

    def refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that may not pass, or None."""
        if self._expected is None:
            return self._foreign(scope)
        if scope["path"] in OPEN_PATHS:
            return None
        key = supplied_key(scope["headers"])
        if not key:
            return problem(
                401,
                "API key required: send it as 'Authorization: Bearer <key>' or 'X-API-Key: <key>'",
                {"WWW-Authenticate": "Bearer"},
            )
        if not hmac.compare_digest(hashlib.sha256(key).digest(), self._expected):
            return problem(403, "Invalid API key")
        return None

    def _foreign(self, scope: Scope) -> Response | None:
        hosts, origins, sites = [], [], []
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value.decode("latin-1"))
            elif name == b"origin":
                origins.append(value.decode("latin-1"))
            elif name == b"sec-fetch-site":
                sites.append(value.decode("latin-1").strip().lower())
        if self._loopback_only and (not hosts or not all(map(is_loopback_authority, hosts))):
            return problem(403, "Host must be a loopback address such as localhost: set API_KEY to serve other hosts")
        if any(site in ("cross-site", "same-site") for site in sites):
            return problem(403, "Requests from pages of other sites are refused: set API_KEY and send it")
        if any(not _same_origin(origin, hosts) for origin in origins):
            return problem(403, "Origin is not this server: set API_KEY and send it")
        return None


def supplied_key(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """The key of a request: from `Authorization: Bearer`, else (no such header, or not Bearer) from `X-API-Key`."""
    from_header = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            if scheme.lower() == b"bearer":
                return key.strip()
        elif name == b"x-api-key" and from_header is None:
            from_header = value.strip()
    return from_header


@lru_cache(maxsize=64)
def is_loopback_authority(authority: str) -> bool:
    """Whether a Host header names this machine: localhost, 127.0.0.0/8 or [::1], with any port."""
    match = _AUTHORITY.fullmatch(authority.strip())
    if match is None:
        return False
    host = match["host"]
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _same_origin(origin: str, hosts: list[str]) -> bool:
    """Whether an Origin is the very server that the Host header names. `null` never is."""
    scheme, separator, authority = origin.strip().lower().partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    if not separator or port is None:
        return False
    return any(authority.removesuffix(port) == host.strip().lower().removesuffix(port) for host in hosts)
