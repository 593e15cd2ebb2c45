"""What callers hear of each type: the shape of contract D.4, and who and where beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from wahub.domain.contact import Contact
from wahub.domain.ids import InstanceId, MessageId
from wahub.domain.inbox import PollKey, Received, Vote, from_engine, poll_key
from wahub.domain.incoming import Place, event_of
from wahub.domain.webhook import body_text

ANA = Contact("c_ana", "12025550101", "900100", "Ana", 1.0)
HIDDEN = Contact("c_hid", None, "900200", None, 1.0)
DIRECT = Place("12025550101@s.whatsapp.net", ANA, ANA)
GROUP = Place("1203630@g.us", HIDDEN, None)
BODY: dict[str, Any] = {
    "message_id": "3A01",
    "chat": "12025550101@s.whatsapp.net",
    "chat_phone": None,
    "chat_lid": "900100",
    "sender": "12025550101@s.whatsapp.net",
    "sender_phone": None,
    "sender_lid": "900100",
    "from_me": False,
    "push_name": "Ana",
    "timestamp": 1_767_225_600,
    "type": "text",
    "text": "hello",
    "target": None,
    "details": {},
    "raw": "{}",
}


def _received(**changes: Any) -> Received:
    return from_engine(InstanceId("shop"), {**BODY, **changes})


def test_a_file_has_the_path_at_which_it_is_asked_for() -> None:
    media = {"kind": "image", "mime": "image/png"}
    _, data = event_of(_received(message_id="3A/1?", type="image", details={"media": media}), DIRECT)
    assert data["message"]["media"] == {**media, "url": "/instances/shop/messages/3A%2F1%3F/media"}
    _, data = event_of(_received(type="edit", target="3A00", details={"media": media}), DIRECT)
    assert "url" not in data["edit"]["media"]


def test_a_direct_message() -> None:
    event, data = event_of(_received(), DIRECT)
    assert event == "message"
    # In this order: the six of contract D.4 come first.
    assert list(data["message"].items()) == [
        ("from", "12025550101"),
        ("body", "hello"),
        ("text", "hello"),
        ("type", "text"),
        ("timestamp", 1_767_225_600),
        ("id", "3A01"),
        ("fromLid", "900100"),
        ("contactId", "c_ana"),
        ("name", "Ana"),
        ("author", None),
        ("authorLid", None),
        ("chat", "12025550101"),
        ("chatLid", "900100"),
        ("chatId", "12025550101@c.us"),
        ("isGroup", False),
    ]


def test_a_group_message_of_somebody_whose_number_is_hidden() -> None:
    event, data = event_of(_received(chat="1203630@g.us", sender="900200@lid", sender_phone=None), GROUP)
    assert event == "message"
    said = data["message"]
    assert (said["from"], said["fromLid"], said["author"], said["authorLid"]) == (
        "900200",
        "900200",
        "900200",
        "900200",
    )
    assert (said["chat"], said["chatLid"], said["chatId"], said["isGroup"]) == (
        "1203630@g.us",
        None,
        "1203630@g.us",
        True,
    )


def test_what_a_type_has_beside_its_text_stands_in_the_message() -> None:
    place = {"latitude": "52.5", "longitude": "13.4", "name": None, "address": None, "live": False}
    _, data = event_of(_received(type="location", text=None, details={"location": place}), DIRECT)
    assert data["message"]["location"] == place
    assert (data["message"]["type"], data["message"]["body"]) == ("location", "")


def test_nothing_that_a_sender_chose_replaces_who_they_are() -> None:
    """Details come from the engine, whose words are fixed: none of them is a name of ours."""
    taken = set(event_of(_received(), DIRECT)[1]["message"])
    words = "media location contacts poll reply event invite quoted mentions forwarded ephemeralSeconds group call"
    assert not taken & set(words.split())


@pytest.mark.parametrize("options", [("Confirm",), (), ("A", "B")])
def test_a_vote(options: tuple[str, ...]) -> None:
    received = replace(_received(type="vote", text=None), vote=Vote(MessageId("3EB0"), options))
    event, data = event_of(received, DIRECT)
    assert event == "vote_update"
    assert list(data["vote"])[:4] == ["voter", "selectedOptions", "timestamp", "pollMessageId"]
    assert data["vote"]["selectedOptions"] == list(options)
    assert data["vote"]["pollMessageId"] == "3EB0"
    assert "unreadable" not in data["vote"]


def test_a_vote_that_cannot_be_read_is_not_taken_for_one_that_was_withdrawn() -> None:
    received = _received(type="vote", text=None, poll_id="3EB0", options=None)
    _, data = event_of(received, DIRECT)
    assert (data["vote"]["pollMessageId"], data["vote"]["unreadable"]) == (None, True)
    assert data["vote"]["unknownPollId"] == "3EB0"


@pytest.mark.parametrize(
    ("kind", "event", "key", "expected"),
    [
        ("reaction", "reaction", "reaction", {"emoji": "hello", "messageId": "3EB0"}),
        ("edit", "message_edit", "edit", {"body": "hello", "text": "hello", "messageId": "3EB0"}),
        ("delete", "message_revoked", "revoked", {"messageId": "3EB0"}),
    ],
)
def test_what_is_about_another_message(kind: str, event: str, key: str, expected: dict[str, str]) -> None:
    found, data = event_of(_received(type=kind, target="3EB0"), DIRECT)
    assert found == event
    assert expected.items() <= data[key].items()
    assert {"from": "12025550101", "contactId": "c_ana", "chatId": "12025550101@c.us"}.items() <= data[key].items()


@pytest.mark.parametrize("kind", ["text", "reaction", "edit", "delete", "vote"])
def test_everything_may_be_posted(kind: str) -> None:
    received = _received(type=kind, target="3EB0", poll_id="3EB0", options=["A"])
    event, data = event_of(received, DIRECT)
    assert body_text(event, "shop", data)


def test_addresses_are_read_from_beside_the_jids_and_out_of_them() -> None:
    received = _received(sender="900100@lid", sender_phone="12025550101", sender_lid=None)
    assert (received.author.phone, received.author.lid) == ("12025550101", "900100")
    assert received.partner == received.author
    assert _received(chat="1203630@g.us").partner is None
    assert _received(chat="status@broadcast").partner is None


def test_the_key_of_a_poll_that_was_received() -> None:
    raw = '{"messageContextInfo":{"messageSecret":"AQI="}}'
    details = {"poll": {"name": "?", "options": ["A", "B"], "selectable": 1}}
    poll = _received(type="poll", details=details, raw=raw)
    jids = ("12025550101@s.whatsapp.net", "900100@lid")
    assert poll_key(poll) == PollKey(("A", "B"), b"\1\2", jids)
    assert poll_key(replace(poll, from_me=True)) == PollKey(("A", "B"), b"\1\2", ())


@pytest.mark.parametrize(
    "raw",
    [
        None,
        "{}",
        '{"messageContextInfo":null}',
        '{"messageContextInfo":{"messageSecret":"?"}}',
        "[" * 2_000 + "]" * 2_000,
    ],
    ids=["none", "empty", "null", "no secret", "nested without end"],
)
def test_a_poll_without_its_secret_has_no_key(raw: str | None) -> None:
    assert poll_key(_received(type="poll", details={"poll": {"options": ["A"]}}, raw=raw)) is None
