"""SQLite files as a first start of the gateway leaves them, without the 200 ms that making one takes."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from wahub.adapters.sql.database import migrate


@cache
def _newest() -> bytes:
    """An empty store with the newest schema, made once per process by the migrations themselves."""
    with tempfile.TemporaryDirectory(prefix="wahub-store-") as directory:
        file = Path(directory) / "wahub.db"
        migrate(f"sqlite:///{file}")
        return file.read_bytes()


def make_store(file: Path) -> None:
    """Put an empty store there, unless there is one."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.write_bytes(_newest())
