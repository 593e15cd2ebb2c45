"""The hub's routes about instances (contract A.1), at `/instances…` and at `/api/v1/instances…` (0.2)."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from wahub.api import endpoint, schemas
from wahub.api.body import Fields, read_fields
from wahub.api.deps import ApiDeps
from wahub.domain.errors import CallerError, InstanceExistsError, InstanceNotFoundError
from wahub.domain.ids import InstanceId, instance_id
from wahub.domain.instance import Config, Instance, State
from wahub.ports.store import Tx
from wahub.ports.wakeup import INSTANCES, WEBHOOKS, deleted_topic, link_topic
from wahub.services import instance, qr, webhook

_MAYBE_STILL_LINKED = (
    "its link was not up, so WhatsApp may not have been told: "
    "if the phone still lists this device under Linked devices, remove it there"
)
_DELETE_POLL = 0.5
"""Seconds between two looks while a DELETE waits, should the hint be lost."""


class QrNotAvailableError(CallerError):
    status = 404

    def __init__(self) -> None:
        super().__init__("QR code not available yet. Please wait a few seconds.")


class NotConnectedError(CallerError):
    def __init__(self, state: State) -> None:
        super().__init__(f"Instance is not connected. Current state: {state}")


class BeingDeletedError(CallerError):
    def __init__(self, wanted: InstanceId) -> None:
        super().__init__(f"Instance {wanted} already exists and is being deleted: try again in a few seconds")


def path_id(request: Request) -> InstanceId:
    """The instance that a path names, in either spelling."""
    return instance_id(request.path_params["instance"])


_picture = lru_cache(maxsize=64)(qr.png)
_drawing = lru_cache(maxsize=64)(qr.svg)
"""Clients ask for the same code every few seconds, and drawing it takes milliseconds of the event loop."""

_PRIVATE = {"Cache-Control": "no-store"}
"""Whoever has the code can link the account, so no cache between us and the caller may keep it."""


@dataclass(frozen=True, slots=True)
class Hub:
    """Handlers. `official` is the `/api/v1` prefix, where an official WAAPI client expects a few differences."""

    deps: ApiDeps
    official: bool

    async def list_all(self, _request: Request) -> Response:
        """`GET /instances`."""
        found = await self.deps.database.read(lambda tx: tx.instances.list())
        items = [schemas.list_item(known) for known in found if not known.deleting]
        return schemas.success({"instances": items}) if self.official else schemas.reply(items)

    async def create(self, request: Request) -> Response:
        """`POST /instances`: answers at once; linking goes on in the background."""
        fields = await self._fields(request)
        bare = self.official and fields.empty
        name = f"instance-{secrets.token_hex(4)}" if bare else schemas.read_name(fields)
        wanted, now = instance_id(name), self.deps.clock.now()

        def config() -> Config:
            if bare:
                return Config(name)
            return schemas.read_config(fields, name, block_private=self.deps.settings.block_private)

        def find_or_create(tx: Tx) -> tuple[Instance, bool]:
            known = tx.instances.get(wanted)
            # An instance that exists is reported before anything else of the body is looked at.
            if known is not None:
                return known, False
            made = instance.create(tx, config(), now)
            if not bare and (secret := endpoint.read_secret(fields)):
                webhook.set_secret(tx, made.id, secret, now, overlap=0)
            return made, True

        try:
            found, created = await self.deps.database.write(find_or_create)
        except InstanceExistsError:
            # Someone else created it at the same moment. The documents want this told.
            self.deps.wakeup.notify(INSTANCES)
            raise
        if found.deleting:
            raise BeingDeletedError(wanted)
        if created:
            self.deps.wakeup.notify(INSTANCES)
            return schemas.success({"instance": schemas.brief(found)})
        return self._existing(found)

    def _existing(self, found: Instance) -> Response:
        state = found.observed.state
        if state is State.READY:
            return schemas.success({"instance": schemas.brief(found), "message": "Instance already connected"})
        if state is State.DISCONNECTED:
            self.deps.wakeup.notify(link_topic(found.id))
            self.deps.wakeup.notify(INSTANCES)
            shown = schemas.brief(found, status="initializing")
            return schemas.success({"instance": shown, "message": "Reconnection initiated"})
        return schemas.success(
            {"instance": schemas.brief(found), "message": f"Instance exists with status: {state}"},
        )

    async def get(self, request: Request) -> Response:
        """`GET /instances/{id}`."""
        wanted = path_id(request)

        def look(tx: Tx) -> dict[str, Any]:
            found = instance.get(tx, wanted)
            return {**schemas.detailed(found), "webhookEndpoint": endpoint.endpoint_of(tx, found)}

        return schemas.success({"instance": await self.deps.database.read(look)})

    async def change(self, request: Request) -> Response:
        """`PUT /instances/{id}`: only what is supplied changes; the id never does."""
        wanted, now = path_id(request), self.deps.clock.now()
        fields = await self._fields(request)
        try:
            change = schemas.read_change(fields, block_private=self.deps.settings.block_private)
            engine = schemas.read_engine(fields)
            secret = endpoint.read_secret(fields)
        except CallerError:
            await self._get(wanted)  # an unknown instance is the more helpful thing to say
            raise

        def work(tx: Tx) -> Instance:
            known = tx.instances.get(wanted, for_update=True)
            options = replace(known.config.engine, **engine) if known is not None and engine else None
            changed = instance.update(tx, wanted, replace(change, engine=options))
            if change.webhook_url is not None:
                webhook.enable(tx, wanted, change.webhook_url, now)
            if secret is not None:
                webhook.set_secret(tx, wanted, secret or None, now, self.deps.settings.secret_overlap)
            return changed

        changed = await self.deps.database.write(work)
        self.deps.wakeup.notify(INSTANCES)
        self.deps.wakeup.notify(WEBHOOKS)
        shown = schemas.brief(changed)
        data = {"data": {**shown, "instance": shown}} if self.official else {}
        return schemas.success({"instance": shown, **data})

    async def delete(self, request: Request) -> Response:
        """`DELETE /instances/{id}`: marks it, then waits until its worker has removed everything."""
        return await self._remove(path_id(request), "deleted successfully")

    async def logout(self, request: Request) -> Response:
        """`POST /instances/{id}/client/action/logout`: like DELETE; with `keep=1` the queue stays (contract 0.13)."""
        wanted = path_id(request)
        asked = (await self._fields(request)).flag("keep")
        if asked is None:
            asked = Fields(dict(request.query_params)).flag("keep")
        if not asked:
            return await self._remove(wanted, "logged out and destroyed successfully")
        before = await self.deps.database.read(lambda tx: tx.instances.get(wanted))
        try:
            await self.deps.database.write(lambda tx: instance.ask_unlink(tx, wanted))
        except InstanceNotFoundError:
            return self._nothing(wanted)
        self.deps.wakeup.notify(INSTANCES)
        done = await self._until(wanted, lambda found: found is None or not found.unlinking)
        message = f"Instance {wanted} logged out, its queue is kept: scan a new QR code to go on"
        return self._removed(message, before, deleted=False, purged=done)

    async def _remove(self, wanted: InstanceId, done: str) -> Response:
        before = await self.deps.database.read(lambda tx: tx.instances.get(wanted))
        existed = await self.deps.database.write(lambda tx: instance.ask_delete(tx, wanted))
        if not existed:
            return self._nothing(wanted)
        self.deps.wakeup.notify(INSTANCES)
        purged = await self._until(wanted, lambda found: found is None)
        return self._removed(f"Instance {wanted} {done}", before, deleted=True, purged=purged)

    def _nothing(self, wanted: InstanceId) -> Response:
        message = f"Instance {wanted} does not exist: nothing to delete"
        return schemas.success({"message": message, "deleted": False, "purged": False, "purgedPaths": []})

    def _removed(self, message: str, before: Instance | None, *, deleted: bool, purged: bool) -> Response:
        said = [] if purged else ["its data is still being removed; this goes on in the background"]
        if before is not None and before.observed.linked and before.observed.state is not State.READY:
            said.append(_MAYBE_STILL_LINKED)
        warnings = {"warnings": said} if said else {}
        return schemas.success(
            {"message": message, "deleted": deleted, "purged": purged, "purgedPaths": [], **warnings}
        )

    async def _until(self, wanted: InstanceId, done: Callable[[Instance | None], bool]) -> bool:
        deadline = self.deps.clock.monotonic() + self.deps.settings.delete_wait
        while not done(await self.deps.database.read(lambda tx: tx.instances.get(wanted))):
            left = deadline - self.deps.clock.monotonic()
            if left <= 0:
                return False
            await self.deps.wakeup.wait(deleted_topic(wanted), min(left, _DELETE_POLL))
        return True

    async def qr(self, request: Request) -> Response:
        """`GET /instances/{id}/client/qr`: the code to scan, while it is valid; with `format` as a picture or text."""
        seen = (await self._get(path_id(request))).observed
        wanted = Fields(dict(request.query_params), form=True).choice("format", ("png", "svg", "text"))
        if seen.qr is None or (seen.qr_expires_at is not None and seen.qr_expires_at <= self.deps.clock.now()):
            raise QrNotAvailableError
        if wanted == "text":
            return Response(seen.qr, headers=_PRIVATE, media_type="text/plain")
        if wanted == "svg":
            return Response(_drawing(seen.qr), headers=_PRIVATE, media_type="image/svg+xml")
        if wanted == "png":
            return Response(_picture(seen.qr), headers=_PRIVATE, media_type="image/png")
        shown = {"qrCode": {"data": {"qr_code": base64.b64encode(_picture(seen.qr)).decode("ascii")}}}
        return schemas.success(shown, headers=_PRIVATE)

    async def status(self, request: Request) -> Response:
        """`GET /instances/{id}/client/status`."""
        wanted = path_id(request)
        found, record, depth = await self.deps.database.read(
            lambda tx: (instance.get(tx, wanted), tx.lifecycles.get(wanted), tx.line.depth(wanted))
        )
        shown = schemas.client_status(found, record, depth, self.deps.settings.ready_watchdog_ms)
        return schemas.success({"clientStatus": shown})

    async def me(self, request: Request) -> Response:
        """`GET /instances/{id}/client/me`."""
        found = await self._get(path_id(request))
        if found.observed.state is not State.READY:
            raise NotConnectedError(found.observed.state)
        return schemas.success({"me": schemas.me(found)})

    async def _get(self, wanted: InstanceId) -> Instance:
        return await self.deps.database.read(lambda tx: instance.get(tx, wanted))

    async def _fields(self, request: Request) -> Fields:
        return await read_fields(request, self.deps.settings.max_body)
