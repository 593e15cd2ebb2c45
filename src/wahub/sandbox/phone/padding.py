"""The padding that WhatsApp puts around a message before encrypting it (`enc v="2"`).

1 to 16 bytes, each holding their number. Source: Baileys Utils/generics (`writeRandomPadMax16`, `unpadRandomMax16`).
"""

from __future__ import annotations

import secrets


def pad(plaintext: bytes) -> bytes:
    """Append 1 to 16 bytes at random, so that the length tells less."""
    length = secrets.randbelow(16) + 1
    return plaintext + bytes((length,)) * length


def unpad(padded: bytes) -> bytes:
    """Undo `pad`; ValueError when the padding is impossible."""
    if not padded or not 1 <= padded[-1] <= len(padded):
        raise ValueError("the padding is wrong")
    return padded[: -padded[-1]]
