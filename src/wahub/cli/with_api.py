"""What commands share that speak to a gateway: their options, and how they run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wahub.cli.exits import Exit, errors_to_exit_codes
from wahub.cli.flags import given

if TYPE_CHECKING:
    from wahub.cli.gateway import Api

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where all state lives. Default: ./wahub-data.")]
Url = Annotated[
    str | None, typer.Option("--url", help="A running gateway. Default: the one that uses the data directory, if any.")
]
Name = Annotated[str, typer.Argument(metavar="INSTANCE", help="The instance, by id or name.")]
Only = Annotated[str | None, typer.Option("--instance", help="Only this instance, by id or name.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


def run(
    work: Callable[[Api], Awaitable[None]], data_dir: Path | None, url: str | None, *, needs_worker: bool = False
) -> None:
    """Do the work with the API. `needs_worker`: only a gateway that runs can do it."""
    import asyncio

    from wahub import telemetry
    from wahub.cli.gateway import CommandError, open_api
    from wahub.config import load_settings

    async def connected() -> None:
        async with open_api(settings, needs_worker=needs_worker) as api:
            await work(api)

    with errors_to_exit_codes():
        settings = load_settings(**given(data_dir=data_dir, gateway_url=url))
        telemetry.configure("error")
        try:
            asyncio.run(connected())
        except CommandError as error:
            typer.echo(f"wahub: {error}", err=True)
            raise typer.Exit(int(Exit.FAILED)) from error
