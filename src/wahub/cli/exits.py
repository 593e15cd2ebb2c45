"""Exit codes, and which error ends a command with which of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer


class Exit(IntEnum):
    """What the exit code of every command means."""

    OK = 0
    FAILED = 1
    BAD_SETTING = 2
    STORE_IN_USE = 3
    ENGINE_MISSING = 4


@contextmanager
def errors_to_exit_codes() -> Iterator[None]:
    """Turn the errors that an operator can mend into one line on stderr and the right exit code.

    Anything else is a bug or a surprise and keeps its traceback (exit code 1).
    """
    from wahub.adapters.engines.baileys.node_runtime import EngineMissingError
    from wahub.config import SettingsError
    from wahub.domain.errors import StoreBusyError

    try:
        yield
    except SettingsError as error:
        raise _ended(Exit.BAD_SETTING, error) from error
    except StoreBusyError as error:
        raise _ended(Exit.STORE_IN_USE, error) from error
    except EngineMissingError as error:
        raise _ended(Exit.ENGINE_MISSING, error) from error


def _ended(code: Exit, error: Exception) -> typer.Exit:
    typer.echo(f"wahub: {error}", err=True)
    return typer.Exit(int(code))
