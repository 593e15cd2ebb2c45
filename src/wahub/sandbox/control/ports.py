"""What the control API asks of the network, so that the two can be written and tested apart.

`NetworkControl` widens `NetworkPort` (the seam of the phones) by what only an operator may do: add accounts, switch
phones off, unlink devices, arm faults, read statistics. Values that only pass through to JSON (stats, trace, faults)
are plain dictionaries in the JSON shapes of spec/sandbox.md section 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from wahub.sandbox.model import Jid, NetworkPort, PhonePort


@dataclass(frozen=True, slots=True)
class LinkedDevice:
    """A companion of an account. Times are aware datetimes in UTC; `last_seen_at` is None before the first login."""

    id: int
    platform: str
    connected: bool
    paired_at: datetime
    last_seen_at: datetime | None


class NetworkControl(NetworkPort, Protocol):
    """The operator's side of the network. Every method refuses with `RefusedError(status, text)` and nothing else."""

    def add_account(self, phone: PhonePort, *, business: bool, hidden: bool = False, lid_hidden: bool = False) -> None:
        """Register a number and its phone as device 0; the phone is online from now on.

        `hidden`: others know the account by its LID alone. `lid_hidden`: they are not told that its number and its LID
        are one person.
        """

    def create_group(self, subject: str, owner: str, members: Sequence[str], server: str) -> dict[str, Any]:
        """A new group as JSON; `server` is the address space of its members. 404 for an unknown number."""

    def change_group(self, group: Jid, actor: str | None, changes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Change members (`add`, `remove`, `promote`, `demote`: numbers), as the owner when `actor` is None.

        404 for an unknown group or number, 403 when the actor may not.
        """

    def rename_group(self, group: Jid, actor: str | None, subject: str) -> dict[str, Any]:
        """A new subject, as the owner when `actor` is None. 404 for an unknown group, 403 when the actor may not."""

    def groups(self) -> Sequence[dict[str, Any]]:
        """All groups, oldest first: `{id, subject, owner, addressing, members: [{number, lid, admin}]}`."""

    def set_phone_online(self, number: str, online: bool) -> None:
        """Switch a phone on or off. Off: stanzas for it queue. On: the queue is delivered by `PhonePort.receive`."""

    def linked_devices(self, number: str) -> Sequence[LinkedDevice]:
        """Companions of an account, lowest id first; the phone itself is not among them."""

    def remove_device(self, number: str, device_id: int) -> None:
        """The person unlinks a companion: its live socket gets 401 device_removed. 404 when there is none."""

    def arm_fault(self, match: Mapping[str, Any], do: Mapping[str, Any], times: int | None) -> str:
        """Arm a fault and return its id. `do` has one name with its arguments; 400 names what is wrong.

        Without `times` it fires once; 0 means until it is disarmed.
        """

    def disarm_fault(self, fault_id: str) -> None:
        """Forget an armed fault. 404 when there is none."""

    def faults(self) -> Sequence[dict[str, Any]]:
        """The armed faults: `{id, match, do, times}`, oldest first."""

    def inject(self, number: str, device_id: int, fault: Mapping[str, Any]) -> None:
        """Apply a fault at once to a live socket. 404 no such device, 409 not connected, 400 unknown fault."""

    def stats(self) -> dict[str, Any]:
        """Counters by name, `devices`, `messages`, `iq` and `violations` (see `docs/sandbox.md`)."""

    def trace(self, number: str | None, after: int) -> Sequence[dict[str, Any]]:
        """Decoded stanzas with `seq` greater than `after`, newest last, without keys and plaintext."""

    def reset(self) -> None:
        """Forget every account, device, queue, fault and statistic; live sockets are closed."""
