"""Puts the edge together: which handler answers where, and what the OpenAPI description says about it.

Handlers take the bare request and return prepared bytes: FastAPI contributes routing and the description, its
validation and response models stay out of the way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from wahub.api import describe, problems
from wahub.api.auth import Guard
from wahub.api.deps import ApiDeps
from wahub.api.edge import Edge
from wahub.api.events import EventRoutes
from wahub.api.health import Health
from wahub.api.hub import Hub
from wahub.api.lifecycle import LifecycleRoutes
from wahub.api.manage import ManageRoutes
from wahub.api.media import MediaRoutes
from wahub.api.metrics import Metrics
from wahub.api.outbox import OutboxRoutes
from wahub.api.system import AdminGuard, SystemRoutes
from wahub.api.threads import ThreadRoutes
from wahub.api.webhooks import WebhookRoutes

Handler = Callable[[Request], Awaitable[Response]]


class _Segment(Convertor[str]):
    """One step of a path, which may be empty, so that an empty id is told as such (contract A.0, *Ids*)."""

    regex = "[^/]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("segment", _Segment())


def build_api(deps: ApiDeps) -> FastAPI:
    """The application. It holds no state of its own."""
    settings = deps.settings
    app = FastAPI(
        title="wahub",
        version=settings.version,
        # FastAPI's page would load scripts from somebody else's server.
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    problems.register(app)
    began = deps.clock.monotonic()
    life = LifecycleRoutes(deps, lambda: deps.clock.monotonic() - began)
    events = EventRoutes(deps)
    # The prefix most clients use comes first, and of its routes the busiest.
    for prefix in ("/instances", "/api/v1/instances"):
        _add_hub(app, prefix, deps)
        _add_life(app, prefix, life)
        _add_events(app, prefix, events, deps)
        _add_chats(app, prefix, deps)
        _add_media(app, prefix, deps)
    _add_system(app, deps, life)
    _add_health(app, deps)
    guard = Guard(settings.api_key, open_to_network=settings.open_to_network)
    app.add_middleware(Edge, guard=guard, now=deps.clock.now, production=settings.production)
    return app


def _add_hub(app: FastAPI, prefix: str, deps: ApiDeps) -> None:
    hub, outbox, manage = Hub(deps, official=prefix != "/instances"), OutboxRoutes(deps), ManageRoutes(deps)
    one = prefix + "/{instance:segment}"
    item = one + "/request/{queue_id:segment}"

    def add(method: str, path: str, handler: Handler, described: dict[str, Any]) -> None:
        app.add_api_route(path, _endpoint(handler), methods=[method], **described)

    # Plain routes answer the sends, at half the cost; FastAPI's own routes of those paths are for the description.
    for path, handler, described in (
        (f"{one}/client/action/send-message", outbox.send, describe.SEND),
        (f"{one}/client/action/create-poll", outbox.poll, describe.POLL),
    ):
        app.router.routes.append(Route(path, _endpoint(handler), methods=["POST"], include_in_schema=False))
        add("POST", path, handler, described)
    add("GET", f"{one}/client/status", hub.status, describe.STATUS)
    add("GET", f"{one}/client/qr", hub.qr, describe.QR)
    add("GET", f"{one}/client/me", hub.me, describe.ME)
    add("POST", f"{one}/client/action/logout", hub.logout, describe.LOGOUT)
    add("GET", f"{one}/status", manage.status, describe.FIGURES)
    add("GET", f"{one}/queue", manage.queue, describe.QUEUE)
    add("DELETE", f"{one}/queue", manage.clear, describe.CLEAR)
    add("POST", f"{one}/queue/trigger", manage.trigger, describe.TRIGGER)
    add("POST", f"{one}/queue/release", manage.release, describe.RELEASE)
    add("GET", f"{one}/requests", manage.list_items, describe.ITEMS)
    add("GET", item, manage.item, describe.ITEM)
    add("DELETE", item, manage.cancel, describe.CANCEL)
    add("POST", f"{item}/resolve", manage.resolve, describe.RESOLVE)
    add("POST", f"{item}/retry", manage.retry, describe.RETRY)
    add("POST", f"{one}/idempotency/import", manage.import_keys, describe.IMPORT)
    add("GET", f"{one}/qr", hub.qr, describe.QR | describe.HIDDEN)
    add("GET", prefix, hub.list_all, describe.LIST)
    add("POST", prefix, hub.create, describe.CREATE)
    add("GET", f"{prefix}/", hub.list_all, describe.LIST | describe.HIDDEN)
    add("POST", f"{prefix}/", hub.create, describe.CREATE | describe.HIDDEN)
    add("GET", one, hub.get, describe.GET)
    add("PUT", one, hub.change, describe.CHANGE)
    add("DELETE", one, hub.delete, describe.DELETE)


def _add_life(app: FastAPI, prefix: str, life: LifecycleRoutes) -> None:
    one = prefix + "/{instance:segment}"

    def add(method: str, path: str, handler: Handler, described: dict[str, Any]) -> None:
        app.add_api_route(one + path, _endpoint(handler), methods=[method], **described)

    add("POST", "/restart", life.restart, describe.RESTART)
    add("POST", "/retry", life.retry, describe.RETRY_INSTANCE)
    add("GET", "/diagnostics", life.diagnostics, describe.DIAGNOSTICS)
    add("GET", "/client/info-raw", life.info_raw, describe.INFO_RAW)
    add("POST", "/client/pairing-code", life.pairing_code, describe.PAIRING_CODE)


def _add_events(app: FastAPI, prefix: str, events: EventRoutes, deps: ApiDeps) -> None:
    one, webhooks = prefix + "/{instance:segment}", WebhookRoutes(deps)

    def add(method: str, path: str, handler: Handler, described: dict[str, Any]) -> None:
        app.add_api_route(path, _endpoint(handler), methods=[method], **described)

    add("GET", prefix.removesuffix("/instances") + "/events/stream", events.stream_all, describe.STREAM_ALL)
    add("GET", f"{one}/events", events.page, describe.EVENTS)
    add("GET", f"{one}/events/stream", events.stream_of, describe.STREAM)
    add("POST", f"{one}/webhook/test", webhooks.test, describe.WEBHOOK_TEST)
    add("GET", f"{one}/webhooks/dead", webhooks.dead, describe.DEAD)
    add("POST", f"{one}/webhooks/dead/replay", webhooks.replay_all, describe.REPLAY_ALL)
    add("POST", one + "/webhooks/dead/{event_id:segment}/replay", webhooks.replay, describe.REPLAY)


def _add_chats(app: FastAPI, prefix: str, deps: ApiDeps) -> None:
    chats, threads = prefix + "/{instance:segment}/chats", ThreadRoutes(deps)
    app.add_api_route(chats, _endpoint(threads.chats), methods=["GET"], **describe.CHATS)
    messages = _endpoint(threads.messages)
    app.add_api_route(chats + "/{chat:segment}/messages", messages, methods=["GET"], **describe.MESSAGES)


def _add_media(app: FastAPI, prefix: str, deps: ApiDeps) -> None:
    path, file = prefix + "/{instance:segment}/messages/{message:segment}/media", _endpoint(MediaRoutes(deps).file)
    app.add_api_route(path, file, methods=["GET"], **describe.MEDIA)
    app.add_api_route(path, file, methods=["HEAD"], include_in_schema=False)


def _add_system(app: FastAPI, deps: ApiDeps, life: LifecycleRoutes) -> None:
    guard, system = AdminGuard(deps.settings.admin_secret), SystemRoutes(deps, since=deps.clock.now())

    def add(method: str, path: str, handler: Handler, described: dict[str, Any]) -> None:
        app.add_api_route(path, _endpoint(guard.around(handler)), methods=[method], **described)

    add("GET", "/system/status", system.status, describe.SYSTEM)
    add("GET", "/__debug/system", system.status, describe.SYSTEM | describe.HIDDEN)
    add("POST", "/system/force-normal", system.force_normal, describe.FORCE_NORMAL)
    add("GET", "/__debug/env", system.environment, describe.DEBUG_ENV)
    add("POST", "/__debug/instances/{instance:segment}/retry", life.debug_retry, describe.DEBUG_RETRY)
    app.add_api_route("/metrics", _endpoint(Metrics(deps).metrics), methods=["GET"], **describe.METRICS)


def _add_health(app: FastAPI, deps: ApiDeps) -> None:
    health = Health(deps)
    for path, handler in (("/health", health.health), ("/healthz", health.alive), ("/readyz", health.ready)):
        app.add_api_route(path, _endpoint(handler), methods=["GET"], **describe.HEALTH)
        app.add_api_route(path, _endpoint(handler), methods=["HEAD"], include_in_schema=False)


def _endpoint(handler: Handler) -> Handler:
    """The handler with a signature that FastAPI can read: it must see `Request` itself, not the name of it."""

    async def endpoint(request: Request) -> Response:
        return await handler(request)

    endpoint.__name__ = getattr(handler, "__name__", "endpoint")
    endpoint.__doc__ = handler.__doc__
    return endpoint
