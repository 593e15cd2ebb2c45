"""What routing works with: where a stanza comes from, what it leads to, and why it may be refused."""

from __future__ import annotations

from dataclasses import dataclass, field

from wahub.sandbox.network.accounts import Account
from wahub.sandbox.network.session import Session
from wahub.sandbox.node import Node


@dataclass(frozen=True, slots=True)
class Origin:
    """Which device a stanza comes from; `session` is None for a phone."""

    account: Account
    device: int
    session: Session | None

    def jid(self, server: str) -> str:
        """The sender's address in one address space."""
        return self.account.jid(self.device, server)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One stanza for one device; `peer` is the number at the other end, for faults."""

    account: Account
    device: int
    stanza: Node
    peer: str | None


@dataclass(slots=True)
class Plan:
    """What a message leads to. `phash` is set when the sender's list of devices was not the right one."""

    deliveries: list[Delivery] = field(default_factory=list)
    phash: str | None = None


class RefusedMessage(Exception):
    """The server refuses a message; `code` is the error of its ack."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code
