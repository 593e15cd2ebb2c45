"""The hub's routes that show and change what is in the outbox already (contract A.1, 0.5, 0.13).

Each is one transaction of one service. What makes work gives the send loop a hint afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from wahub.api import endpoint, items, schemas
from wahub.api.body import Fields, read_fields
from wahub.api.deps import ApiDeps
from wahub.api.hub import path_id
from wahub.api.importing import read_records, storable
from wahub.domain.errors import CallerError, InvalidFieldError, RequestNotFoundError
from wahub.domain.ids import InstanceId, QueueId
from wahub.domain.lifecycle import Lifecycle
from wahub.domain.manage import Verdict
from wahub.domain.outbox import OUTREACH_REASON, Entry, ItemState
from wahub.ports.store import Tx
from wahub.ports.wakeup import WEBHOOKS, outbox_topic, settled_topic
from wahub.services import instance, outbox
from wahub.services.outbox import StatusView

_QUEUE_ID = re.compile(r"[0-9a-f]{32}")
_LISTED, _MOST_LISTED = 50, 1_000


@dataclass(frozen=True, slots=True)
class ManageRoutes:
    """Handlers."""

    deps: ApiDeps

    # --- the queue ---------------------------------------------------------------------------------------------------

    async def queue(self, request: Request) -> Response:
        """`GET /instances/{id}/queue`."""
        wanted, now, settings = path_id(request), self.deps.clock.now(), self.deps.settings
        view = await self.deps.database.read(
            lambda tx: outbox.overview(tx, wanted, now, settings.pace, settings.typing)
        )
        return schemas.success(items.queue(view, now))

    async def clear(self, request: Request) -> Response:
        """`DELETE /instances/{id}/queue`: cancels what never was on the wire."""
        wanted, now = path_id(request), self.deps.clock.now()
        cleared, depth = await self.deps.database.write(
            lambda tx: (outbox.clear(tx, wanted, now), tx.line.depth(wanted))
        )
        self._hint(wanted)
        left = f"; {depth} may be out already and stay until their fate is known" if depth else ""
        message = f"Queue cleared: {cleared} cancelled{left}"
        # There is no queue of another kind from which anything could be dropped (contract 0.10).
        shown = {"message": message, "cleared": cleared, "queueDepth": depth, "droppedFromOutbound": 0}
        return schemas.success(shown)

    async def trigger(self, request: Request) -> Response:
        """`POST /instances/{id}/queue/trigger`: waiting retries go as soon as the windows allow."""
        wanted, now = path_id(request), self.deps.clock.now()
        depth = await self.deps.database.write(lambda tx: outbox.trigger(tx, wanted, now))
        self._hint(wanted)
        shown = {"success": True, "message": "Send loop triggered", "queueDepth": depth, "sendLoopRunning": True}
        return schemas.success(shown)

    async def release(self, request: Request) -> Response:
        """`POST /instances/{id}/queue/release`: held items go back into the line."""
        wanted, now = path_id(request), self.deps.clock.now()
        released, depth = await self.deps.database.write(
            lambda tx: (outbox.release(tx, wanted, now), tx.line.depth(wanted))
        )
        self._hint(wanted)
        return schemas.success({"message": "Held items released", "released": released, "queueDepth": depth})

    async def status(self, request: Request) -> Response:
        """`GET /instances/{id}/status`."""
        wanted, now, settings = path_id(request), self.deps.clock.now(), self.deps.settings

        def look(tx: Tx) -> tuple[StatusView, Lifecycle, dict[str, Any]]:
            view = outbox.status(tx, wanted, now)
            return view, tx.lifecycles.get(wanted), endpoint.endpoint_of(tx, view.instance)

        view, record, webhook = await self.deps.database.read(look)
        since = now - settings.restart_window
        shown = schemas.status_page(view, record, settings.pace, settings.limits.max_queue, since)
        shown["webhookEndpoint"] = webhook
        if view.outreach_locked:
            shown["queue"]["reason"] = OUTREACH_REASON
        return schemas.success(shown)

    # --- one request -------------------------------------------------------------------------------------------------

    async def list_items(self, request: Request) -> Response:
        """`GET /instances/{id}/requests?state=…&limit=…`: the latest first."""
        wanted, now = path_id(request), self.deps.clock.now()
        state, limit = _filter(request)

        def look(tx: Tx) -> list[Entry]:
            instance.get(tx, wanted)
            return list(tx.outbox.list(wanted, state, limit))

        found = await self.deps.database.read(look)
        return schemas.success({"requests": [items.listed_item(entry, now) for entry in found]})

    async def item(self, request: Request) -> Response:
        """`GET /instances/{id}/request/{queueId}`."""
        wanted, queue_id = path_id(request), request.path_params["queue_id"]
        return self._shown(await self.deps.database.read(lambda tx: _find(tx, wanted, queue_id)))

    async def cancel(self, request: Request) -> Response:
        """`DELETE /instances/{id}/request/{queueId}`."""
        return await self._change(request, outbox.cancel)

    async def retry(self, request: Request) -> Response:
        """`POST /instances/{id}/request/{queueId}/retry`."""
        return await self._change(request, outbox.retry)

    async def resolve(self, request: Request) -> Response:
        """`POST /instances/{id}/request/{queueId}/resolve`."""
        try:
            fields = await read_fields(request, self.deps.settings.max_body)
            verdict = _verdict(fields)
        except CallerError:
            await self.item(request)  # an unknown request is the more helpful thing to say
            raise
        return await self._change(
            request, lambda tx, wanted, found, now: outbox.resolve(tx, wanted, found, verdict, now)
        )

    async def _change(self, request: Request, change: Callable[[Tx, InstanceId, QueueId, float], Entry]) -> Response:
        wanted, queue_id, now = path_id(request), request.path_params["queue_id"], self.deps.clock.now()
        changed = await self.deps.database.write(lambda tx: change(tx, wanted, _find(tx, wanted, queue_id).id, now))
        self._hint(wanted)
        return self._shown(changed)

    def _shown(self, entry: Entry) -> Response:
        shown = items.request_item(entry, self.deps.clock.now())
        return schemas.success({**shown, "data": shown})

    # --- moving over -------------------------------------------------------------------------------------------------

    async def import_keys(self, request: Request) -> Response:
        """`POST /instances/{id}/idempotency/import`: keys of messages that an earlier gateway sent."""
        wanted, now = path_id(request), self.deps.clock.now()
        try:
            records = read_records(await read_fields(request, self.deps.settings.max_body), wanted, now)
        except CallerError:
            await self.deps.database.read(lambda tx: instance.get(tx, wanted))
            raise

        def work(tx: Tx) -> int:
            instance.get(tx, wanted)
            return outbox.import_keys(tx, wanted, storable(tx, wanted, records), now)

        imported = await self.deps.database.write(work)
        return schemas.success({"imported": imported, "ignored": len(records) - imported})

    def _hint(self, wanted: InstanceId) -> None:
        for topic in (outbox_topic(wanted), settled_topic(wanted), WEBHOOKS):
            self.deps.wakeup.notify(topic)


def _filter(request: Request) -> tuple[ItemState | None, int]:
    given = Fields(dict(request.query_params), form=True)
    state = given.choice("state", tuple(ItemState))
    limit = given.number("limit", f"a number from 1 to {_MOST_LISTED}")
    if limit is not None and not 1 <= limit <= _MOST_LISTED:
        raise InvalidFieldError(f"limit must be a number from 1 to {_MOST_LISTED}")
    return None if state is None else ItemState(state), int(limit or _LISTED)


def _verdict(fields: Fields) -> Verdict:
    word = fields.choice("as", tuple(Verdict))
    if word is None:
        raise InvalidFieldError(f"as is required: {' or '.join(Verdict)}")
    return Verdict(word)


def _find(tx: Tx, wanted: InstanceId, queue_id: str) -> Entry:
    instance.get(tx, wanted)
    entry = tx.outbox.get(wanted, QueueId(queue_id)) if _QUEUE_ID.fullmatch(queue_id) else None
    if entry is None:
        raise RequestNotFoundError(queue_id)
    return entry
