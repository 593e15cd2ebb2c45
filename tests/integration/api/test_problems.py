"""Everything that goes wrong comes in one envelope (contract A.0)."""

from __future__ import annotations

import logging
import re
from typing import Any

import httpx
import pytest
import structlog
from tests.integration.api.conftest import HOOK, PHONE, Edge

import wahub.api.hub
import wahub.api.problems
from wahub.api.problems import problem
from wahub.domain import errors
from wahub.domain.errors import CallerError

SEND = "/instances/shop/client/action/send-message"


def _all_caller_errors(of: type[CallerError] = CallerError) -> list[type[CallerError]]:
    return [kind for child in of.__subclasses__() for kind in (child, *_all_caller_errors(child))]


def test_every_caller_error_has_the_status_that_its_table_promises() -> None:
    promised = dict(re.findall(r"(\w+Error)\s+(?:\d{3}→)?(\d{3})", errors.__doc__ or ""))
    listed = {kind.__name__: str(kind.status) for kind in _all_caller_errors() if kind.__module__ == errors.__name__}
    assert listed == promised
    assert all(400 <= kind.status < 500 for kind in _all_caller_errors())
    assert {wahub.api.hub.QrNotAvailableError, wahub.api.problems.BodyTooLargeError} < set(_all_caller_errors())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/nothing"),
        ("POST", "/instances/x/client/action/no-such"),
        ("GET", "/api/v1"),
        ("GET", "//"),
    ],
)
async def test_an_unknown_route(client: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()) == (404, {"error": "Not found", "status": 404})


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/instances", "GET, POST"),
        ("DELETE", "/api/v1/instances", "GET, POST"),
        ("POST", "/instances/x", "DELETE, GET, PUT"),
        ("GET", SEND, "POST"),
        ("POST", "/health", "GET, HEAD"),
    ],
)
async def test_a_wrong_method(client: httpx.AsyncClient, method: str, path: str, allowed: str) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["status"]) == (405, 405)
    assert set(answer.json()) == {"error", "status"}
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "Body is not valid JSON"),
        (b"{'a': 1}", "Body is not valid JSON"),
        (b'{"chatId": NaN}', "Body is not valid JSON"),
        (b'{"message": "\xff"}', "Body is not valid JSON"),
        (b'{"message": "\\ud800 alone"}', "Body is not valid JSON"),
        (b'{"message": 1e999}', "Body is not valid JSON"),
        (b'{"message": ' + b"9" * 10_000 + b"}", "Body is not valid JSON"),
        (b"[]", "Body must be a JSON object"),
        (b'"text"', "Body must be a JSON object"),
        (b"null", "Body must be a JSON object"),
        (b"[" * 200_000, "Body is nested too deeply"),
        (b'{"a":' * 100_000, "Body is nested too deeply"),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", SEND), ("POST", "/instances"), ("PUT", "/instances/shop")])
async def test_a_body_that_is_no_json_object(
    client: httpx.AsyncClient, edge: Edge, method: str, path: str, body: bytes, text: str
) -> None:
    await edge.add("shop")
    answer = await client.request(method, path, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()) == (400, {"error": text, "status": 400})


async def test_a_body_that_is_too_large(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")

    async def chunks() -> Any:
        for _ in range(40):
            yield b" " * 50_000

    declared = await client.post(SEND, content=b" " * 1_048_577)
    chunked = await client.post(SEND, content=chunks())
    assert (declared.status_code, chunked.status_code) == (413, 413)
    assert declared.json()["status"] == 413


@pytest.mark.parametrize("body", [b"", b"  \n"])
async def test_a_missing_body_counts_as_an_empty_object(client: httpx.AsyncClient, edge: Edge, body: bytes) -> None:
    await edge.add("shop")
    answer = await client.post(SEND, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]) == (400, "chatId is required")


# --- forms ------------------------------------------------------------------------------------------------------------

FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


