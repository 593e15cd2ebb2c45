"""`wahub instances …`: look at instances and help one along. Never shows a full phone number."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wahub.cli import printing
from wahub.cli.with_api import DataDir, Json, Name, Url, run
from wahub.domain.ids import mask_phone

if TYPE_CHECKING:
    from wahub.cli.gateway import Api

instances = typer.Typer(help="Look at instances, and help one along.", no_args_is_help=True)

_COLUMNS = ("id", "status", "phone", "lastError")


class Restart(StrEnum):
    """How thorough a restart is."""

    SOFT = "soft"
    HARD = "hard"


@instances.callback()
def group() -> None:
    """Look at instances, and help one along."""


@instances.command("list")
def list_all(as_json: Json = False, data_dir: DataDir = None, url: Url = None) -> None:
    """All instances, by creation."""

    async def work(api: Api) -> None:
        found = [_shown(item) for item in await api.call("GET", "instances")]
        if not as_json:
            printing.as_table(_COLUMNS, found)
        for item in found if as_json else ():
            printing.as_json(item)

    run(work, data_dir, url)


@instances.command()
def diagnostics(name: Name, as_json: Json = False, data_dir: DataDir = None, url: Url = None) -> None:
    """All that is known of the life of one: timers, endings, incidents, mute links."""

    async def work(api: Api) -> None:
        found = await api.call("GET", "instances", name, "diagnostics")
        if as_json:
            printing.as_json(found)
        else:
            _print(found)

    run(work, data_dir, url)


@instances.command()
def restart(
    name: Name,
    kind: Annotated[Restart, typer.Option("--type", help="`hard` leaves nothing of the old link.")] = Restart.SOFT,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Open its link anew; a ready one, too. Needs a gateway that runs."""
    _ask(name, "restart", {"type": kind.value}, as_json, data_dir, url)


@instances.command()
def retry(name: Name, as_json: Json = False, data_dir: DataDir = None, url: Url = None) -> None:
    """Begin anew from `error` or `failed_qr_timeout`, with its session as it is. Needs a gateway that runs."""
    _ask(name, "retry", None, as_json, data_dir, url)


def _ask(name: str, what: str, body: Any, as_json: bool, data_dir: DataDir, url: Url) -> None:
    async def work(api: Api) -> None:
        found = await api.call("POST", "instances", name, what, body=body)
        if as_json:
            printing.as_json({"id": found["instanceId"], **found})
        else:
            typer.echo(found["message"])

    run(work, data_dir, url, needs_worker=True)


def _shown(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item of the list as people see it; its number is cut, its webhook left out."""
    phone = mask_phone(f"+{item['phoneNumber']}") if item.get("phoneNumber") else None
    return {"id": item["id"], "name": item["name"], "status": item["status"], "phone": phone} | {
        "lastError": item.get("lastError")
    }


def _print(found: Mapping[str, Any]) -> None:
    for name, value in found.items():
        if name in ("incidents", "process", "status"):
            continue
        if isinstance(value, dict):
            text = ", ".join(f"{part} {printing.cell(inner)}" for part, inner in value.items())
        elif isinstance(value, list):
            text = ", ".join(map(str, value)) or "-"
        else:
            text = printing.cell(value)
        typer.echo(f"{name:<32}  {text}")
    typer.echo("incidents")
    for incident in found["incidents"]:
        typer.echo(f"  {incident['at']}  {incident['kind']}  {incident['details']}".rstrip())
