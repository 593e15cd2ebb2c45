"""The proxy and the engine settings of an instance: taken, changed, shown without secrets."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from tests.integration.api.conftest import HOOK, Edge

from wahub.domain.ids import InstanceId
from wahub.domain.instance import Config, EngineOptions

SECRET = "geheim-7c1f"
PROXY = f"socks5://me:{SECRET}@127.0.0.1:1080"
SHOWN = "socks5://***@127.0.0.1:1080"
BODY = {"name": "shop", "webhook": {"url": HOOK}}
BOTH = ("/instances", "/api/v1/instances")


async def config(edge: Edge, wanted: str = "shop") -> Config:
    return await edge.read(lambda tx: tx.instances.get(InstanceId(wanted)).config)  # type: ignore[no-any-return]


@pytest.mark.parametrize("base", BOTH)
async def test_a_proxy_is_stored_and_shown_masked(client: httpx.AsyncClient, edge: Edge, base: str) -> None:
    engine = {"deviceName": "Shop till", "markOnline": False}
    made = await client.post(base, json={**BODY, "proxy": PROXY, "engine": engine})
    assert made.status_code == 200
    stored = await config(edge)
    assert (stored.proxy, stored.engine) == (PROXY, EngineOptions("Shop till", False))

    for path in ("", "/diagnostics"):
        answer = await client.get(f"{base}/shop{path}")
        shown = answer.json()["instance"] if not path else answer.json()
        assert (shown["proxy"], shown["engine"]) == (SHOWN, engine)
        assert SECRET not in answer.text
    for path in ("", "/shop/status", "/shop/client/status", "/shop/client/info-raw", "/shop/queue"):
        assert SECRET not in (await client.get(f"{base}{path}")).text
    listed = (await client.get("/instances")).json()
    assert "proxy" not in listed[0]


async def test_without_them_the_engine_chooses(client: httpx.AsyncClient, edge: Edge) -> None:
    await client.post("/instances", json={**BODY, "proxy": None, "engine": None})
    stored = await config(edge)
    assert (stored.proxy, stored.engine) == (None, EngineOptions())
    shown = (await client.get("/instances/shop")).json()["instance"]
    assert (shown["proxy"], shown["engine"]) == (None, {"deviceName": None, "markOnline": None})


@pytest.mark.parametrize("gone", ["", None])
async def test_an_empty_proxy_takes_it_away(client: httpx.AsyncClient, edge: Edge, gone: str | None) -> None:
    await client.post("/instances", json={**BODY, "proxy": PROXY})
    changed = await client.put("/instances/shop", json={"proxy": gone})
    assert changed.status_code == 200
    assert (await config(edge)).proxy is None


async def test_only_what_is_supplied_changes(client: httpx.AsyncClient, edge: Edge) -> None:
    await client.post("/instances", json={**BODY, "proxy": PROXY, "engine": {"deviceName": "Till"}})
    await client.put("/instances/shop", json={"engine": {"markOnline": True}})
    assert (await config(edge)).engine == EngineOptions("Till", True)
    await client.put("/instances/shop", json={"engine": {"deviceName": None}, "name": "Shop"})
    stored = await config(edge)
    assert (stored.engine, stored.proxy, stored.name) == (EngineOptions(None, True), PROXY, "Shop")
    await client.put("/instances/shop", json={"engine": {}})
    assert (await config(edge)).engine == EngineOptions(None, True)


async def test_a_form_changes_them_too(client: httpx.AsyncClient, edge: Edge) -> None:
    await client.post("/instances", json=BODY)
    form = {"proxy": PROXY, "engine[deviceName]": "Till", "engine[markOnline]": "true"}
    assert (await client.put("/instances/shop", data=form)).status_code == 200
    stored = await config(edge)
    assert (stored.proxy, stored.engine) == (PROXY, EngineOptions("Till", True))
    assert (await client.put("/instances/shop", data={"proxy": ""})).status_code == 200
    assert (await config(edge)).proxy is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"proxy": 7}, "proxy must be a string"),
        ({"proxy": [PROXY]}, "proxy must be a string"),
        ({"proxy": f"ftp://me:{SECRET}@host:21"}, "proxy must start with http://, https:// or socks5://"),
        ({"proxy": f"http://me:{SECRET}@host"}, "proxy needs a host and a port"),
        ({"proxy": f"http://me:{SECRET}@169.254.169.254:80"}, "proxy points to a link-local address"),
        ({"proxy": f"socks5://me:{SECRET}@0xA9FEA9FE:80"}, "proxy points to a link-local address"),
        ({"proxy": f"socks5://me:{SECRET}@host:1" + "0" * 2048}, "proxy is too long"),
        ({"proxy": f"http://me:{SECRET}\0@host:80"}, "proxy must not contain the NUL character"),
        ({"engine": "chrome"}, "engine must be an object such as {engine: {deviceName: …}}"),
        ({"engine": {"browser": SECRET}}, "engine may contain only deviceName and markOnline"),
        ({"engine": {"deviceName": ""}}, "engine.deviceName must be 1 to 50"),
        ({"engine": {"deviceName": "  "}}, "engine.deviceName must be 1 to 50"),
        ({"engine": {"deviceName": "x" * 51}}, "engine.deviceName is too long"),
        ({"engine": {"deviceName": "a\nb"}}, "engine.deviceName must be 1 to 50"),
        ({"engine": {"deviceName": 5}}, "engine.deviceName must be a string"),
        ({"engine": {"markOnline": "yes"}}, "engine.markOnline must be true or false"),
        ({"engine": {"markOnline": 1}}, "engine.markOnline must be true or false"),
    ],
    ids=lambda value: value[:30].replace(" ", "_") if isinstance(value, str) else "",
)
async def test_what_is_wrong_is_named_and_never_repeated(
    client: httpx.AsyncClient, edge: Edge, change: dict[str, Any], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    refused = await client.post("/instances", json={**BODY, **change})
    await client.post("/instances", json={**BODY, "name": "other"})
    unchanged = await client.put("/instances/other", json={**change, "name": "Renamed"})
    unknown = await client.put("/instances/nobody", json=change)

    for answer in (refused, unchanged):
        assert answer.status_code == 400 and answer.json()["error"].startswith(text)
        assert SECRET not in answer.text
    assert unknown.status_code == 404
    (known,) = await edge.read(lambda tx: [known.config for known in tx.instances.list()])
    assert (known.name, known.proxy, known.engine) == ("other", None, EngineOptions())
    assert SECRET not in caplog.text


async def test_a_proxy_is_never_logged(client: httpx.AsyncClient, edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await client.post("/instances", json={**BODY, "proxy": PROXY})
    await client.put("/instances/shop", json={"proxy": PROXY.replace("1080", "1081")})
    assert "/instances" in caplog.text
    assert SECRET not in caplog.text and SECRET not in repr(await config(edge))
