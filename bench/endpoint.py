"""The yardsticks of accepting: the same framework, server and event loop as the gateway; no store.

`python -m bench.endpoint --ready-file FILE`: a FastAPI application that parses the JSON body of a send and answers a
202 like the gateway's, on three paths:

- `fastapi`: as FastAPI's own documentation has it, with a model of the body and a reply that is a dict.
- `route`: FastAPI's route, but the handler decodes the bytes itself and answers with bytes.
- `plain`: the same handler behind a bare route of Starlette's, as the gateway's sends have it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import Any, Literal

import msgspec
import uvicorn
import uvloop
from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.responses import Response
from starlette.routing import Route

from wahub.process import listen, url_of

PATHS = {kind: f"/{kind}/{{instance}}/client/action/send-message" for kind in ("fastapi", "route", "plain")}

_decode = msgspec.json.Decoder().decode
_FIELDS = {
    "queued": True,
    "queueId": "0" * 32,
    "alreadyQueued": False,
    "message": "Message queued",
    "instanceState": "disconnected",
    "queueDepth": 100,
}
_ANSWER = {**_FIELDS, "data": _FIELDS, "status": "success"}
_REPLY = json.dumps(_ANSWER, separators=(",", ":")).encode()


class Send(BaseModel):
    """The body of a send: what has to be in it, and the options that it may have."""

    chatId: str  # noqa: N815 - the names are those of the API
    message: str
    idempotencyKey: str | None = None  # noqa: N815
    shop: str | None = None
    orderId: str | None = None  # noqa: N815
    action: str | None = None
    uxTyping: bool | None = None  # noqa: N815
    priority: Literal["high", "normal"] = "normal"
    sendAt: float | str | None = None  # noqa: N815
    expiresIn: float | None = None  # noqa: N815


def fastapi_way(instance: str, body: Send) -> dict[str, Any]:
    """FastAPI parses, checks and answers."""
    assert instance
    assert body.chatId
    return _ANSWER


async def bytes_way(request: Request) -> Response:
    """Parse the bytes and answer with bytes."""
    body = _decode(await request.body())
    if not body["chatId"] or not body["message"]:
        return Response(b'{"error":"chatId and message are required"}', 400, media_type="application/json")
    return Response(_REPLY, 202, media_type="application/json")


def build() -> FastAPI:
    """The application."""
    app = FastAPI()

    async def endpoint(instance, body):  # type: ignore[no-untyped-def]
        return fastapi_way(instance, body)

    async def route(request):  # type: ignore[no-untyped-def]
        return await bytes_way(request)

    # FastAPI must see the classes themselves, not the names that this module's annotations are.
    endpoint.__annotations__ = {"instance": str, "body": Send}
    route.__annotations__ = {"request": Request, "return": Response}
    app.router.routes.append(Route(PATHS["plain"], bytes_way, methods=["POST"]))
    app.add_api_route(PATHS["fastapi"], endpoint, methods=["POST"], status_code=202)
    app.add_api_route(PATHS["route"], route, methods=["POST"])
    return app


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ready-file", type=Path, required=True)
    ready: Path = parser.parse_args().ready_file
    listener = listen("127.0.0.1", 0)
    # As compose.py has it.
    server = uvicorn.Server(
        uvicorn.Config(
            build(), http="httptools", ws="none", lifespan="off", log_config=None, access_log=False, server_header=False
        )
    )

    async def serve() -> None:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        partial = ready.with_suffix(".partial")
        partial.write_text(json.dumps({"url": url_of(listener), "pid": os.getpid()}))
        partial.rename(ready)
        await serving

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(serve())


if __name__ == "__main__":
    main()
