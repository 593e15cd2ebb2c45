"""`wahub serve`: the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wahub.cli.exits import errors_to_exit_codes
from wahub.cli.flags import given


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1 without API_KEY, else 0.0.0.0.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 takes any free one. Default: 3000.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where all state lives. Default: ./wahub-data.")] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Gets the first line of stdout, atomically, once the gateway listens.")
    ] = None,
) -> None:
    """Run the gateway. stdout carries JSON lines only; logs go to stderr."""
    with errors_to_exit_codes():
        from wahub.config import load_settings

        settings = load_settings(**given(host=host, port=port, data_dir=data_dir, ready_file=ready_file))

        # After the settings: a typing error in one should not have to wait for a web server to load.
        from wahub.compose import serve as run_gateway

        code = run_gateway(settings)
    raise typer.Exit(code)
