"""What a message says, whichever way it goes."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Text:
    """A text message."""

    text: str


@dataclass(frozen=True, slots=True)
class Poll:
    """A poll. `secret` (32 bytes) encrypts its votes; it is chosen at acceptance, so that a resend is the same poll."""

    caption: str
    options: tuple[str, ...]
    multiple: bool
    secret: bytes = field(repr=False)


Content = Text | Poll
"""Everything that may be sent."""
