"""Puts the commands together."""

from __future__ import annotations

from typing import Annotated

import typer

from wahub import __version__
from wahub.cli.demo_command import demo
from wahub.cli.doctor import doctor
from wahub.cli.engines import engines
from wahub.cli.instances import instances
from wahub.cli.outbox import outbox
from wahub.cli.sandbox import sandbox
from wahub.cli.serve import serve
from wahub.cli.threads import chats, messages
from wahub.cli.webhook_receiver import webhook_receiver
from wahub.cli.webhooks import webhooks

# Tracebacks stay plain: the pretty ones print local variables, and those may hold keys and message text.
app = typer.Typer(
    name="wahub",
    help="A self-hosted WhatsApp gateway.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wahub {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """A self-hosted WhatsApp gateway."""


app.command()(serve)
app.command()(sandbox)
app.command()(demo)
app.command()(doctor)
app.command("webhook-receiver")(webhook_receiver)
app.command()(chats)
app.command()(messages)
app.add_typer(engines, name="engines")
app.add_typer(instances, name="instances")
app.add_typer(outbox, name="outbox")
app.add_typer(webhooks, name="webhooks")
