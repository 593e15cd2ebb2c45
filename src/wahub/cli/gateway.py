"""How commands speak to the gateway: always in the words of its HTTP API.

If no gateway has the store, the command opens it and lets the API answer inside this process; nothing listens, and no
message is sent. If one has it (SQLite serves one process), the command asks that one over HTTP. So a command does the
same thing in both cases, through the same checks and transactions.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from wahub import __version__
from wahub.adapters.local_wakeup import LocalWakeup
from wahub.adapters.sql import url as store_url
from wahub.adapters.sql.database import open_database
from wahub.adapters.sql.failure import StoreFailedError
from wahub.adapters.system_clock import SystemClock
from wahub.api.app import build_api
from wahub.api.deps import ApiDeps, ApiSettings
from wahub.config import Settings
from wahub.domain.errors import StoreBusyError
from wahub.ports.store import Database

_PATIENCE = 30.0


class CommandError(Exception):
    """A command cannot be done. The text says why and what to do."""


class NotFoundError(CommandError):
    """The API answered 404."""


class Api:
    """The API of a gateway, running or not."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def call(self, method: str, *path: str, query: dict[str, str] | None = None, body: Any = None) -> Any:
        """The JSON of a 2xx; CommandError with the API's own text otherwise. Steps of `path` are quoted."""
        url = "/" + "/".join(quote(step, safe="") for step in path)
        try:
            answer = await self._client.request(method, url, params=query, json=body)
        except httpx.HTTPError as error:
            raise CommandError(
                f"no gateway answers at {self._client.base_url} ({type(error).__name__}): "
                "start it, or say where it is with --url"
            ) from None
        found = _json_of(answer)
        if answer.is_success:
            return found
        text = found.get("error") if isinstance(found, dict) else None
        remedy = ": set API_KEY as the gateway has it" if answer.status_code in (401, 403) else ""
        kind = NotFoundError if answer.status_code == 404 else CommandError
        raise kind(f"{text or f'the gateway answered {answer.status_code}'}{remedy}")


def _json_of(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        raise CommandError(f"{answer.request.url.host} is no wahub gateway: its answer is not JSON") from None


@asynccontextmanager
async def open_api(settings: Settings, *, needs_worker: bool = False) -> AsyncIterator[Api]:
    """The API that has the store which the settings name. CommandError if there is none.

    `needs_worker`: what is asked is done by a gateway that runs. On SQLite, whoever can open the store knows that none
    does; of other stores nobody can tell, and the request waits there for one.
    """
    if settings.gateway_url is not None:
        async with _remote(settings, settings.gateway_url) as api:
            yield api
        return
    database = _open_store(settings)
    if database is None:
        async with _remote(settings, _running_url(settings)) as api:
            yield api
        return
    try:
        if needs_worker and store_url.parse(settings.database_url).get_backend_name() == "sqlite":
            raise CommandError("no gateway runs on this data: start it, and its instances come back by themselves")
        async with _in_process(database, settings) as api:
            yield api
    finally:
        await database.close()


def _open_store(settings: Settings) -> Database | None:
    """The store, if nobody else has it. One that does not exist is not created: the name was a mistake."""
    try:
        parsed = store_url.parse(settings.database_url)
        if parsed.get_backend_name() == "sqlite" and not (file := store_url.sqlite_file(parsed)).is_file():
            raise CommandError(f"there is no store at {file}: name its directory with --data-dir")
        return open_database(settings.database_url, SystemClock(settings.clock_shift))
    except StoreBusyError:
        return None
    except (OSError, ValueError, StoreFailedError) as error:
        raise CommandError(f"the store cannot be opened: {error}") from None


@asynccontextmanager
async def _in_process(database: Database, settings: Settings) -> AsyncIterator[Api]:
    clock = SystemClock(settings.clock_shift)
    kept = settings.messages_retention_days * 86_400.0 or None
    deps = ApiDeps(
        database=database,
        clock=clock,
        wakeup=LocalWakeup(clock),
        settings=ApiSettings(version=__version__, messages_kept=kept),
        engine_healthy=lambda: False,
    )
    transport = httpx.ASGITransport(build_api(deps))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield Api(client)


@asynccontextmanager
async def _remote(settings: Settings, url: str) -> AsyncIterator[Api]:
    headers = {"X-API-Key": settings.api_key.get_secret_value()} if settings.api_key else {}
    # A proxy of this machine has no business between a command and its gateway.
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=_PATIENCE, trust_env=False) as client:
        yield Api(client)


def _running_url(settings: Settings) -> str:
    """Where the gateway that has the store listens: it says so in its `run` directory, else the settings do."""
    host, port = settings.host, settings.port
    try:
        said = json.loads((Path(settings.data_dir) / "run" / "gateway.json").read_text())
        parts = urlsplit(str(said["url"]))
        host, port = parts.hostname or host, parts.port or port
    except (OSError, ValueError, KeyError, TypeError):
        pass
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what any address means from here
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
