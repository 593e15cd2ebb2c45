"""Webhooks as callers manage them: dead letters, a test post, what is known of the endpoint, an own secret."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from wahub.api import schemas
from wahub.api.body import Fields
from wahub.api.deps import ApiDeps
from wahub.api.hub import path_id
from wahub.api.schemas import iso_or_none
from wahub.domain.errors import CallerError, InvalidFieldError
from wahub.domain.event import SECRETS
from wahub.domain.ids import InstanceId
from wahub.domain.instance import Instance
from wahub.domain.target import mask_url
from wahub.domain.times import iso
from wahub.domain.webhook import Delivery
from wahub.ports.store import Tx
from wahub.ports.wakeup import WEBHOOKS
from wahub.services import instance, webhook

_LISTED, _MOST_LISTED = 50, 1_000


class NoUrlError(CallerError):
    def __init__(self) -> None:
        super().__init__("The instance has no webhook.url: set one first")


class DeadLetterNotFoundError(CallerError):
    status = 404

    def __init__(self) -> None:
        super().__init__("No such dead letter")


class CodeIsOverError(CallerError):
    status = 409

    def __init__(self) -> None:
        super().__init__("The pairing code of this event works no more, so it is not posted again")


class NotServingError(CallerError):
    status = 409

    def __init__(self) -> None:
        super().__init__("Only a running gateway can post: start it, or name it with --url")


@dataclass(frozen=True, slots=True)
class WebhookRoutes:
    """Handlers."""

    deps: ApiDeps

    async def dead(self, request: Request) -> Response:
        """`GET /instances/{id}/webhooks/dead?limit=`: deliveries that were given up, the latest first."""
        wanted = path_id(request)
        limit = _limit(Fields(dict(request.query_params), form=True))

        def look(tx: Tx) -> tuple[int, list[Delivery]]:
            instance.get(tx, wanted)
            return tx.dead.count(wanted), list(tx.dead.list(wanted, limit))

        total, found = await self.deps.database.read(look)
        return schemas.success({"dead": [_dead_letter(delivery) for delivery in found], "total": total})

    async def replay(self, request: Request) -> Response:
        """`POST /instances/{id}/webhooks/dead/{eventId}/replay`."""
        wanted, event_id = path_id(request), request.path_params["event_id"]

        def work(tx: Tx) -> int:
            instance.get(tx, wanted)
            found = tx.dead.find(wanted, event_id)
            if found is None:
                raise DeadLetterNotFoundError
            if found.event in SECRETS:
                raise CodeIsOverError
            return webhook.replay(tx, _with_url(tx, wanted), event_id, self.deps.clock.now())

        return await self._replayed(work)

    async def replay_all(self, request: Request) -> Response:
        """`POST /instances/{id}/webhooks/dead/replay`."""
        wanted = path_id(request)
        return await self._replayed(lambda tx: webhook.replay(tx, _with_url(tx, wanted), None, self.deps.clock.now()))

    async def _replayed(self, work: Any) -> Response:
        count = await self.deps.database.write(work)
        self.deps.wakeup.notify(WEBHOOKS)
        return schemas.success({"replayed": count}, 202)

    async def test(self, request: Request) -> Response:
        """`POST /instances/{id}/webhook/test`: posts `webhook_test` now; 200 whatever the receiver says."""
        wanted = path_id(request)
        known = await self.deps.database.read(lambda tx: _with_url(tx, wanted))
        if self.deps.post_test is None:
            raise NotServingError
        tried = await self.deps.post_test(known, secrets.token_hex(16))
        if tried is None:
            raise NoUrlError
        result = {
            "eventId": tried.event_id,
            "ok": tried.status is not None and 200 <= tried.status < 300,
            "httpStatus": tried.status,
            "latencyMs": round(tried.latency * 1000),
            "error": tried.error,
        }
        return schemas.success({**result, "data": result})


def _limit(query: Fields) -> int:
    what = f"a number from 1 to {_MOST_LISTED}"
    found = query.number("limit", what)
    if found is not None and not 1 <= found <= _MOST_LISTED:
        raise InvalidFieldError(f"limit must be {what}")
    return int(found or _LISTED)


def _with_url(tx: Tx, wanted: InstanceId) -> Instance:
    known = instance.get(tx, wanted)
    if not known.config.webhook_url:
        raise NoUrlError
    return known


def _dead_letter(delivery: Delivery) -> dict[str, Any]:
    return {
        "eventId": delivery.event_id,
        "event": delivery.event,
        "sequence": delivery.sequence,
        "attempts": delivery.attempts,
        "lastError": delivery.last_error,
        "lastAttemptAt": iso_or_none(delivery.attempted_at),
        "createdAt": iso(delivery.created_at),
        "webhookUrl": mask_url(delivery.url),
    }
