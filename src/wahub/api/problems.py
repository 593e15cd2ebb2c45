"""Errors as replies: `{"error": <text>, "status": <code>}` for whatever goes wrong (contract A.0).

CallerErrors carry their own status and text. What is left is a bug or a surprise: 500, with its text hidden in
production, and in the log only the kind of error and where it came from, since its text may quote a caller's data.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from wahub.domain.errors import CallerError

log = structlog.get_logger("wahub.http")

_encode = msgspec.json.Encoder().encode


class BodyTooLargeError(CallerError):
    status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(f"Body too large: at most {limit} bytes are read")


class UnsupportedBodyError(CallerError):
    status = 415

    def __init__(self, content_type: str) -> None:
        super().__init__(
            f"Content-Type {content_type} is not supported: send application/json or application/x-www-form-urlencoded"
        )


class InvalidBodyError(CallerError):
    """The body cannot be read."""


def problem(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """The error envelope as a response."""
    body = _encode({"error": text, "status": status})
    return Response(body, status, headers, media_type="application/json")


def register(app: Starlette) -> None:
    """Have the application answer its errors in the envelope."""
    app.add_exception_handler(CallerError, _caller_error)
    app.add_exception_handler(HTTPException, _http_error)


async def _caller_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, CallerError)
    return problem(error.status, str(error))


async def _http_error(request: Request, error: Exception) -> Response:
    """What the router says: no such route, or not with this method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return problem(404, "Not found")
    if error.status_code == 405:
        allowed = _methods_of(request)
        return problem(405, f"Method not allowed: use {' or '.join(allowed)}", {"Allow": ", ".join(allowed)})
    return problem(error.status_code, str(error.detail), error.headers)


def _methods_of(request: Request) -> list[str]:
    """Every method that some route takes on this path."""
    found: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found)


def unhandled(error: Exception, *, production: bool) -> Response:
    """The reply to what nobody expected; writes the log entry too."""
    places = [f"{frame.filename.rpartition('/wahub/')[2]}:{frame.lineno}" for frame in _frames(error)]
    log.error("unhandled error in a request", error=type(error).__name__, places=places[-6:])
    text = "Internal server error" if production else str(error) or type(error).__name__
    return problem(500, text.encode("utf-8", "replace").decode())


def _frames(error: Exception) -> traceback.StackSummary:
    return traceback.extract_tb(error.__traceback__)
