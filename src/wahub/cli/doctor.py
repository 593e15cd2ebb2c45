"""`wahub doctor`: is this machine fit to run the gateway?

Looks and changes nothing: it opens no database and installs no engine. Exit code 0 if every check passed, else 1.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from wahub.cli.exits import Exit


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per check.")] = False) -> None:
    """Check this machine and the settings, and say what to do about what is wrong."""
    from wahub.cli.checks import all_checks

    healthy = True
    for check in all_checks():
        healthy = healthy and check.ok
        if as_json:
            typer.echo(json.dumps({"check": check.name, "ok": check.ok, "detail": check.detail}, ensure_ascii=False))
        else:
            typer.echo(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}")
    raise typer.Exit(int(Exit.OK if healthy else Exit.FAILED))
