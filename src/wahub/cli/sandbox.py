"""`wahub sandbox`: WhatsApp in a box."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wahub.cli.exits import Exit

DEFAULT_PORT = 4480


def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on; only loopback unless --i-know.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="WhatsApp's WebSocket and the control API; 0 takes any free port.")
    ] = DEFAULT_PORT,
    tls_port: Annotated[int, typer.Option(min=0, max=65535, help="Media over TLS; 0 takes any free port.")] = 0,
    seed: Annotated[str | None, typer.Option(help="The same seed gives the same trust root.")] = None,
    state: Annotated[Path | None, typer.Option(help="Keep the state in this file; default: in memory.")] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Gets the first line of stdout, atomically, once the sandbox listens.")
    ] = None,
    env_file: Annotated[
        Path | None, typer.Option(help="Gets the three WAHUB_WA_… lines that point a gateway at this sandbox.")
    ] = None,
    qr_first_ms: Annotated[int, typer.Option(min=1, help="How long the first QR code of a pairing works.")] = 60_000,
    qr_next_ms: Annotated[int, typer.Option(min=1, help="How long each of the five others works.")] = 20_000,
    i_know: Annotated[
        bool, typer.Option("--i-know", help="Allow an address that is not loopback. Anybody there controls the phones.")
    ] = False,
) -> None:
    """Run a local WhatsApp with virtual phones, for tests and for trying wahub without a phone."""
    import asyncio

    import uvloop

    from wahub.sandbox.network.store import StateFileError
    from wahub.sandbox.serve import SandboxError, SandboxOptions, SandboxSettingError
    from wahub.sandbox.serve import serve as run_sandbox

    options = SandboxOptions(
        host=host,
        port=port,
        tls_port=tls_port,
        seed=seed,
        state=state,
        ready_file=ready_file,
        env_file=env_file,
        i_know=i_know,
        qr_first_ms=qr_first_ms,
        qr_next_ms=qr_next_ms,
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
            loop.run(run_sandbox(options))
    except (SandboxError, StateFileError) as error:
        typer.echo(f"wahub: {error}", err=True)
        code = Exit.BAD_SETTING if isinstance(error, SandboxSettingError) else Exit.FAILED
        raise typer.Exit(int(code)) from error
