"""`wahub outbox …`: look at items and decide about them. Never shows a text or a full phone number."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wahub.cli.with_api import DataDir, Json, Only, Url, run
from wahub.domain.manage import Verdict
from wahub.domain.outbox import ItemState

if TYPE_CHECKING:
    from wahub.cli.gateway import Api

outbox = typer.Typer(help="Look at what was and is to be sent, and decide about it.", no_args_is_help=True)


class Queued(StrEnum):
    """What to make of a record whose message an earlier gateway had queued: nobody knows whether it went out."""

    SKIP = "skip"
    SENT = "sent"


_Id = Annotated[str, typer.Argument(metavar="QUEUE_ID", help="The queueId that the send was answered with.")]


@outbox.callback()
def group() -> None:
    """Look at what was and is to be sent, and decide about it."""


@outbox.command("list")
def list_items(
    instance: Only = None,
    state: Annotated[ItemState | None, typer.Option(help="Only items in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """The latest items, newest first."""

    async def work(api: Api) -> None:
        from wahub.cli import outbox_work

        outbox_work.print_list(await outbox_work.latest(api, instance, state, limit), as_json=as_json)

    run(work, data_dir, url)


@outbox.command()
def show(
    queue_id: _Id, instance: Only = None, as_json: Json = False, data_dir: DataDir = None, url: Url = None
) -> None:
    """One item: its fate, and how it came to it."""
    run(_one(queue_id, instance, "GET", as_json=as_json), data_dir, url)


@outbox.command()
def cancel(
    queue_id: _Id, instance: Only = None, as_json: Json = False, data_dir: DataDir = None, url: Url = None
) -> None:
    """Take an item back that never was on the wire."""
    run(_one(queue_id, instance, "DELETE", as_json=as_json), data_dir, url)


@outbox.command()
def retry(
    queue_id: _Id, instance: Only = None, as_json: Json = False, data_dir: DataDir = None, url: Url = None
) -> None:
    """Try an item again now, under the same message id: one that waits, or that failed, expired or was cancelled."""
    run(_one(queue_id, instance, "POST", "retry", as_json=as_json), data_dir, url)


@outbox.command()
def resolve(
    queue_id: _Id,
    verdict: Annotated[Verdict, typer.Option("--as", help="What became of it, or what to do.")],
    instance: Only = None,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Say what became of an item whose fate is unknown, or have it sent once more under the same message id."""
    body = {"as": verdict.value}
    run(_one(queue_id, instance, "POST", "resolve", body=body, as_json=as_json), data_dir, url)


@outbox.command("import-idempotency")
def import_idempotency(
    file: Annotated[Path, typer.Argument(help="The .wwebjs_idempotency.json of an earlier gateway.")],
    instance: Only = None,
    queued: Annotated[
        Queued, typer.Option(help="What to do about messages that were queued: nobody knows whether they went out.")
    ] = Queued.SKIP,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Take over the idempotency keys of messages that were sent, so that nobody is messaged twice after moving over."""

    async def work(api: Api) -> None:
        from wahub.cli import idempotency_file

        records = idempotency_file.read(file)
        report = await idempotency_file.import_all(api, records, instance, queued_as_sent=queued is Queued.SENT)
        report.print(as_json=as_json)

    run(work, data_dir, url)


def _one(
    queue_id: str, instance: str | None, method: str, *action: str, as_json: bool, body: Any = None
) -> Callable[[Api], Awaitable[None]]:
    """Find the item, do something about it, and print it as it is then."""

    async def work(api: Api) -> None:
        from wahub.cli import outbox_work

        owner = await outbox_work.owner_of(api, queue_id, instance)
        found = await api.call(method, "instances", owner, "request", queue_id, *action, body=body)
        outbox_work.print_item(found["data"], as_json=as_json)

    return work
