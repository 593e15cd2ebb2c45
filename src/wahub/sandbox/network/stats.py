"""Counters and the list of violations: what the real server would have refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

_MAX_LISTED = 1000


@dataclass(slots=True)
class Stats:
    """Counters since the start or the last reset.

    `accepted`: messages taken from a sender. `delivered`: copies that a device acknowledged or a phone took.
    `duplicates`: messages accepted again under an id the same account had used. `undecryptable`: first retry receipts.
    """

    connections: int = 0
    max_connections_per_device: int = 0
    logins: int = 0
    accepted: int = 0
    delivered: int = 0
    duplicates: int = 0
    undecryptable: int = 0
    unknown_queries: dict[str, int] = field(default_factory=dict)
    violations: list[dict[str, Any]] = field(default_factory=list)

    def unknown_query(self, name: str) -> None:
        """Remember an `iq` that has no answer here."""
        self.unknown_queries[name] = self.unknown_queries.get(name, 0) + 1

    def violation(self, kind: str, detail: str, number: str | None = None, device: int | None = None) -> None:
        """List something the real server would refuse. `detail` names no key and no text."""
        if len(self.violations) < _MAX_LISTED:
            at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            entry = {"at": at, "kind": kind, "detail": detail, "number": number, "deviceId": device}
            self.violations.append(entry)

    def as_json(self) -> dict[str, Any]:
        """The shape of `GET /control/stats`."""
        return {
            "connections": self.connections,
            "maxConnectionsPerDevice": self.max_connections_per_device,
            "logins": self.logins,
            "messages": {
                "accepted": self.accepted,
                "delivered": self.delivered,
                "duplicates": self.duplicates,
                "undecryptable": self.undecryptable,
            },
            "iq": {"unknown": list(self.unknown_queries)},
            "violations": list(self.violations),
        }
