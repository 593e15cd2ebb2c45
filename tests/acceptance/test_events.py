"""The event log of a real gateway: it says what webhooks said, is followed across a kill, and keeps no code."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.support.gateway import API_KEY, Account, Gateway
from tests.support.waiting import until

from wahub.domain.event import UNLOGGED

pytestmark = pytest.mark.acceptance


class Follower:
    """Follows a stream in a thread, and comes back with the last id when it is cut off, as browsers do."""

    def __init__(self, gateway: Gateway, path: str) -> None:
        self._gateway = gateway
        self._path = path
        self._last: str | None = None
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.connected = threading.Event()
        self.ended = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing:
            try:
                self._follow()
            except httpx.HTTPError:
                self.connected.clear()
                threading.Event().wait(0.05)
            self.ended.set()

    def _follow(self) -> None:
        headers = {"X-API-Key": API_KEY} | ({"Last-Event-ID": self._last} if self._last else {})
        url = self._gateway.url + self._path
        with httpx.stream("GET", url, headers=headers, timeout=20, trust_env=False) as answer:
            name = ""
            for line in answer.iter_lines():
                if line == ": wahub":
                    self.connected.set()
                elif line.startswith("id: "):
                    name = line.removeprefix("id: ")
                elif line.startswith("data: "):
                    self.said.append((name, json.loads(line.removeprefix("data: "))))
                    self._last = name
        self.connected.clear()

    def close(self) -> None:
        self._closing = True


def log_of(account: Account) -> list[dict[str, Any]]:
    """All pages, three at a time."""
    found: list[dict[str, Any]] = []
    after = 0
    while page := account.gateway.ok("GET", f"/instances/{account.id}/events?limit=3&after={after}"):
        assert page["gap"] is False
        if not page["events"]:
            return found
        found += page["events"]
        after = page["next"]
    raise AssertionError("unreachable")


def test_the_log_the_stream_and_the_webhooks_agree_across_a_kill(
    new_gateway: Callable[..., Gateway], name: str
) -> None:
    gateway = new_gateway().start()
    # Before anything happens: a stream begins with what comes next.
    follower = Follower(gateway, "/events/stream")
    assert follower.connected.wait(20)
    account = gateway.create(name, events=["*"]).pair()
    customer = gateway.box.new_phone()
    texts = [f"in a log {number}" for number in range(12)]
    gateway.secrets |= set(texts)
    for text in texts[:6]:
        customer.send(account.phone, text)
    gateway.hooks.wait_enough("message", account.id, lambda seen: len(seen) >= 6)
    gateway.kill()
    for text in texts[6:]:
        customer.send(account.phone, text)
    gateway.start()
    gateway.hooks.wait_enough("message", account.id, lambda seen: len(seen) >= len(texts), timeout=30)
    # Messages may be there before the link counts as ready again.
    gateway.hooks.wait_enough("ready", account.id, lambda seen: len({hook.event_id for hook in seen}) >= 2, timeout=30)
    posted = gateway.hooks.all(instance=account.id)

    def all_logged() -> list[dict[str, Any]] | None:
        found = log_of(account)
        return found if sum(event["event"] == "message" for event in found) == len(texts) else None

    log = until(all_logged, 20, "the log lacks messages")
    assert [event["sequence"] for event in log] == list(range(1, len(log) + 1)), "no gap"
    assert [event["data"]["message"]["text"] for event in log if event["event"] == "message"] == texts
    codes = [event["data"] for event in log if event["event"] == "qr"]
    assert codes
    assert codes == [{"error": "expired"}] * len(codes), "the code was used"
    by_id = {event["eventId"]: event for event in log}
    for hook in posted:
        if hook.event in UNLOGGED:
            continue
        logged = by_id[hook.event_id]
        assert str(logged["sequence"]) == hook.headers["x-wa-hub-sequence"]
        assert hook.genuine
        if hook.event != "qr":
            assert (logged["event"], logged["data"]) == (hook.event, hook.data)
    until(lambda: len(follower.said) >= len(log), 20, lambda: f"{len(follower.said)} of {len(log)} were followed")
    seen = [identity.rpartition(":")[0] for identity, _ in follower.said]
    assert seen == [f"{account.id}:{event['sequence']}" for event in log]

    # A stream that is open does not hold up a stop.
    follower.close()
    follower.ended.clear()
    gateway.stop()
    assert follower.ended.wait(20)


def test_a_test_post_of_a_real_gateway(gateway: Gateway, name: str) -> None:
    account = gateway.create(name)
    told = gateway.ok("POST", f"/instances/{account.id}/webhook/test")
    assert (told["ok"], told["httpStatus"], told["error"]) == (True, 200, None)
    [hook] = gateway.hooks.all("webhook_test", account.id)
    assert hook.genuine
    assert hook.event_id == told["eventId"]
