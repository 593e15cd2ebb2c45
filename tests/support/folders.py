"""Looks into folders where others write and remove meanwhile: what goes during a look is left out, never an error."""

from __future__ import annotations

import os
from pathlib import Path


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder, sorted; none for a folder that is not there."""
    # Not `Path.rglob`: a directory that goes between its name and its list ends that with FileNotFoundError.
    return sorted(Path(place) / name for place, _, names in os.walk(folder) for name in names)


def size_of(path: Path) -> int:
    """Bytes in a file, 0 if it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def text_of(path: Path) -> str:
    """What stands in a file without white space around, nothing if it, or the process it tells of, is gone."""
    try:
        return path.read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
