"""A webhook receiver as a caller of wahub would write one: it checks signatures, answers 200, and sorts out repeats.

What it prints names events, instances and ids. Of people it shows the last digits of a number at most, of messages
their kind and length. Anybody may post here, signed or not: whatever was posted, a line stays one line, moves no cursor
of a terminal, and shows no number.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import logging
import random
import re
import signal
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, overload

import typer
from aiohttp import web

from wahub.domain.ids import mask_chat
from wahub.domain.times import iso
from wahub.domain.webhook import hub_signature, standard_key
from wahub.process import listen, url_of
from wahub.telemetry import mask_numbers

PATH = "/webhooks/waapi"
TOLERANCE = 300.0
"""Seconds by which a signed time may differ from ours."""

_MOST_BYTES = 16 * 1024 * 1024
_MOST_REMEMBERED = 100_000
_LONGEST_WORD = 128
_LEAST_PHONE = 10**6
_WHOLE = re.compile("[0-9]{1,15}")
_EVENT_ID = re.compile("[0-9a-f]{32}")
_NUMBER = re.compile(r"\d(?:[^0-9A-Za-z]{0,2}\d){6,}")
"""A number of a person, also as people write it: `+1 (202) 555-0102`."""

_NO_DIGIT = re.compile(r"\D")
_PEOPLE = ("from", "voter")
_TOLD = ("status", "reason", "delivery", "type", "elapsedMs", "error")
"""Fields of events that hold no text of people, and are worth a look."""


class BadSecretError(Exception):
    """The secret cannot be used. The text does not show it."""


@dataclass(frozen=True, slots=True)
class Manners:
    """When it refuses, how, and how long it takes (seconds)."""

    fail: int = 0
    fail_rate: float = 0.0
    status: int = 500
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What its signatures are worth: `ok`, `wrong`, `missing`, or `unchecked` without a secret.

    `stale`: the signature is right, but its time differs from ours by more than `TOLERANCE`; it may be a replay.
    """

    hub: str
    standard: str


def check(secret: str | None, body: bytes, headers: Mapping[str, str], now: float) -> Verdict:
    """Look at both signatures of a request. `headers` must find names whatever their case."""
    if secret is None:
        return Verdict("unchecked", "unchecked")
    given = headers.get("x-wa-hub-signature")
    hub = "missing" if given is None else _word(_same(given, hub_signature(secret.encode(), body)))
    return Verdict(hub, _standard(secret, body, headers, now))


def _standard(secret: str, body: bytes, headers: Mapping[str, str], now: float) -> str:
    event_id, timestamp = headers.get("webhook-id"), headers.get("webhook-timestamp")
    given = headers.get("webhook-signature")
    if event_id is None or timestamp is None or given is None:
        return "missing"
    at = _number(timestamp)
    signed = _bytes(f"{event_id}.{timestamp}.") + body
    expected = "v1," + base64.b64encode(hmac.digest(standard_key(secret), signed, "sha256")).decode()
    # There may be several, while a secret is rotated.
    if at is None or not any(_same(one, expected) for one in given.split(" ")):
        return "wrong"
    return "stale" if abs(now - at) > TOLERANCE else "ok"


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(_bytes(given), expected.encode())


def _bytes(header: str) -> bytes:
    """As it came over the wire, also where that was not UTF-8."""
    return header.encode("utf-8", "surrogateescape")


def _word(good: bool) -> str:
    return "ok" if good else "wrong"


