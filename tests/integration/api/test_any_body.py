"""Whatever a caller sends, the answer is never a 5xx, and it is always JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.api.conftest import HOOK, PHONE, Edge

TEXT = st.text(st.characters(codec=None), max_size=20) | st.sampled_from([PHONE, HOOK, "k\0", "\ud800", "x" * 70_000])
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
ANY = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
WEBHOOK = ANY | st.fixed_dictionaries({}, optional={"url": st.just(HOOK) | ANY, "events": ANY, "applyTypingTo": ANY})
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "chatId": st.just(PHONE) | ANY,
        "message": st.just("hi") | ANY,
        "caption": st.just("ask") | ANY,
        "options": st.just(["a", "b"]) | ANY | st.lists(TEXT, max_size=14),
        "multipleAnswers": ANY,
        "sendAt": ANY | st.datetimes().map(str) | st.integers(0, 2**45),
        "expiresIn": ANY | st.floats(0, 1e6),
        "priority": st.just("high") | ANY,
        "recipientType": st.just("merchant") | ANY,
        "records": ANY | st.lists(st.fixed_dictionaries({"idempotencyKey": TEXT, "sentAt": ANY}), max_size=3),
        "idempotencyKey": ANY,
        "shop": ANY,
        "orderId": ANY,
        "action": ANY,
        "uxTyping": ANY,
        "name": TEXT | ANY,
        "webhook": WEBHOOK,
        "typingIndicatorEnabled": ANY,
        "applyTypingTo": ANY,
        "proxy": ANY
        | st.builds("{}://{}@{}:{}".format, st.sampled_from(["http", "socks5"]), TEXT, TEXT, st.integers()),
        "engine": ANY | st.fixed_dictionaries({}, optional={"deviceName": ANY, "markOnline": ANY}),
        "type": st.just("hard") | ANY,
        "phone": st.just(PHONE) | ANY,
    },
)
ROUTES = st.sampled_from(
    [
        ("POST", "/instances/shop/client/action/send-message"),
        ("POST", "/api/v1/instances/shop/client/action/send-message"),
        ("POST", "/instances/shop/client/action/create-poll"),
        ("POST", "/api/v1/instances/shop/client/action/create-poll"),
        ("POST", "/instances/shop/idempotency/import"),
        ("POST", "/instances"),
        ("POST", "/api/v1/instances"),
        ("POST", "/instances/shop/restart"),
        ("POST", "/instances/linked/client/pairing-code"),
        ("PUT", "/instances/shop"),
        ("PUT", "/api/v1/instances/shop"),
    ]
)
KINDS = st.sampled_from(["application/json", "application/x-www-form-urlencoded", "text/plain", "multipart/x", ""])

# The store is shared by all examples on purpose: they must not be able to hurt each other.
thorough = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
async def open_client(edge: Edge) -> AsyncIterator[httpx.AsyncClient]:
    await edge.add("shop")
    # Nobody would answer a request for a code; this one needs none.
    await edge.add("linked", authenticated_at=5.0)
    async with edge.client() as client:
        yield client


async def _check(client: httpx.AsyncClient, route: tuple[str, str], **request: Any) -> None:
    answer = await client.request(*route, **request)
    assert answer.status_code < 500, answer.text
    assert answer.json()["status"] == ("success" if answer.is_success else answer.status_code)


@thorough
@given(body=FIELDS | ANY, route=ROUTES)
async def test_any_json(open_client: httpx.AsyncClient, body: Any, route: tuple[str, str]) -> None:
    # As a careless client writes it: NaN, huge integers and lone surrogates included.
    raw = json.dumps(body).encode()
    await _check(open_client, route, content=raw, headers={"Content-Type": "application/json"})


@thorough
@given(body=st.binary(max_size=200), kind=KINDS, route=ROUTES)
async def test_any_bytes(open_client: httpx.AsyncClient, body: bytes, kind: str, route: tuple[str, str]) -> None:
    await _check(open_client, route, content=body, headers={"Content-Type": kind})


@thorough
@given(
    form=st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "name",
                    "chatId",
                    "message",
                    "caption",
                    "options[]",
                    "sendAt",
                    "expiresIn",
                    "webhook",
                    "webhook[url]",
                    "webhook[events][]",
                    "proxy",
                    "engine[deviceName]",
                    "engine[markOnline]",
                    "type",
                    "phone",
                    "[",
                    "a[][]",
                ]
            ),
            st.text(max_size=10) | st.sampled_from([PHONE, HOOK]),
        ),
        max_size=8,
    ),
    route=ROUTES,
)
async def test_any_form(open_client: httpx.AsyncClient, form: list[tuple[str, str]], route: tuple[str, str]) -> None:
    raw = httpx.QueryParams([(name, value) for name, value in form])
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    await _check(open_client, route, content=str(raw), headers=headers)


@thorough
@given(
    name=st.text(min_size=1, max_size=20),
    tail=st.sampled_from(
        [
            "",
            "/qr",
            "/qr?format=svg",
            "/diagnostics",
            "/client/info-raw",
            "/client/status",
            "/queue",
            "/status",
            "/requests",
        ]
    ),
)
async def test_any_path(open_client: httpx.AsyncClient, name: str, tail: str) -> None:
    quoted = "".join(f"%{byte:02X}" for byte in name.encode("utf-8", "replace"))
    answer = await open_client.get(f"/instances/{quoted}{tail}")
    assert answer.status_code in (200, 404)
