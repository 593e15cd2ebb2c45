"""Figures of several rounds: median and range, verdicts against the goals, and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity over the rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    def show(self, digits: int = 0) -> str:
        """`median (lowest to highest)`."""
        if len(self.values) == 1:
            return f"{self.values[0]:.{digits}f}"
        return f"{self.median:.{digits}f} ({min(self.values):.{digits}f} to {max(self.values):.{digits}f})"

    def as_json(self) -> dict[str, Any]:
        return {"median": self.median, "values": list(self.values)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal and what came out."""

    goal: str
    found: str
    met: bool

    def line(self) -> str:
        return f"{'met    ' if self.met else 'NOT MET'}  {self.goal}: {self.found}"

    def as_json(self) -> dict[str, Any]:
        return {"goal": self.goal, "found": self.found, "met": self.met}


@dataclass(frozen=True, slots=True)
class Result:
    """What one part of the benchmarks found."""

    name: str
    table: Sequence[Sequence[str]]
    verdicts: tuple[Verdict, ...]
    figures: dict[str, Any]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """The table in Markdown, the notes and the verdicts."""
        parts = [f"### {self.name}", "", markdown(self.table), *self.notes, "", *(v.line() for v in self.verdicts)]
        return "\n".join(parts) + "\n"

    def as_json(self) -> dict[str, Any]:
        return {"figures": self.figures, "verdicts": [verdict.as_json() for verdict in self.verdicts]}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head, all but the first column are set to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if not i else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "| " + " | ".join(cells) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(rows[0]), line(rule), *(line(row) for row in rows[1:])])
