"""What commands share about their flags."""

from __future__ import annotations

from typing import Any


def given(**flags: Any) -> dict[str, Any]:
    """Only the flags that were given, so that the environment, `.env` and the defaults decide about the others."""
    return {name: value for name, value in flags.items() if value is not None}
