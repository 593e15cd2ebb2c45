"""A webhook receiver, as a caller of wahub would write one: it checks the signature of the body and answers 200."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Webhook:
    """One event that arrived. `genuine`: its signature is right."""

    event: str
    data: dict[str, Any]
    genuine: bool


class Receiver:
    """Listens on a free port of this machine until `close`."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._seen: list[Webhook] = []
        self._arrived = threading.Condition()
        self.on_event: Callable[[Webhook], None] | None = None
        """Called for each event, in the thread that received it."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where webhooks are to be sent."""
        return f"http://127.0.0.1:{self._server.server_port}/webhooks"

    def take(self, body: bytes, signature: str | None) -> None:
        """Check and keep one request. ValueError if the body is not a webhook."""
        expected = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        sent = json.loads(body)
        if not (isinstance(sent, dict) and isinstance(sent.get("event"), str) and isinstance(sent.get("data"), dict)):
            raise ValueError("not a webhook")
        webhook = Webhook(sent["event"], sent["data"], hmac.compare_digest(expected, signature or ""))
        with self._arrived:
            self._seen.append(webhook)
            self._arrived.notify_all()
        if self.on_event is not None:
            self.on_event(webhook)

    def wait_for(self, event: str, wanted: Callable[[Webhook], bool], timeout: float) -> Webhook | None:
        """The first event of this name that `wanted` accepts, or None when none came within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._arrived:
            while True:
                for webhook in self._seen:
                    if webhook.event == event and wanted(webhook):
                        return webhook
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._arrived.wait(left)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def _handler_for(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                receiver.take(body, self.headers.get("x-wa-hub-signature"))
            except ValueError:
                self._answer(400, b'{"error":"not a webhook","status":400}')
            else:
                self._answer(200, b'{"received":true}')

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
            """Nothing: the demo prints what matters."""

    return Handler
