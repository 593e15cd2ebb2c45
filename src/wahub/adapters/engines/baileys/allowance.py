"""How much memory a side process may hold before it is replaced."""

from __future__ import annotations

REMEMBERED_SECONDS = 600.0
"""For so long a process may hold what links of it needed: V8 may take minutes to collect what they leave."""


class Allowance:
    """So many MB (10^6 bytes) for a process, and so many more for each link that it had lately.

    Lately, not now: when WhatsApp is gone for a moment all links are lost at once, and their process is as large as
    before.
    """

    def __init__(self, process_mb: int, link_mb: int) -> None:
        self._process_mb = process_mb
        self._link_mb = link_mb
        self._most = 0
        self._since = 0.0

    def allows(self, rss: int, links: int, now: float) -> bool:
        """Whether a process with so many links may hold `rss` bytes. Asked every few seconds; `now` in seconds."""
        if links >= self._most or now - self._since > REMEMBERED_SECONDS:
            self._most, self._since = links, now
        return rss <= (self._process_mb + self._link_mb * self._most) * 1_000_000
