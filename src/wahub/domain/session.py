"""Session material: the credentials and Signal keys of an instance, opaque to us.

Kinds are the engine's own category names (Baileys: `creds`, `pre-key`, `session`, `sender-key`, `app-state-sync-key`,
`lid-mapping`, `device-list`, `tctoken`, …). Values are the engine's serialisation (UTF-8 JSON for Baileys, so that the
multi-file layout of contract E.1 can be read and written without conversion).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class KeyName:
    """One entry: its kind and its id within the kind. Credentials are `KeyName("creds", "")`."""

    kind: str
    id: str


CREDS = KeyName("creds", "")


@dataclass(frozen=True, slots=True)
class KeyChanges:
    """A set of writes that must become durable together: None removes an entry."""

    values: Mapping[KeyName, bytes | None] = field(default_factory=dict)
