"""Python's garbage collector while a process starts, and afterwards."""

from __future__ import annotations

import gc
from typing import Final

_LOADING: Final = 100_000
_RUNNING: Final = gc.get_threshold()


def while_loading() -> None:
    """Look for garbage seldom: a fifth of a gateway's start would go into it, and there is none."""
    gc.set_threshold(_LOADING, *_RUNNING[1:])


def when_loaded() -> None:
    """What the start made stays until the end, and is not looked through again.

    A full collection that looks through all of it takes 0.1 s and more, and nobody is answered meanwhile; measured when
    a hundred instances came back.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_RUNNING)
