"""What `wahub outbox` does with the API, and how it prints items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from wahub.cli import printing
from wahub.cli.gateway import Api, CommandError, NotFoundError
from wahub.domain.outbox import ItemState

Item = dict[str, Any]

_COLUMNS = ("queueId", "instanceId", "chat", "type", "state", "delivery", "priority", "attempts", "createdAt", "reason")


async def instances(api: Api) -> list[str]:
    """The ids of all instances."""
    return [found["id"] for found in await api.call("GET", "instances")]


async def latest(api: Api, instance: str | None, state: ItemState | None, limit: int) -> list[Item]:
    """The latest items of one instance or all, newest first."""
    query = {"limit": str(limit), **({"state": state.value} if state else {})}
    found: list[Item] = []
    for owner in [instance] if instance is not None else await instances(api):
        answer = await api.call("GET", "instances", owner, "requests", query=query)
        found += answer["requests"]
    # Sorting keeps the store's order among those accepted in the same millisecond.
    return sorted(found, key=lambda item: str(item["createdAt"]), reverse=True)[:limit]


async def owner_of(api: Api, queue_id: str, instance: str | None) -> str:
    """The instance of an item: the one that was named, else whichever has it."""
    if instance is not None:
        return instance
    for candidate in await instances(api):
        try:
            await api.call("GET", "instances", candidate, "request", queue_id)
        except NotFoundError:
            continue
        return candidate
    raise CommandError(f"no instance has a request {queue_id}")


def print_list(items: Sequence[Item], *, as_json: bool) -> None:
    """One item per line, or a table."""
    if not as_json:
        printing.as_table(_COLUMNS, items)
    for item in items if as_json else ():
        printing.as_json(item)


def print_item(item: Item, *, as_json: bool) -> None:
    """One item with its timeline."""
    if as_json:
        printing.as_json(item)
        return
    for name, value in item.items():
        if name not in ("id", "timeline"):
            typer.echo(f"{name:<14}  {printing.cell(value)}")
    typer.echo("timeline")
    for moment in item["timeline"]:
        typer.echo(f"  {moment['at']}  {moment['event']}  {moment['detail'] or ''}".rstrip())
