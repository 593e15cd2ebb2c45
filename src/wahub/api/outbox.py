"""The hub's routes about sends (contract A.1): accept one, show the queue, tell the fate of one.

`send` is the route that matters most: one read of the body, one transaction, one prepared reply. A send is stored
with its WhatsApp message id before the 202 leaves; it is never put on the wire inside the request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from wahub.api import schemas
from wahub.api.body import read_fields
from wahub.api.deps import ApiDeps
from wahub.api.entropy import Entropy
from wahub.api.hub import path_id
from wahub.domain.errors import CallerError, RequestNotFoundError
from wahub.domain.ids import InstanceId, QueueId
from wahub.domain.outbox import Entry
from wahub.ports.store import Tx
from wahub.ports.wakeup import outbox_topic
from wahub.services import instance, outbox
from wahub.services.outbox import SendRequest

_QUEUE_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class OutboxRoutes:
    """Handlers."""

    deps: ApiDeps
    entropy: Entropy = field(default_factory=Entropy)

    async def send(self, request: Request) -> Response:
        """`POST /instances/{id}/client/action/send-message`."""
        deps = self.deps
        wanted = path_id(request)
        fields = await read_fields(request, deps.settings.max_body)
        try:
            asked = schemas.read_send(fields, request.headers.getlist("idempotency-key"))
        except CallerError:
            # An unknown instance comes first in the documented order. Only a refused request pays for the look.
            await deps.database.read(lambda tx: instance.get(tx, wanted))
            raise
        accept = SendRequest(
            instance=wanted,
            chat=asked.chat,
            content=asked.content,
            queue_id=QueueId(self.entropy.take(16).hex()),
            entropy=self.entropy.take(16),
            explicit_key=asked.explicit_key,
            order=asked.order,
        )
        now = deps.clock.now()
        accepted = await deps.database.write(lambda tx: outbox.enqueue(tx, accept, now, deps.settings.limits))
        if not accepted.replayed:
            deps.fault("after_accept")
            deps.wakeup.notify(outbox_topic(wanted))
        return schemas.send_reply(accepted)

    async def queue(self, request: Request) -> Response:
        """`GET /instances/{id}/queue`."""
        wanted = path_id(request)
        found, entries, depth = await self.deps.database.read(
            lambda tx: (instance.get(tx, wanted), tx.outbox.unsettled(wanted), tx.outbox.depth(wanted))
        )
        return schemas.success(schemas.queue(entries, depth, found.observed.state, self.deps.clock.now()))

    async def item(self, request: Request) -> Response:
        """`GET /instances/{id}/request/{queueId}`."""
        wanted, queue_id = path_id(request), request.path_params["queue_id"]
        entry = await self.deps.database.read(lambda tx: _find(tx, wanted, queue_id))
        shown = schemas.request_item(entry)
        return schemas.success({**shown, "data": shown})


def _find(tx: Tx, wanted: InstanceId, queue_id: str) -> Entry:
    instance.get(tx, wanted)
    entry = tx.outbox.get(wanted, QueueId(queue_id)) if _QUEUE_ID.fullmatch(queue_id) else None
    if entry is None:
        raise RequestNotFoundError(queue_id)
    return entry
