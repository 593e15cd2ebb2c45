"""What a message says, whichever way it goes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """A text message."""

    text: str


Content = Text
"""Everything that may be sent. A union once there is more than text."""
