"""What a message says of its file, and what of that is believed."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from wahub.domain.ids import InstanceId, MessageId
from wahub.domain.inbox import from_engine
from wahub.domain.media import (
    UNKNOWN_TYPE,
    Attached,
    MediaFile,
    MediaRef,
    MediaState,
    Trouble,
    attached,
    failed,
    file_name,
    shown_type,
)

KEY, HASH = bytes(range(32)), bytes(range(1, 33))


def told(message: object) -> Attached | None:
    """What is understood of a message, as the engine tells it."""
    body = {"message_id": "A", "chat": "1@s.whatsapp.net", "sender": "1@s.whatsapp.net"}
    return attached(from_engine(InstanceId("shop"), {**body, "raw": json.dumps(message)}))


def part(**changes: Any) -> dict[str, Any]:
    encoded = {"mediaKey": KEY, "fileSha256": HASH, "fileEncSha256": HASH}
    shown = {name: base64.b64encode(value).decode() for name, value in encoded.items()}
    return {"directPath": "/v/x?oh=1", "mimetype": "image/jpeg", "fileLength": "123", **shown, **changes}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("imageMessage", "image"),
        ("videoMessage", "video"),
        ("ptvMessage", "video"),
        ("audioMessage", "audio"),
        ("documentMessage", "document"),
        ("stickerMessage", "sticker"),
    ],
)
def test_each_kind_of_file_is_found(name: str, kind: str) -> None:
    found = told({name: part(), "messageContextInfo": {"messageSecret": "AA=="}})
    assert found == Attached(MediaRef(kind, "/v/x?oh=1", KEY, HASH, HASH), "image/jpeg", 123, None)


@pytest.mark.parametrize(
    "wrapper",
    [
        "documentWithCaptionMessage",
        "ephemeralMessage",
        "viewOnceMessageV2",
        "lottieStickerMessage",
        "yetUnknownMessage",
    ],
)
def test_also_inside_wrappers(wrapper: str) -> None:
    inner = {"documentMessage": part(fileName="a.pdf")}
    assert told({wrapper: {"message": {"ephemeralMessage": {"message": inner}}}}) == told(inner)
    deep: dict[str, Any] = inner
    for _ in range(10):
        deep = {wrapper: {"message": deep}}
    assert told(deep) is None


@pytest.mark.parametrize(
    "message",
    [
        {"conversation": "hi"},
        {"imageMessage": part(directPath="")},
        {"imageMessage": part(mediaKey=None)},
        {"imageMessage": part(mediaKey="not base64!")},
        {"imageMessage": part(mediaKey="AAAA" * 1_000)},
        {"imageMessage": part(directPath="/" * 5_000)},
        {"imageMessage": part(directPath=7)},
        {"imageMessage": "text"},
        {"extendedTextMessage": {"contextInfo": {"quotedMessage": {"imageMessage": part()}}}},
        [],
        None,
        {"ephemeralMessage": {"message": None}},
    ],
)
def test_what_names_no_file_that_could_be_opened_has_none(message: object) -> None:
    assert told(message) is None


def test_no_raw_message_and_broken_json_have_none() -> None:
    body = {"message_id": "A", "chat": "1@s.whatsapp.net", "sender": "1@s.whatsapp.net"}
    for raw in (None, "", "{"):
        assert attached(from_engine(InstanceId("shop"), {**body, "raw": raw})) is None


@pytest.mark.parametrize(
    ("given", "size"),
    [("123", 123), (123, 123), ("0", None), (-5, None), ("x", None), (None, None), ("9" * 20, 2**53), (2.5, None)],
)
def test_a_length_is_a_claim(given: object, size: int | None) -> None:
    found = told({"imageMessage": part(fileLength=given)})
    assert found is not None and found.size == size


def test_no_key_shows_in_a_text() -> None:
    assert repr(KEY) not in repr(told({"imageMessage": part()}))


# --- its type ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "declared", "found", "shown"),
    [
        ("image", "image/jpeg", {"image/jpeg"}, "image/jpeg"),
        ("image", "IMAGE/JPEG", {"image/jpeg"}, "image/jpeg"),
        ("image", "image/jpeg", {"image/png"}, "image/jpeg"),
        ("image", "image/jpeg", {"text/html"}, UNKNOWN_TYPE),
        ("image", "image/jpeg", set(), UNKNOWN_TYPE),
        ("image", "text/html", {"image/jpeg"}, UNKNOWN_TYPE),
        ("image", "image/svg+xml", {"image/svg+xml"}, UNKNOWN_TYPE),
        ("image", "image/png", {"image/svg+xml"}, UNKNOWN_TYPE),
        ("sticker", "image/webp", {"image/webp"}, "image/webp"),
        ("audio", "audio/ogg; codecs=opus", {"application/ogg"}, "audio/ogg; codecs=opus"),
        ("audio", "audio/ogg; charset=x; codecs=opus; y=z", {"application/ogg"}, "audio/ogg; codecs=opus"),
        ("audio", "audio/ogg;codecs=opus\r\nX: y", {"application/ogg"}, "audio/ogg"),
        ("audio", "audio/mp4", {"video/mp4"}, "audio/mp4"),
        ("audio", "audio/mp4", {"image/jpeg"}, UNKNOWN_TYPE),
        ("video", "video/mp4", {"video/mp4"}, "video/mp4"),
        ("video", 'video/mp4;codecs="avc1.42E01E, mp4a"', {"video/mp4"}, 'video/mp4; codecs="avc1.42E01E, mp4a"'),
        ("video", "video/mp4", {"image/gif"}, UNKNOWN_TYPE),
        ("document", "application/pdf", {"application/pdf"}, "application/pdf"),
        ("document", "application/pdf", {"application/zip"}, UNKNOWN_TYPE),
        ("document", "application/pdf; name=x", {"application/pdf"}, "application/pdf"),
        ("document", "text/html", {"text/html"}, UNKNOWN_TYPE),
        ("document", "application/xhtml+xml", {"application/xhtml+xml"}, UNKNOWN_TYPE),
        ("document", "text/xml", {"text/xml"}, UNKNOWN_TYPE),
        ("document", "text/javascript", {"text/javascript"}, UNKNOWN_TYPE),
        ("document", "application/x-javascript", {"application/x-javascript"}, UNKNOWN_TYPE),
        ("document", "", {"application/pdf"}, UNKNOWN_TYPE),
        ("document", "nonsense", {"nonsense"}, UNKNOWN_TYPE),
        ("document", "a/b\r\nSet-Cookie: x", {"a/b"}, "a/b"),
        ("other", "image/png", {"image/png"}, "image/png"),
        # No header can hold letters beyond ASCII, some of which are others in capitals.
        ("image", "image/\u017fvg", {"image/png"}, UNKNOWN_TYPE),
        ("audio", "audio/ogg; codecs=\u0661", {"audio/ogg"}, "audio/ogg"),
    ],
)  # fmt: skip
def test_a_type_is_shown_as_far_as_the_bytes_bear_it_out(kind: str, declared: str, found: set[str], shown: str) -> None:
    assert shown_type(kind, declared, frozenset(found)) == shown


# --- its name ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("list.pdf", "list.pdf"),
        ("été 2026.pdf", "été 2026.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a.txt", "a.txt"),
        ('a"b\r\nc.pdf', "a_bc.pdf"),
        ("\u202egpj.exe", "gpj.exe"),
        ("...", "image-3EB0A1.jpg"),
        ("", "image-3EB0A1.jpg"),
        (None, "image-3EB0A1.jpg"),
        ("x" * 500 + ".pdf", "x" * 146 + ".pdf"),
        ("x" * 500, "x" * 150),
    ],
)
def test_a_name_is_safe_to_save_under(given: str | None, name: str) -> None:
    file = Attached(MediaRef("image", "/x", KEY), "image/jpeg", None, given)
    assert file_name(file, MessageId("3EB0/A1"), "image/jpeg") == name


def test_a_name_of_ours_has_the_ending_of_its_type() -> None:
    file = Attached(MediaRef("audio", "/x", KEY), "", None, None)
    assert file_name(file, MessageId("A"), "audio/ogg; codecs=opus") == "audio-A.ogg"
    assert file_name(file, MessageId("A"), UNKNOWN_TYPE) == "audio-A"
    assert file_name(file, MessageId("../"), UNKNOWN_TYPE) == "audio-file"


# --- trying again -----------------------------------------------------------------------------------------------------

WANTED = MediaFile(InstanceId("shop"), MessageId("A"), MediaState.WANTED, next_attempt_at=0.0)


@pytest.mark.parametrize("trouble", [Trouble.UNREACHABLE, Trouble.REFUSED, Trouble.FAILED])
def test_fetching_unasked_is_tried_for_about_a_day_then_given_up(trouble: Trouble) -> None:
    file, now, attempts = WANTED, 1_000.0, 0
    while file.state is MediaState.WANTED:
        attempts += 1
        file = failed(file, trouble, now)
        assert file.error == trouble
        if file.next_attempt_at is not None:
            assert 30 <= file.next_attempt_at - now <= 4 * 3_600
            now = file.next_attempt_at
    assert file.state is MediaState.FAILED and file.next_attempt_at is None
    assert attempts == file.attempts == 14
    assert 20 * 3_600 < now - 1_000 < 28 * 3_600


@pytest.mark.parametrize(("trouble", "attempts"), [(Trouble.GONE, 1), (Trouble.TOO_LARGE, 1), (Trouble.DAMAGED, 3)])
def test_what_will_not_pass_is_given_up_soon(trouble: Trouble, attempts: int) -> None:
    file = WANTED
    for _ in range(attempts):
        assert file.state is MediaState.WANTED
        file = failed(file, trouble, 1.0)
    assert file.state is MediaState.FAILED


def test_a_link_that_is_not_open_is_no_attempt() -> None:
    assert failed(WANTED, Trouble.NOT_OPEN, 5.0) == WANTED
    here = replace(WANTED, state=MediaState.HERE, path="shop/a", fetched_at=1.0)
    assert failed(here, Trouble.NOT_OPEN, 5.0) == here


def test_a_file_that_was_here_and_cannot_be_had_again_is_gone_from_here() -> None:
    here = replace(WANTED, state=MediaState.HERE, path="shop/a", fetched_at=1.0)
    again = failed(here, Trouble.GONE, 5.0)
    assert (again.state, again.path, again.fetched_at, again.error) == (MediaState.FAILED, None, None, "gone")


def test_a_message_that_is_nested_without_end_has_no_file() -> None:
    raw = '{"viewOnceMessage":{"message":' * 1_000 + '{"imageMessage":{}}' + "}}" * 1_000
    body = {"message_id": "A", "chat": "1@s.whatsapp.net", "sender": "1@s.whatsapp.net", "type": "image", "raw": raw}
    assert attached(from_engine(InstanceId("a"), body)) is None
