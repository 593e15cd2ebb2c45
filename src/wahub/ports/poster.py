"""Posting a webhook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PostResult:
    """What came of one POST. `status` is None when no answer came; `error` then says why, without naming secrets."""

    status: int | None
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the receiver took it: any 2xx."""
        return self.status is not None and 200 <= self.status < 300


class Poster(Protocol):
    """Posts bytes; never raises for what a receiver or the network does."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> PostResult:
        """POST once; redirects are not followed; forbidden targets are refused on the address really connected to."""

    async def close(self) -> None:
        """Release sockets."""
