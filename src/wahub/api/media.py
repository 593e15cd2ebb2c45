"""`GET /instances/{id}/messages/{messageId}/media`: the file of a message.

What a stranger sent is never shown as a page of ours: it is an attachment, its type is what its bytes bear out, and no
browser may guess another.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from wahub.api.deps import ApiDeps
from wahub.api.hub import path_id
from wahub.api.parts import FileOrPart
from wahub.api.problems import problem
from wahub.domain.errors import MediaBrokenError, MediaUnavailableError
from wahub.domain.ids import MessageId
from wahub.domain.media import UNKNOWN_TYPE

_MAX_AGE = 86_400


@dataclass(frozen=True, slots=True)
class MediaRoutes:
    """Handlers."""

    deps: ApiDeps

    async def file(self, request: Request) -> Response:
        """The file, or a part of it (`Range`); 304 when the caller has it (`If-None-Match`)."""
        try:
            ready = await self.deps.get_media(path_id(request), MessageId(request.path_params["message"]))
        except MediaBrokenError as error:
            return problem(502, str(error))
        except MediaUnavailableError as error:
            return problem(503, str(error), {"Retry-After": str(error.retry_after)})
        tag = f'"{ready.file.sha256}"'
        # The file of a message never changes, but who may see it may.
        cached = {"ETag": tag, "Cache-Control": f"private, max-age={_MAX_AGE}"}
        if _knows(request.headers.get("if-none-match"), tag):
            return Response(status_code=304, headers=cached)
        headers = {
            **cached,
            "Content-Disposition": _attachment(ready.name),
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; sandbox",
        }
        try:
            found = await asyncio.to_thread(ready.path.stat)
        except FileNotFoundError:
            return problem(503, "The file was removed at this moment: ask again", {"Retry-After": "1"})
        return FileOrPart(ready.path, headers=headers, media_type=ready.file.mime or UNKNOWN_TYPE, stat_result=found)


def _knows(given: str | None, tag: str) -> bool:
    tags = [one.strip().removeprefix("W/") for one in (given or "").split(",")]
    return tag in tags or "*" in tags


def _attachment(name: str) -> str:
    plain = "".join(character if character.isascii() else "_" for character in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
