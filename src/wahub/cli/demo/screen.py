"""What the demo prints: numbered steps with their time, the QR code, and what to try."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

_TITLE_WIDTH = 44


@dataclass(slots=True)
class Step:
    """A step under way; `note` is printed behind its time, `detail` below it."""

    note: str = ""
    detail: str = ""


class Screen:
    """Prints to `out`. Lines of other threads may come in between, but never inside a line of ours."""

    def __init__(self, steps: int, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._steps = steps
        self._done = 0
        self._began = time.monotonic()
        reconfigure = getattr(self._out, "reconfigure", None)
        if reconfigure is not None:
            # A terminal that cannot show blocks or dashes shows question marks; the demo goes on.
            reconfigure(errors="replace")

    def say(self, text: str = "") -> None:
        """Print a line, at once."""
        self._out.write(text + "\n")
        self._out.flush()

    def block(self, text: str) -> None:
        """Print lines, indented."""
        self.say(textwrap.indent(text.rstrip("\n"), "    "))

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """A step: its line appears when it is over. One that raises prints FAILED, and the exception goes on."""
        number = self._done + 1
        label = f"{number:>3}/{self._steps}  {title:<{_TITLE_WIDTH}}"
        step, began = Step(), time.monotonic()
        try:
            yield step
        except BaseException as error:
            how = "FAILED" if isinstance(error, Exception) else "stopped"
            self.say(f"{label} {how} after {_seconds(time.monotonic() - began)}")
            raise
        self._done = number
        self.say(f"{label} {_seconds(time.monotonic() - began):>7}  {step.note}".rstrip())
        if step.detail:
            self.block(step.detail)

    @property
    def elapsed(self) -> str:
        """Time since the start, for people."""
        return _seconds(time.monotonic() - self._began)


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def qr_art(png: bytes) -> str:
    """The QR code of a picture, drawn with half blocks, so that it fits a terminal of 80 columns.

    The picture is decoded and drawn anew; ValueError if it shows no QR code.
    """
    import io

    import segno
    import zxingcpp
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        found = zxingcpp.read_barcode(picture.convert("L"))
    if found is None:
        raise ValueError("the picture shows no QR code")
    art = io.StringIO()
    segno.make(found.text, error="l", micro=False).terminal(out=art, border=2, compact=True)
    return art.getvalue()