class Receiver:
    """Serves until a signal. BadSecretError when the secret cannot be used."""

    def __init__(self, secret: str | None, manners: Manners, *, as_json: bool) -> None:
        try:
            standard_key(secret or "any")
        except ValueError:
            raise BadSecretError("the secret starts with whsec_ but the rest is not base64") from None
        self._secret = secret
        self._manners = manners
        self._as_json = as_json
        self._left_to_fail = manners.fail
        self._requests = 0
        self._seen: OrderedDict[str, None] = OrderedDict()

    async def serve(self, host: str, port: int) -> None:
        """Listen until SIGINT or SIGTERM. OSError when the address cannot be had."""
        app = web.Application(client_max_size=_MOST_BYTES)
        app.router.add_post(PATH, self._webhook)
        app.router.add_get("/health", self._health)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, logger=_logger())
        await runner.setup()
        listener = listen(host, port)
        await web.SockSite(runner, listener).start()
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        url = url_of(listener).rstrip("/") + PATH
        self._print({"event": "listening", "url": url}, f"listening: {url}")
        await stop.wait()
        await runner.cleanup()

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "requests": self._requests, "events": len(self._seen)})

    async def _webhook(self, request: web.Request) -> web.Response:
        try:
            body = await request.read()
        except web.RequestPayloadError:
            raise web.HTTPBadRequest(text="the body is not encoded as its headers say\n") from None
        now = time.time()
        verdict = check(self._secret, body, request.headers, now)
        name, instance, data = _read(body)
        refused = self._refuses()
        self._requests += 1
        self._tell(request.headers, verdict, name, instance, data, answered=self._manners.status if refused else 200)
        if self._manners.delay:
            await asyncio.sleep(self._manners.delay)
        if refused:
            return web.json_response({"received": False}, status=self._manners.status)
        return web.json_response({"received": True, "event": name, "instanceId": instance, "timestamp": iso(now)})

    def _refuses(self) -> bool:
        if self._left_to_fail:
            self._left_to_fail -= 1
            return True
        return random.random() < self._manners.fail_rate  # noqa: S311 - nothing secret hangs on it

    def _is_repeat(self, event_id: str | None, answered: int) -> bool:
        """Whether this event was taken before; the id is the same on every attempt."""
        if event_id is None or answered != 200:
            return False
        event_id = event_id[:_LONGEST_WORD]
        repeat = event_id in self._seen
        self._seen[event_id] = None
        if len(self._seen) > _MOST_REMEMBERED:
            self._seen.popitem(last=False)
        return repeat

    def _tell(
        self,
        headers: Mapping[str, str],
        verdict: Verdict,
        name: str | None,
        instance: str | None,
        data: Mapping[str, Any],
        *,
        answered: int,
    ) -> None:
        event_id = headers.get("x-wa-hub-event-id")
        name, instance = shown(name), shown(instance)
        line = {
            "event": "webhook",
            "name": name,
            "instanceId": instance,
            "eventId": shown(event_id),
            "sequence": _number(headers.get("x-wa-hub-sequence")),
            "attempt": _number(headers.get("x-wa-hub-attempt")),
            "hubSignature": verdict.hub,
            "standardSignature": verdict.standard,
            "repeat": self._is_repeat(event_id, answered),
            "answered": answered,
            "about": about(data),
        }
        number, attempt = line["sequence"], line["attempt"]
        people = " ".join(f"{key}={value}" for key, value in about(data).items())
        self._print(
            line,
            f"{iso(time.time())}  {name}  {instance}  #{number or '-'}  attempt {attempt or '-'}"
            f"  signatures {verdict.hub}/{verdict.standard}  -> {answered}{'  (repeat)' if line['repeat'] else ''}"
            f"  {people}".rstrip(),
        )

    def _print(self, line: Mapping[str, Any], text: str) -> None:
        typer.echo(json.dumps(line, ensure_ascii=False) if self._as_json else text)


def _logger() -> logging.Logger:
    """For requests that are no HTTP: a line each, not a traceback that quotes what was sent."""
    logger = logging.getLogger("wahub.receiver")
    logger.addFilter(_shorten)
    return logger


def _shorten(record: logging.LogRecord) -> bool:
    error = record.exc_info[0] if record.exc_info else None
    record.msg, record.args = (
        "wahub: a request could not be read: %s",
        ("unknown" if error is None else error.__name__,),
    )
    record.exc_info = record.exc_text = None
    return True


def _read(body: bytes) -> tuple[str | None, str | None, Mapping[str, Any]]:
    """Event, instance and data; what is no webhook has none of them."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None, None, {}
    if not isinstance(found, dict):
        return None, None, {}
    name, instance, data = found.get("event"), found.get("instanceId"), found.get("data")
    return (
        name if isinstance(name, str) else None,
        instance if isinstance(instance, str) else None,
        data if isinstance(data, dict) else {},
    )


def about(data: Mapping[str, Any]) -> dict[str, Any]:
    """What may be shown of an event's data."""
    told: dict[str, Any] = {}
    for part in (data, data.get("message"), data.get("vote")):
        if not isinstance(part, dict):
            continue
        told |= {key: _told(part[key]) for key in _TOLD if isinstance(part.get(key), str | int)}
        told |= {key: shown(mask_chat(str(part[key]))) for key in _PEOPLE if _is_word(part.get(key))}
        if isinstance(part.get("text"), str):
            told["length"] = len(part["text"])
        if isinstance(part.get("selectedOptions"), list):
            told["options"] = len(part["selectedOptions"])
    return told


def _is_word(value: object) -> bool:
    return isinstance(value, str | int) and bool(value)


def _told(value: str | int) -> str | int | None:
    """Numbers of people may come as numbers, too."""
    return value if isinstance(value, int) and abs(value) < _LEAST_PHONE else shown(str(value))


@overload
def shown(text: str) -> str: ...
@overload
def shown(text: None) -> None: ...
def shown(text: str | None) -> str | None:
    """What somebody posted, as it may stand in a line: short, printable, without numbers of people."""
    if text is None:
        return None
    kept = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text[:_LONGEST_WORD])
    return kept if _EVENT_ID.fullmatch(kept) and mask_numbers(kept) == kept else _NUMBER.sub(_cut, kept)


def _cut(found: re.Match[str]) -> str:
    return f"***{_NO_DIGIT.sub('', found.group())[-4:]}"


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and _WHOLE.fullmatch(text) else None
