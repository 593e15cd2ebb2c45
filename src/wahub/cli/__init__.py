"""The command `wahub`: one small file per command.

A command's file imports at its top only what its flags need; the rest is imported when the command runs, so that
`wahub --version` and completion do not load a web server.
"""

from __future__ import annotations

from wahub import collector


def main() -> None:
    """The console script. Leaves by SystemExit with the exit codes of `wahub.cli.exits`."""
    collector.while_loading()
    from wahub.cli.app import app

    app()
