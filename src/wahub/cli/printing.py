"""How commands print what the API told: a table, one field per line, or one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import typer


def as_json(found: Mapping[str, Any]) -> None:
    """One line of JSON."""
    typer.echo(json.dumps(found, ensure_ascii=False))


def as_table(columns: Sequence[str], found: Sequence[Mapping[str, Any]]) -> None:
    """A header and one row for each; `nothing` when there is none. What is missing is a dash."""
    if not found:
        typer.echo("nothing")
        return
    rows = [tuple(columns), *(tuple(cell(item.get(name)) for name in columns) for item in found)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(columns))]
    for row in rows:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def cell(value: Any) -> str:
    """A value in a table."""
    if value is None:
        return "-"
    return str(value).lower() if isinstance(value, bool) else str(value)
