"""The outermost layer, plain ASGI because it runs for every request: path, log line, guard, unhandled errors.

- The path: an encoded slash belongs to an instance's name, not to the route. Servers decode it before routing, so it
  is turned into the `_` that sanitising makes of it (contract A.0, *Ids*).
- The log line: `[<ISO time>] <METHOD> <path>`, the path as it was sent (percent-encoded, so one line stays one line)
  and without its query. A chat in it is cut, however its number is spelled.
- The guard (auth.py) decides before any route is looked for.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from urllib.parse import unquote, unquote_to_bytes

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wahub.api.auth import Guard
from wahub.api.problems import unhandled
from wahub.domain.ids import mask_chat
from wahub.domain.times import iso

log = structlog.get_logger("wahub.http")
_root = logging.getLogger()

_ENCODED_SLASH = re.compile(rb"%2[fF]")
_CHAT = re.compile("(?<=/chats/)[^/]+")
_NOT_SHOWN = re.compile("[^0-9A-Za-z@]")


class Edge:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, guard: Guard, now: Callable[[], float], production: bool) -> None:
        self._app = app
        self._guard = guard
        self._now = now
        self._production = production

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        if _root.isEnabledFor(logging.INFO):
            log.info(f"[{iso(self._now())}] {scope['method']} {_shown(raw)}")  # noqa: G004
        refusal = self._guard.refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        if _ENCODED_SLASH.search(raw):
            scope["path"] = unquote_to_bytes(_ENCODED_SLASH.sub(b"_", raw)).decode("utf-8", "replace")
        await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            return  # nobody is there to read an answer
        except Exception as error:
            response = unhandled(error, production=self._production)
            if started:
                raise
            await response(scope, receive, send)


def _shown(raw: bytes) -> str:
    """The path for the log."""
    path = raw.decode("ascii", "backslashreplace")
    return _CHAT.sub(lambda match: mask_chat(_NOT_SHOWN.sub("", unquote(match.group()))), path)
