"""Answers of the control API: JSON bodies, and errors as `{"error", "status"}`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from wahub.sandbox.model import RefusedError
from wahub.sandbox.phone.phone import Phone
from wahub.sandbox.world import World


def answer(body: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def error(status: int, text: str) -> Response:
    """An error answer."""
    return answer({"error": text, "status": status}, status)


def on_refused(_: Request, problem: Exception) -> Response:
    """What the network, a phone or a request check refused."""
    assert isinstance(problem, RefusedError)
    return error(problem.status, str(problem))


def on_http(_: Request, problem: Exception) -> Response:
    """Unknown paths and methods."""
    assert isinstance(problem, HTTPException)
    return error(problem.status_code, "Not found" if problem.status_code == 404 else problem.detail)


def on_bug(_: Request, problem: Exception) -> Response:
    """Anything unforeseen; the text names the kind only, since messages may hold plaintext."""
    return error(500, f"the sandbox failed: {type(problem).__name__}")


def iso(moment: datetime | None) -> str | None:
    """ISO-8601 in UTC, milliseconds, with Z."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def phone_summary(phone: Phone) -> dict[str, Any]:
    """What creating a phone answers."""
    return {"number": phone.number, "name": phone.name, "jid": str(phone.jid), "lid": f"{phone.lid}@lid"}


def phone_details(world: World, phone: Phone) -> dict[str, Any]:
    """A phone with its linked devices (the phone itself is not among them)."""
    devices = [
        {
            "id": device.id,
            "platform": device.platform,
            "connected": device.connected,
            "pairedAt": iso(device.paired_at),
            "lastSeenAt": iso(device.last_seen_at),
        }
        for device in world.network.linked_devices(phone.number)
    ]
    return phone_summary(phone) | {"online": phone.online, "devices": devices}
