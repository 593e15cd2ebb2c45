"""`GET /instances/{id}/messages/{messageId}/media`, with the real keeper of files and a scripted link."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.contract.makers import add_received, make_received
from tests.fakes.engine import FakeLink
from tests.integration.api.conftest import Edge

from wahub.adapters.disk_blobs import DiskBlobs
from wahub.domain.ids import InstanceId, MessageId
from wahub.domain.media import MediaFile, MediaRef, MediaState
from wahub.domain.outbox import SendAcked
from wahub.ports.engine import Fetched, LinkSpec
from wahub.runtime.media import Media, MediaDeps, MediaSettings

SHOP = InstanceId("shop")
PATH = "/instances/shop/messages/3EB01/media"
DATA = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(range(200))
ETAG = f'"{hashlib.sha256(DATA).hexdigest()}"'


class Wired:
    """An edge with files: what WhatsApp has is `data`, and what its servers say instead is `word`."""

    def __init__(self, edge: Edge, folder: Path) -> None:
        self.edge = edge
        self.data, self.word = DATA, ""
        link = FakeLink(LinkSpec(SHOP, 1, 0.0), None, lambda *_: SendAcked())  # type: ignore[arg-type]
        link.fetches = self._fetch
        self.links = {SHOP: link}
        self.folder = folder
        deps = MediaDeps(
            edge.deps.database,
            edge.clock,
            edge.wakeup,
            DiskBlobs(folder),
            lambda: self.links,
            MediaSettings(limit=4_000),
        )
        self.media = Media(deps)
        edge.deps = dataclasses.replace(edge.deps, get_media=self.media.get)
        self.fetched = link.fetched

    def _fetch(self, _media: MediaRef, path: Path, _limit: int) -> Fetched:
        if self.word:
            return Fetched(self.word)
        path.write_bytes(self.data)
        return Fetched(None, len(self.data), hashlib.sha256(self.data).hexdigest())

    async def receive(self, message_id: str = "3EB01", field: str = "imageMessage", **part: Any) -> None:
        key = base64.b64encode(b"k" * 32).decode()
        shown = {"directPath": "/v/x", "mediaKey": key, "mimetype": "image/jpeg", "fileLength": str(len(DATA)), **part}
        stored = make_received(message_id, instance=SHOP, raw=json.dumps({field: shown}))
        await self.edge.write(lambda tx: add_received(tx, stored, self.edge.clock.now()))


@pytest.fixture
async def wired(edge: Edge, tmp_path: Path) -> AsyncIterator[Wired]:
    made = Wired(edge, tmp_path / "media")
    await edge.add("shop")
    await made.receive()
    yield made
    await made.media.stop()


@pytest.fixture
async def client(wired: Wired) -> AsyncIterator[httpx.AsyncClient]:
    async with wired.edge.client() as made:
        yield made


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
async def test_the_file_as_it_was_sent_and_nothing_that_a_browser_would_run(
    client: httpx.AsyncClient, prefix: str
) -> None:
    answer = await client.get(prefix + PATH)
    assert (answer.status_code, answer.content) == (200, DATA)
    shown = {name.lower(): value for name, value in answer.headers.items()}
    assert shown["content-type"] == "image/jpeg"
    assert shown["content-length"] == str(len(DATA))
    assert shown["etag"] == ETAG
    assert shown["cache-control"] == "private, max-age=86400"
    assert shown["x-content-type-options"] == "nosniff"
    assert shown["content-security-policy"] == "default-src 'none'; sandbox"
    name = "image-3EB01.jpg"
    assert shown["content-disposition"] == f"attachment; filename=\"{name}\"; filename*=UTF-8''{name}"


async def test_head_ranges_and_what_the_caller_has_already(client: httpx.AsyncClient, wired: Wired) -> None:
    head = await client.head(PATH)
    assert (head.status_code, head.content) == (200, b"")
    assert (head.headers["content-length"], head.headers["etag"]) == (str(len(DATA)), ETAG)
    part = await client.get(PATH, headers={"Range": "bytes=10-19", "If-Range": ETAG})
    assert (part.status_code, part.content) == (206, DATA[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(DATA)}"
    assert (await client.get(PATH, headers={"Range": "bytes=9999-"})).status_code == 416
    for known in (ETAG, f'"other", W/{ETAG}', "*"):
        same = await client.get(PATH, headers={"If-None-Match": known})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", ETAG)
    assert (await client.get(PATH, headers={"If-None-Match": '"other"'})).status_code == 200
    assert len(wired.fetched) == 1


_LAST = len(DATA) - 1


@pytest.mark.parametrize(
    "wish",
    [
        "lines=1",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=x-y",
        "bytes=5-2",
        "bytes=--3",
        "bytes=1-2-3",
        "=1",
        "",
        "bytes=-",
    ],
)
async def test_a_range_that_cannot_be_read_is_ignored(client: httpx.AsyncClient, wish: str) -> None:
    answer = await client.get(PATH, headers={"Range": wish})
    assert (answer.status_code, answer.content) == (200, DATA)


@pytest.mark.parametrize("wish", ["bytes=9999-", f"bytes={_LAST + 1}-", "bytes=-0", "bytes=9999-,8888-9000"])
async def test_a_range_beyond_the_end_is_refused_in_the_envelope(client: httpx.AsyncClient, wish: str) -> None:
    answer = await client.get(PATH, headers={"Range": wish})
    assert answer.status_code == answer.json()["status"] == 416
    assert str(len(DATA)) in answer.json()["error"]
    assert answer.headers["content-range"] == f"bytes */{len(DATA)}"
    changed = await client.get(PATH, headers={"Range": wish, "If-Range": '"another file"'})
    assert (changed.status_code, changed.content) == (200, DATA)


@pytest.mark.parametrize(
    ("wish", "part", "place"),
    [
        ("bytes=0-0", DATA[:1], f"0-0/{len(DATA)}"),
        ("Bytes = 200-", DATA[200:], f"200-{_LAST}/{len(DATA)}"),
        ("bytes=-5", DATA[-5:], f"{len(DATA) - 5}-{_LAST}/{len(DATA)}"),
        ("bytes=-99999", DATA, f"0-{_LAST}/{len(DATA)}"),
        ("bytes=205-99999, 9999-", DATA[205:], f"205-{_LAST}/{len(DATA)}"),
    ],
)
async def test_a_part(client: httpx.AsyncClient, wish: str, part: bytes, place: str) -> None:
    answer = await client.get(PATH, headers={"Range": wish})
    assert (answer.status_code, answer.content, answer.headers["content-range"]) == (206, part, f"bytes {place}")


async def test_several_parts(client: httpx.AsyncClient) -> None:
    answer = await client.get(PATH, headers={"Range": "bytes=0-3,10-19"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges")
    assert DATA[:4] in answer.content
    assert DATA[10:20] in answer.content


async def test_the_file_of_a_message_that_was_forgotten(client: httpx.AsyncClient, wired: Wired) -> None:
    def forget(tx: Any) -> None:
        positions, _ = tx.retention.to_blank(SHOP, (0.0, 0), 1e12, 10)
        tx.retention.blank(positions)

    assert (await client.get(PATH)).status_code == 200
    await wired.edge.write(forget)
    answer = await client.get(PATH)
    assert answer.status_code == answer.json()["status"] == 410
    assert "MESSAGES_RETENTION_DAYS" in answer.json()["error"]


@pytest.mark.parametrize(
    ("field", "part", "data", "shown"),
    [
        ("imageMessage", {"mimetype": "image/jpeg; charset=utf-7"}, DATA, "image/jpeg"),
        ("imageMessage", {}, b"<!DOCTYPE html><html><script>alert(1)</script></html>", "application/octet-stream"),
        ("documentMessage", {"mimetype": "text/html"}, b"<!DOCTYPE html><html></html>", "application/octet-stream"),
        ("documentMessage", {"mimetype": "application/pdf"}, b"%PDF-1.7\n" + bytes(50), "application/pdf"),
        ("audioMessage", {"mimetype": "audio/ogg; codecs=opus"}, b"OggS\0\2" + bytes(80), "audio/ogg; codecs=opus"),
    ],
    ids=["no parameters", "a page called a picture", "a page", "a document", "a voice note"],
)
async def test_its_type_is_what_its_bytes_bear_out(
    client: httpx.AsyncClient, wired: Wired, field: str, part: dict[str, str], data: bytes, shown: str
) -> None:
    await wired.receive("3EB02", field, **part)
    wired.data = data
    answer = await client.get("/instances/shop/messages/3EB02/media")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, data, shown)
    assert answer.headers["content-disposition"].startswith("attachment")


async def test_a_name_reaches_the_caller_in_any_script_and_splits_no_header(
    client: httpx.AsyncClient, wired: Wired
) -> None:
    await wired.receive("3EB02", "documentMessage", fileName='../résumé "1"\r\nX-Evil: 1;.pdf')
    answer = await client.get("/instances/shop/messages/3EB02/media")
    shown = answer.headers["content-disposition"]
    assert "x-evil" not in answer.headers
    assert "filename=\"r_sum_ _1_X-Evil_ 1;.pdf\"" in shown  # fmt: skip
    assert "filename*=UTF-8''r%C3%A9sum%C3%A9%20_1_X-Evil_%201%3B.pdf" in shown


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/instances/nobody/messages/3EB01/media", 404),
        ("/instances/shop/messages/3EB99/media", 404),
        ("/instances/shop/messages/3EB0A/media", 404),
        ("/instances/shop/messages//media", 404),
        ("/instances/shop/messages/..%2F..%2Fetc/media", 404),
    ],
    ids=["no instance", "no message", "no file", "no id", "a way out"],
)
async def test_what_is_not_there(client: httpx.AsyncClient, wired: Wired, path: str, status: int) -> None:
    text = make_received("3EB0A", instance=SHOP, raw=json.dumps({"conversation": "hi"}))
    await wired.edge.write(lambda tx: add_received(tx, text, 1.0))
    answer = await client.get(path)
    assert answer.status_code == answer.json()["status"] == status


@pytest.mark.parametrize(
    ("word", "status", "says"),
    [
        ("gone", 410, "WhatsApp no longer has this file"),
        ("too_large", 413, "MEDIA_MAX_MB"),
        ("refused", 502, "refuse"),
        ("damaged", 502, "not the file that was sent"),
        ("unreachable", 502, "cannot be reached"),
        ("failed", 503, "log"),
        ("not_open", 503, "not connected"),
    ],
)
async def test_why_there_is_no_file(client: httpx.AsyncClient, wired: Wired, word: str, status: int, says: str) -> None:
    wired.word = word
    answer = await client.get(PATH)
    assert answer.status_code == answer.json()["status"] == status
    assert says in answer.json()["error"]
    assert ("retry-after" in answer.headers) == (status == 503)
    wired.word = ""
    assert (await client.get(PATH)).content == DATA


async def test_a_file_larger_than_the_limit_is_refused_before_it_is_fetched(
    client: httpx.AsyncClient, wired: Wired
) -> None:
    await wired.receive("3EB02", fileLength="4001")
    answer = await client.get("/instances/shop/messages/3EB02/media")
    assert (answer.status_code, wired.fetched) == (413, [])


async def test_without_a_link_only_what_is_here_is_given(client: httpx.AsyncClient, wired: Wired) -> None:
    await wired.receive("3EB02")
    assert (await client.get(PATH)).status_code == 200
    wired.links.clear()
    assert (await client.get(PATH)).content == DATA
    away = await client.get("/instances/shop/messages/3EB02/media")
    assert (away.status_code, away.headers["retry-after"]) == (503, "30")


async def test_the_key_is_asked_for(wired: Wired) -> None:
    wired.edge.with_settings(api_key="secret")
    async with wired.edge.client() as stranger:
        assert (await stranger.get(PATH)).status_code == 401
        assert (await stranger.get(PATH, headers={"X-API-Key": "secret"})).status_code == 200
        assert (await stranger.post(PATH, headers={"X-API-Key": "secret"})).status_code == 405


async def test_diagnostics_count_files(client: httpx.AsyncClient, wired: Wired) -> None:
    assert (await client.get(PATH)).status_code == 200

    def more(tx: Any) -> None:
        tx.media.want(SHOP, MessageId("3EB05"), 1.0)
        tx.media.want(SHOP, MessageId("3EB06"), 1.0)
        tx.media.save(MediaFile(SHOP, MessageId("3EB07"), MediaState.FAILED, error="gone"))

    await wired.edge.write(more)
    found = (await client.get("/instances/shop/diagnostics")).json()
    found = found.get("diagnostics", found)
    assert found["media"] == {"waiting": 2, "here": 1, "failed": 1}
