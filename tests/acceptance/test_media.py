"""Files from a phone through the shipped command: what comes out is what was sent."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.box import Phone
from tests.support.gateway import Account, Gateway
from tests.support.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("shared-gateway")]

PICTURE = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + random.Random(1).randbytes(50_000)
VOICE = b"OggS\x00\x02" + bytes(20) + b"\x01\x13OpusHead\x01\x01" + random.Random(2).randbytes(9_000)
PAPER = b"%PDF-1.7\n" + random.Random(3).randbytes(70_000)


def send_file(sender: Phone, to: Phone, data: bytes, **media: Any) -> str:
    """A person sends a file; returns its message id."""
    body = {"to": to.number, "media": {**media, "base64": base64.b64encode(data).decode()}}
    return str(sender.box.control("POST", f"phones/{sender.number}/send", body)["messageId"])


def path_of(account: Account, message_id: str) -> str:
    return f"/instances/{account.id}/messages/{message_id}/media"


def wait_told(account: Account, message_id: str) -> dict[str, Any]:
    """The webhook of a message."""
    hooks = account.gateway.hooks.wait_enough(
        "message", account.id, lambda seen: any(hook.data["message"]["id"] == message_id for hook in seen)
    )
    return next(dict(hook.data["message"]) for hook in hooks if hook.data["message"]["id"] == message_id)


def test_files_come_out_as_they_were_sent_and_go_with_their_instance(gateway: Gateway, name: str) -> None:
    account = gateway.create(name, ["message"]).pair()
    customer = gateway.box.new_phone()
    files: dict[str, tuple[bytes, dict[str, Any]]] = {
        "image/jpeg": (PICTURE, {"kind": "image"}),
        "audio/ogg; codecs=opus": (VOICE, {"kind": "audio", "voice": True}),
        "application/pdf": (PAPER, {"kind": "document", "fileName": "offer.pdf", "caption": "see"}),
    }
    sent = {
        mime: (data, send_file(customer, account.phone, data, mime=mime, **media))
        for mime, (data, media) in files.items()
    }
    for kind, (data, message_id) in sent.items():
        wait_told(account, message_id)
        answer = gateway.http("GET", path_of(account, message_id))
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert answer.content == data
    head = gateway.http("HEAD", path_of(account, sent["application/pdf"][1]))
    assert 'filename="offer.pdf"' in head.headers["content-disposition"]
    # Here it is, whatever becomes of WhatsApp's copy.
    gateway.box.arm({"mediaError": {"status": 404}}, stanza="download")
    assert gateway.http("GET", path_of(account, sent["image/jpeg"][1])).content == PICTURE
    other = send_file(customer, account.phone, PICTURE, kind="image")
    wait_told(account, other)
    assert gateway.http("GET", path_of(account, other)).status_code == 410
    folder = gateway.data / "media" / account.id
    assert len(list(folder.iterdir())) == 3
    gateway.ok("DELETE", f"/instances/{account.id}")
    assert not folder.exists()


def test_a_file_that_the_account_sent_from_its_phone(gateway: Gateway, name: str) -> None:
    account = gateway.create(name, ["message"]).pair()
    customer = gateway.box.new_phone()
    message_id = send_file(account.phone, customer, PICTURE, kind="image")
    path = path_of(account, message_id)
    until(lambda: gateway.http("GET", path).status_code == 200, 20.0, lambda: gateway.http("GET", path).text)
    assert gateway.http("GET", path).content == PICTURE


def test_a_file_that_was_wanted_is_fetched_after_a_kill(new_gateway: Callable[..., Gateway], name: str) -> None:
    # The message and the wish for its file are one commit: it dies right after it, with nothing fetched.
    gateway = new_gateway(MEDIA_DOWNLOAD="eager").start(fault="after_ingest")
    account = gateway.create(name, ["message"]).pair()
    customer = gateway.box.new_phone()
    message_id = send_file(customer, account.phone, PICTURE, kind="image")
    assert gateway.command.wait(40) == -9
    assert not list((gateway.data / "media").rglob("*"))
    gateway.start()
    gateway.wait_restored()
    wait_told(account, message_id)

    def counts() -> dict[str, Any]:
        found = gateway.ok("GET", f"/instances/{account.id}/diagnostics")
        return dict(found.get("diagnostics", found)["media"])

    until(lambda: counts() == {"waiting": 0, "here": 1, "failed": 0}, 20.0, lambda: f"{counts()}\n{gateway.log_tail()}")
    fault = gateway.box.arm({"mediaError": {"status": 404}}, stanza="download")
    assert gateway.http("GET", path_of(account, message_id)).content == PICTURE
    gateway.box.disarm(fault)