async def test_forms_are_read_like_json(client: httpx.AsyncClient, edge: Edge) -> None:
    created = await client.post(
        "/instances",
        content=f"name=shop&webhook[url]={HOOK}&webhook[events][]=message&webhook[events][]=qr"
        "&typingIndicatorEnabled=false&applyTypingTo=merchant",
        headers=FORM,
    )
    sent = await client.post(SEND, content="chatId=%2B201224885551&message=a+%C3%A9%26b&uxTyping=true", headers=FORM)

    assert (created.status_code, sent.status_code) == (200, 202)
    (known,) = await edge.read(lambda tx: tx.instances.list())
    assert (known.config.webhook_url, known.config.webhook_events) == (HOOK, ("message", "qr"))
    assert (known.config.typing_enabled, known.config.apply_typing_to) == (False, ("merchant",))
    (entry,) = await edge.entries("shop")
    assert (str(entry.chat), entry.content.text) == (f"{PHONE}@c.us", "a é&b")


@pytest.mark.parametrize(
    ("form", "events"),
    [
        ("webhook[events][0]=a&webhook[events][1]=b", ("a", "b")),
        ("webhook[events]=a", ("a",)),
        ("webhook[events]=", ()),
    ],
)
async def test_lists_in_forms(client: httpx.AsyncClient, edge: Edge, form: str, events: tuple[str, ...]) -> None:
    await edge.add("shop")
    assert (await client.put("/instances/shop", content=form, headers=FORM)).status_code == 200
    assert (await edge.read(lambda tx: tx.instances.list()))[0].config.webhook_events == events


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("chatId=1&message=%00", "message must not contain the NUL character"),
        ("chatId=12025550123&message=x&uxTyping=1", "uxTyping must be true or false"),
        ("&".join(f"f{n}=1" for n in range(1001)), "Body is not a valid form"),
        ("a[b][c][d][e]=1", "Body is nested too deeply"),
        ("chatId[x]=1", "chatId must be a string"),
    ],
)
async def test_bad_forms(client: httpx.AsyncClient, edge: Edge, form: str, text: str) -> None:
    await edge.add("shop")
    answer = await client.post(SEND, content=form, headers=FORM)
    assert answer.status_code == 400
    assert text in answer.json()["error"]


async def test_json_that_calls_itself_a_form_is_read_as_json(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    answer = await client.post(SEND, content='{"chatId":"20122","message":"hi"}', headers=FORM)
    assert answer.status_code == 202


async def test_multipart_is_not_read(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    answer = await client.post(SEND, files={"message": b"x"})
    assert (answer.status_code, answer.json()["status"]) == (415, 415)


# --- what nobody expected ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("production", "text"), [(False, "the disk says: secret"), (True, "Internal server error")])
async def test_an_unhandled_error(edge: Edge, production: bool, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_data: str) -> str:
        raise OSError("the disk says: secret")

    await edge.add("shop", qr="code", qr_expires_at=edge.clock.now() + 60)
    edge.with_settings(production=production)
    monkeypatch.setattr(wahub.api.hub, "_picture", fail)
    with structlog.testing.capture_logs() as logs:
        async with edge.client() as client:
            answer = await client.get("/instances/shop/client/qr")

    assert (answer.status_code, answer.json()) == (500, {"error": text, "status": 500})
    (entry,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert entry["error"] == "OSError"
    assert entry["places"][-1].startswith("test_problems.py") or "test_problems.py" in entry["places"][-1]
    assert "secret" not in str(logs)


async def test_one_line_per_request_without_query_or_body(
    client: httpx.AsyncClient, edge: Edge, caplog: pytest.LogCaptureFixture
) -> None:
    await edge.add("shop")
    caplog.set_level(logging.INFO)  # no line is made that nobody would read
    with structlog.testing.capture_logs() as logs:
        await client.post(f"{SEND}?token=hidden", json={"chatId": PHONE, "message": "hidden"})
        await client.get("/no%0Asuch/%F0%9F%98%80")

    lines = [entry["event"] for entry in logs]
    assert len(lines) == 2
    assert re.fullmatch(rf"\[\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z\] POST {SEND}", lines[0])
    assert lines[1].endswith("GET /no%0Asuch/%F0%9F%98%80")
    assert "hidden" not in str(logs)


def test_the_envelope() -> None:
    assert problem(418, "é").body == '{"error":"é","status":418}'.encode()
