"""A webhook receiver that keeps a book, checks both signatures, and can be in a bad mood."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import threading
import zlib
from collections import Counter

from tests.chaos.inbound.ledgers import Attempt
from tests.support.receiver import WebhookReceiver

REFUSED, SHUT_OUT = 0.15, 0.03
"""How often a request is answered with 500, and how often with nothing, when the receiver fails at random."""
POISONOUS = 0.01
"""How many events it takes only at the seventh attempt, chosen by their id."""
POISON_LASTS = 6


class MoodyReceiver(WebhookReceiver):
    """Fails at random if it is `moody`, and always while it is `down`."""

    def __init__(self, secret: str, seed: int, *, moody: bool) -> None:
        self._chance = random.Random(seed)
        self._moody = moody
        self._book: list[Attempt] = []
        self._lock = threading.Lock()
        self.down = False
        super().__init__(secret)

    def take(self, body: bytes, headers: dict[str, str]) -> int | None:
        """Write it down together with the answer that it gets."""
        sent = json.loads(body)
        event_id, attempt = headers["x-wa-hub-event-id"], int(headers["x-wa-hub-attempt"])
        genuine = self._genuine(body, headers)
        with self._lock:
            status = self._answer(event_id, attempt)
            self._book.append(
                Attempt(
                    instance=sent["instanceId"],
                    event_id=event_id,
                    event=sent["event"],
                    sequence=int(headers.get("x-wa-hub-sequence", "0")),
                    attempt=attempt,
                    body=body,
                    taken=status == 200,
                    genuine=genuine,
                )
            )
        return status

    def book(self) -> list[Attempt]:
        """All attempts so far, in order of arrival."""
        with self._lock:
            return list(self._book)

    def refusals(self, after: int = 0) -> Counter[str]:
        """How often instances were refused since the book had that length."""
        return Counter(attempt.instance for attempt in self.book()[after:] if not attempt.taken)

    def _answer(self, event_id: str, attempt: int) -> int | None:
        if self.down:
            return 503
        if not self._moody:
            return 200
        if attempt <= POISON_LASTS and zlib.crc32(event_id.encode()) < POISONOUS * 2**32:
            return 500
        dice = self._chance.random()
        return 500 if dice < REFUSED else None if dice < REFUSED + SHUT_OUT else 200

    def _genuine(self, body: bytes, headers: dict[str, str]) -> bool:
        key = self.secret.encode()
        hub = hmac.new(key, body, hashlib.sha256).hexdigest()
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        standard = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return (
            headers["webhook-id"] == headers["x-wa-hub-event-id"]
            and hmac.compare_digest(hub, headers["x-wa-hub-signature"])
            and hmac.compare_digest(standard, headers["webhook-signature"])
        )
