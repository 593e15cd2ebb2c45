"""`wahub webhook-receiver`: something to post webhooks to, for people who try wahub, and for tests."""

from __future__ import annotations

from typing import Annotated

import typer

from wahub.cli.exits import Exit

DEFAULT_PORT = 3001


def webhook_receiver(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, envvar="WEBHOOK_PORT", help="0 takes any free port.")
    ] = DEFAULT_PORT,
    secret: Annotated[
        str, typer.Option(envvar="WEBHOOK_SECRET", help="Check signatures with it; better set in the environment.")
    ] = "",
    fail: Annotated[int, typer.Option(min=0, help="Refuse so many requests first.")] = 0,
    fail_rate: Annotated[float, typer.Option(min=0, max=1, help="Refuse this share of all requests, by chance.")] = 0.0,
    status: Annotated[int, typer.Option(min=200, max=599, help="What a refusal answers.")] = 500,
    delay: Annotated[int, typer.Option(min=0, help="Milliseconds before each answer.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Receive webhooks at POST /webhooks/waapi, check both signatures, and print a line for each; no texts, no numbers.

    Answers 200 to everything, as receivers should, unless told to fail.
    """
    import asyncio

    from wahub.cli.receiving import BadSecretError, Manners, Receiver

    manners = Manners(fail=fail, fail_rate=fail_rate, status=status, delay=delay / 1000)
    try:
        receiver = Receiver(secret or None, manners, as_json=as_json)
        asyncio.run(receiver.serve(host, port))
    except BadSecretError as error:
        typer.echo(f"wahub: {error}", err=True)
        raise typer.Exit(int(Exit.BAD_SETTING)) from None
    except OSError as error:
        typer.echo(f"wahub: cannot listen on {host}:{port}: {error.strerror or type(error).__name__}", err=True)
        raise typer.Exit(int(Exit.FAILED)) from None
