"""`Prefer: wait=N` (RFC 7240): how long a caller wants to wait for its message to be sent."""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST_WAIT = 30
_LONGEST_HEADER = 1_024

_PREFERENCE = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*")+')
_WAIT = re.compile(r'wait[ \t]*=[ \t]*(?:([0-9]+)|"([0-9]+)")[ \t]*(?:;.*)?', re.IGNORECASE | re.DOTALL)
_NAME = re.compile(r"wait[ \t]*(?:=.*|;.*)?", re.IGNORECASE | re.DOTALL)


def wanted_wait(headers: Sequence[str]) -> int | None:
    """The seconds that the first `wait` asks for, at most 30; None without one. Only what can be read is honoured."""
    header = ",".join(headers)
    if len(header) > _LONGEST_HEADER:
        return None
    for preference in _PREFERENCE.findall(header):
        stripped = preference.strip()
        if _NAME.fullmatch(stripped):
            found = _WAIT.fullmatch(stripped)
            return min(int(found[1] or found[2]), LONGEST_WAIT) if found else None
    return None
