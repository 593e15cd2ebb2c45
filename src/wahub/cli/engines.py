"""`wahub engines …`: the engines' libraries, which wahub installs and does not bundle."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from wahub.cli.exits import errors_to_exit_codes
from wahub.cli.flags import given

engines = typer.Typer(help="Install the engines that speak WhatsApp.", no_args_is_help=True)


class EngineName(StrEnum):
    BAILEYS = "baileys"


@engines.callback()
def group() -> None:
    """Install the engines that speak WhatsApp."""


@engines.command()
def install(
    engine: Annotated[EngineName, typer.Argument(help="Which engine.", show_default=False)],
    cache_dir: Annotated[Path | None, typer.Option(help="Default: WAHUB_CACHE_DIR, else the user's cache.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fetch an engine's libraries now, so that the first start needs no network."""
    with errors_to_exit_codes():
        from wahub.adapters.engines.baileys.install import ensure_installed
        from wahub.config import load_settings

        settings = load_settings(**given(cache_dir=cache_dir))
        installed = ensure_installed(settings.cache_dir, lambda line: typer.echo(line, err=True), node=settings.node)
    if as_json:
        facts = {"engine": engine.value, "directory": str(installed.directory), "node": str(installed.node)}
        typer.echo(json.dumps({"event": "installed", **facts}))
    else:
        typer.echo(f"{engine.value} is ready in {installed.directory}")
