"""A real webhook receiver on this machine: keeps what arrives, checks signatures, and lets tests wait for events."""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Received:
    """One webhook request."""

    body: bytes
    headers: dict[str, str]
    """Names in lower case."""
    event: str
    instance: str
    data: dict[str, Any]
    genuine: bool
    """Whether `x-wa-hub-signature` is the HMAC of the exact bytes."""

    @property
    def event_id(self) -> str:
        return self.headers["x-wa-hub-event-id"]


class WebhookReceiver:
    """Listens on a free loopback port until `close`; answers 200, or nothing while it `hangs`."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self._seen: list[Received] = []
        self._changed = threading.Condition()
        self._answers = threading.Event()
        self._answers.set()
        self._server = _Server(("127.0.0.1", 0), _handler_for(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/webhooks/waapi"

    def take(self, body: bytes, headers: dict[str, str]) -> int | None:
        """Keep one request; returns the status to answer with, None to hang up without an answer."""
        expected = hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()
        genuine = hmac.compare_digest(expected, headers.get("x-wa-hub-signature", ""))
        sent = json.loads(body)
        received = Received(body, headers, sent["event"], sent["instanceId"], sent["data"], genuine)
        with self._changed:
            self._seen.append(received)
            self._changed.notify_all()
        return 200

    def hang(self) -> None:
        """Take requests and answer none, until `answer`."""
        self._answers.clear()

    def answer(self) -> None:
        """Answer again, those that wait included."""
        self._answers.set()

    def may_answer(self) -> None:
        """Wait while it hangs."""
        self._answers.wait()

    def all(self, event: str | None = None, instance: str | None = None) -> list[Received]:
        """What arrived so far, in order of arrival."""
        with self._changed:
            return [
                seen
                for seen in self._seen
                if (event is None or seen.event == event) and (instance is None or seen.instance == instance)
            ]

    def wait(self, event: str, instance: str, timeout: float = 30.0, after: int = 0) -> Received:
        """The event number `after` (from 0) of this name and instance, as soon as it is there."""
        found = self.wait_enough(event, instance, lambda seen: len(seen) > after, timeout)
        return found[after]

    def wait_enough(
        self, event: str, instance: str, enough: Callable[[list[Received]], bool], timeout: float = 30.0
    ) -> list[Received]:
        """Wait until `enough` accepts all events of this name and instance; returns them."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = [seen for seen in self._seen if seen.event == event and seen.instance == instance]
                if enough(found):
                    return found
                left = deadline - time.monotonic()
                others = [seen.event for seen in self._seen if seen.instance == instance]
                assert left > 0, f"after {timeout:.0f} s: not enough webhooks {event!r} of {instance}: {others[-20:]}"
                self._changed.wait(left)

    def close(self) -> None:
        self.answer()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    """With 5, as it comes, some of many that post at once would knock again only after a second."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A gateway that was killed leaves broken connections behind."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _handler_for(receiver: WebhookReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status = receiver.take(body, {name.lower(): value for name, value in self.headers.items()})
            receiver.may_answer()
            if status is None:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
            """Tests print what they need."""

    return Handler
