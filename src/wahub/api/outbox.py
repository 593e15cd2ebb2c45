"""The hub's routes that accept sends (contract A.1): `send-message` and `create-poll`.

These are the routes that matter most: one read of the body, one transaction, one prepared reply. A send is stored
with its WhatsApp message id before the 202 leaves; it is never put on the wire inside the request. A caller that wants
to know more sends `Prefer: wait=N`: then the reply waits for the send loop, which goes its way as always.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from starlette.requests import Request
from starlette.responses import Response

from wahub.api import items, prefer, sending
from wahub.api.body import Fields, read_fields
from wahub.api.deps import ApiDeps
from wahub.api.entropy import Entropy
from wahub.api.hub import path_id
from wahub.api.problems import problem
from wahub.api.sending import SendContext, SendFields
from wahub.domain.errors import CallerError, InstanceNotFoundError, QueueFullError
from wahub.domain.ids import InstanceId, QueueId
from wahub.domain.outbox import ItemState
from wahub.domain.pacing import HOUR, next_slot
from wahub.ports.store import Tx
from wahub.ports.wakeup import outbox_topic, settled_topic
from wahub.services import instance, outbox
from wahub.services.outbox import Accepted, SendRequest

Read = Callable[[Fields, SendContext], SendFields]

_FIRST_LOOK, _LONGEST_LOOK = 0.1, 0.5
"""Seconds between two looks of a waiting caller: hints say when an item of this process settled, but may be lost."""

_NEVER_SENT = (ItemState.FAILED, ItemState.EXPIRED, ItemState.CANCELLED)


@dataclass(frozen=True, slots=True)
class OutboxRoutes:
    """Handlers."""

    deps: ApiDeps
    entropy: Entropy = field(default_factory=Entropy)

    async def send(self, request: Request) -> Response:
        """`POST /instances/{id}/client/action/send-message`."""
        return await self._accept(request, sending.read_message)

    async def poll(self, request: Request) -> Response:
        """`POST /instances/{id}/client/action/create-poll`."""
        return await self._accept(request, sending.read_poll)

    async def _accept(self, request: Request, read: Read) -> Response:
        deps = self.deps
        wanted = path_id(request)
        now = deps.clock.now()
        fields = await read_fields(request, deps.settings.max_body)
        try:
            asked = read(fields, self._context(request, now))
        except CallerError:
            # An unknown instance comes first in the documented order. Only a refused request pays for the look.
            await deps.database.read(lambda tx: instance.get(tx, wanted))
            raise
        accept = self._request(wanted, asked)
        try:
            accepted = await deps.database.write(lambda tx: outbox.enqueue(tx, accept, now, deps.settings.limits))
        except QueueFullError as error:
            return await self._full(wanted, error)
        if not accepted.replayed:
            deps.fault("after_accept")
            deps.wakeup.notify(outbox_topic(wanted))
        wait = prefer.wanted_wait(preferences) if (preferences := request.headers.getlist("prefer")) else None
        if wait is None:
            return items.send_reply(accepted, {})
        return await self._wait(accepted, wait)

    def _context(self, request: Request, now: float) -> SendContext:
        return SendContext(
            header_keys=request.headers.getlist("idempotency-key"),
            now=now,
            item_ttl=self.deps.settings.limits.item_ttl,
            random=self.entropy.take,
        )

    def _request(self, wanted: InstanceId, asked: SendFields) -> SendRequest:
        return SendRequest(
            instance=wanted,
            chat=asked.chat,
            content=asked.content,
            queue_id=QueueId(self.entropy.take(16).hex()),
            entropy=self.entropy.take(16),
            explicit_key=asked.explicit_key,
            order=asked.order,
            priority=asked.priority,
            audience=asked.audience,
            send_at=asked.send_at,
            expires_in=asked.expires_in,
            typing=asked.typing,
        )

    async def _full(self, wanted: InstanceId, error: QueueFullError) -> Response:
        """429, and when it is worth to come again: when the first item in the line leaves, by forecast."""
        now, pace = self.deps.clock.now(), self.deps.settings.pace

        def leaves(tx: Tx) -> float:
            claims = [] if pace.unlimited else tx.keys.claims_since(wanted, now - HOUR)
            return max(next_slot(claims, now, pace), tx.line.next_attempt_at(wanted) or now)

        wait = await self.deps.database.read(leaves) - now
        return problem(error.status, str(error), {"Retry-After": str(max(math.ceil(wait), 1))})

    async def _wait(self, accepted: Accepted, seconds: int) -> Response:
        """The reply, once the item is settled or the time is over. Its acceptance is on disk whatever happens here."""
        headers = {"Preference-Applied": f"wait={seconds}"}
        clock = self.deps.clock
        deadline = clock.monotonic() + seconds
        look = _FIRST_LOOK
        while not accepted.entry.settled and (left := deadline - clock.monotonic()) > 0:
            hinted = await self.deps.wakeup.wait(settled_topic(accepted.entry.instance), min(look, left))
            look = _FIRST_LOOK if hinted else min(look * 1.5, _LONGEST_LOOK)
            try:
                accepted = await self._look(accepted)
            except InstanceNotFoundError:
                break  # deleted meanwhile
        if accepted.entry.state in _NEVER_SENT:
            return items.never_sent(accepted.entry, headers)
        return items.send_reply(accepted, headers)

    async def _look(self, accepted: Accepted) -> Accepted:
        return await self.deps.database.read(lambda tx: _again(tx, accepted))


def _again(tx: Tx, accepted: Accepted) -> Accepted:
    """The same answer with what is known by now."""
    wanted = accepted.entry.instance
    found = instance.get(tx, wanted)
    entry = tx.outbox.get(wanted, accepted.entry.id)
    if entry is None:
        raise InstanceNotFoundError(wanted)
    entry = replace(entry, key=accepted.entry.key)
    return replace(accepted, entry=entry, depth=tx.line.depth(wanted), state=found.observed.state)
