"""`wahub demo`: the flags of the demo; what it does is in `wahub.cli.demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from wahub.cli.exits import errors_to_exit_codes


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End after the round trip: exit code 0, or 1 if a step failed.")
    ] = False,
) -> None:
    """Show a whole round trip: sandbox, gateway, a linked account, a message out, an answer in, a webhook."""
    with errors_to_exit_codes():
        from wahub.cli.demo import run_demo

        code = run_demo(once=once)
    raise typer.Exit(code)
