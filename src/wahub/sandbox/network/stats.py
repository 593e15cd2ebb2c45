"""Counters and the list of violations: what the real server would have refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

_MAX_LISTED = 1000


@dataclass(slots=True)
class DeviceStats:
    """One device: `attempts` are logins that named it, `logins` those that were confirmed.

    `max_connections` is the most live sockets that its client had at once, not counting sockets that a fault made
    deaf.
    """

    attempts: int = 0
    logins: int = 0
    max_connections: int = 0


@dataclass(slots=True)
class Stats:
    """Counters since the start or the last reset.

    `attempts`: WebSocket connections tried, refused ones included. `qr_shown`: registrations that got references for
    QR codes. `codes_asked`: requests to link by code that were accepted. `stolen`: sessions taken by the fault `steal`.
    `accepted`: messages taken from a sender. `delivered`: copies that a device acknowledged or a phone took.
    `nacked`: copies that a device acknowledged with an error instead, and so will not get again by themselves.
    `duplicates`: messages accepted again under an id the same account had used. `undecryptable`: first retry receipts.
    """

    attempts: int = 0
    connections: int = 0
    logins: int = 0
    qr_shown: int = 0
    codes_asked: int = 0
    stolen: int = 0
    accepted: int = 0
    delivered: int = 0
    nacked: int = 0
    duplicates: int = 0
    undecryptable: int = 0
    unknown_queries: dict[str, int] = field(default_factory=dict)
    violations: list[dict[str, Any]] = field(default_factory=list)
    devices: dict[tuple[str, int], DeviceStats] = field(default_factory=dict)

    def device(self, number: str, device: int) -> DeviceStats:
        """The counters of a device."""
        return self.devices.setdefault((number, device), DeviceStats())

    def count_arrival(self, *, refused: bool) -> None:
        """A device acknowledged a copy, or did so with an error."""
        if refused:
            self.nacked += 1
        else:
            self.delivered += 1

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
            "attempts": self.attempts,
            "connections": self.connections,
            "maxConnectionsPerDevice": max((device.max_connections for device in self.devices.values()), default=0),
            "logins": self.logins,
            "qrShown": self.qr_shown,
            "codesAsked": self.codes_asked,
            "stolen": self.stolen,
            "devices": [_device_json(*key, found) for key, found in sorted(self.devices.items())],
            "messages": {
                "accepted": self.accepted,
                "delivered": self.delivered,
                "nacked": self.nacked,
                "duplicates": self.duplicates,
                "undecryptable": self.undecryptable,
            },
            "iq": {"unknown": list(self.unknown_queries)},
            "violations": list(self.violations),
        }


def _device_json(number: str, device: int, found: DeviceStats) -> dict[str, Any]:
    return {
        "number": number,
        "deviceId": device,
        "attempts": found.attempts,
        "logins": found.logins,
        "maxConnections": found.max_connections,
    }
