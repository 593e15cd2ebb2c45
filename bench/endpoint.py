"""The yardstick of accepting: the same framework, server and event loop as the gateway; no store, no checks.

`python -m bench.endpoint --ready-file FILE`: a FastAPI application that parses the JSON body of a send and answers a
202 like the gateway's. It does so on two paths: a plain route, as the gateway's sends have, and FastAPI's own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from pathlib import Path

import msgspec
import uvicorn
import uvloop
from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.routing import Route

from wahub.process import listen, url_of

PLAIN, FASTAPI = "/plain/{instance}/client/action/send-message", "/fastapi/{instance}/client/action/send-message"

_decode = msgspec.json.Decoder().decode
_FIELDS = {
    "queued": True,
    "queueId": "0" * 32,
    "alreadyQueued": False,
    "message": "Message queued",
    "instanceState": "disconnected",
    "queueDepth": 100,
}
_REPLY = json.dumps({**_FIELDS, "data": _FIELDS, "status": "success"}, separators=(",", ":")).encode()


async def answer(request: Request) -> Response:
    """Parse and answer."""
    body = _decode(await request.body())
    if not body["chatId"] or not body["message"]:
        return Response(b'{"error":"chatId and message are required"}', 400, media_type="application/json")
    return Response(_REPLY, 202, media_type="application/json")


def build() -> FastAPI:
    """The application."""
    app = FastAPI()
    app.router.routes.append(Route(PLAIN, answer, methods=["POST"]))

    async def endpoint(_instance: str, request: Request) -> Response:
        return await answer(request)

    # FastAPI must see the classes themselves, not the names that this module's annotations are.
    endpoint.__annotations__ = {"_instance": str, "request": Request, "return": Response}
    app.add_api_route(FASTAPI.replace("{instance}", "{_instance}"), endpoint, methods=["POST"])
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
