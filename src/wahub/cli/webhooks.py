"""`wahub webhooks …`: look at webhooks that were given up, have them posted again, try a receiver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from wahub.cli import printing
from wahub.cli.with_api import DataDir, Json, Name, Only, Url, run

if TYPE_CHECKING:
    from wahub.cli.gateway import Api

webhooks = typer.Typer(help="Look at webhooks that nobody took, and post them again.", no_args_is_help=True)

_COLUMNS = ("eventId", "instanceId", "event", "sequence", "attempts", "createdAt", "lastAttemptAt", "lastError")


@webhooks.callback()
def group() -> None:
    """Look at webhooks that nobody took, and post them again."""


@webhooks.command()
def dead(
    instance: Only = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of each instance at most.")] = 50,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Webhooks that were given up, the latest first."""

    async def work(api: Api) -> None:
        found: list[dict[str, Any]] = []
        for owner in await _owners(api, instance):
            answer = await api.call("GET", "instances", owner, "webhooks", "dead", query={"limit": str(limit)})
            found += [_shown(letter, owner) for letter in answer["dead"]]
        if not as_json:
            printing.as_table(_COLUMNS, found)
        for letter in found if as_json else ():
            printing.as_json(letter)

    run(work, data_dir, url)


@webhooks.command()
def replay(
    event_id: Annotated[str | None, typer.Argument(metavar="[EVENT_ID]", help="One of them; default: all.")] = None,
    instance: Only = None,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Post dead letters again, to the URL that is set now. A gateway that runs does it at once, else the next one."""

    async def work(api: Api) -> None:
        from wahub.cli.gateway import CommandError, NotFoundError

        total, found = 0, False
        for owner in await _owners(api, instance):
            if instance is None and event_id is None and not await _has_any(api, owner):
                continue
            try:
                total += await _replay(api, owner, event_id)
            except NotFoundError:
                if instance is not None:
                    raise
                continue
            found = True
            if event_id is not None:
                break
        if event_id is not None and not found:
            raise CommandError(f"no instance has a dead letter {event_id}")
        if as_json:
            printing.as_json({"replayed": total})
        else:
            typer.echo(f"{total} to be posted again")

    run(work, data_dir, url)


@webhooks.command("test")
def try_receiver(
    name: Name,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Post a `webhook_test` to an instance's URL now. Needs a gateway that runs; exit code 1 if it is not taken."""

    async def work(api: Api) -> None:
        tried = (await api.call("POST", "instances", name, "webhook", "test"))["data"]
        if as_json:
            printing.as_json(tried)
        else:
            typer.echo(f"{tried['error'] or 'taken'}, after {tried['latencyMs']} ms")
        if not tried["ok"]:
            raise typer.Exit(1)

    run(work, data_dir, url, needs_worker=True)


async def _owners(api: Api, instance: str | None) -> list[str]:
    if instance is not None:
        return [instance]
    return [found["id"] for found in await api.call("GET", "instances")]


async def _has_any(api: Api, owner: str) -> bool:
    """An instance without dead letters may have no URL either, and would refuse."""
    found = await api.call("GET", "instances", owner, "webhooks", "dead", query={"limit": "1"})
    return bool(found["total"])


async def _replay(api: Api, owner: str, event_id: str | None) -> int:
    step = ("dead",) if event_id is None else ("dead", event_id)
    found = await api.call("POST", "instances", owner, "webhooks", *step, "replay")
    return int(found["replayed"])


def _shown(letter: dict[str, Any], owner: str) -> dict[str, Any]:
    """A dead letter without its URL, which may hold a password."""
    kept = {name: value for name, value in letter.items() if name != "webhookUrl"}
    return {"id": letter["eventId"], "instanceId": owner, **kept}
