"""What docs/events.md shows is what a caller gets: each type, sent by a real phone, through every part."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.box import Phone
from tests.support.gateway import Account, Gateway
from tests.support.receiver import Received

pytestmark = pytest.mark.acceptance

_PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
EXAMPLES: dict[str, dict[str, Any]] = {
    name.strip() or "text": json.loads(body)
    for name, body in re.findall(r"```json([^\n]*)\n(.*?)```", _PAGE, re.DOTALL)
}
_PICTURE = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(1020)).decode()
_MESSAGES: dict[str, dict[str, Any]] = {
    "text": {"text": "Hello"},
    "image": {"media": {"kind": "image", "base64": _PICTURE, "caption": "Look"}},
    "location": {"location": {"latitude": 52.52, "longitude": 13.405, "name": "Office", "address": "Street 1"}},
    "contact": {"contact": {"name": "Bo", "phone": "12025550177"}},
    "poll": {"poll": {"name": "Lunch?", "options": ["Yes", "No"], "selectable": 1}},
    "button_reply": {"buttonReply": {"id": "confirm", "text": "Confirm"}},
}


def _agree(shown: Any, got: Any, place: str) -> None:
    """The same names in the same order, and values of the same kind; what is null may be of any."""
    if shown is None or got is None:
        return
    if isinstance(shown, dict):
        assert isinstance(got, dict), place
        assert list(got) == list(shown), place
        for name, item in shown.items():
            _agree(item, got[name], f"{place}.{name}")
    elif isinstance(shown, list):
        assert isinstance(got, list), place
        for item in got:
            _agree(shown[0], item, f"{place}[]")
    else:
        assert type(got) is type(shown), place


@pytest.fixture(scope="module")
def account(gateway: Gateway) -> Account:
    """An account whose webhook wants everything."""
    return gateway.create("documented", ["*"]).pair()


@pytest.fixture
def customer(gateway: Gateway) -> Phone:
    return gateway.box.new_phone("Ana")


def _say(customer: Phone, account: Account, body: dict[str, Any]) -> str:
    sent = customer.box.control("POST", f"phones/{customer.number}/send", {"to": account.phone.number, **body})
    return str(sent["messageId"])


def _wait(gateway: Gateway, account: Account, event: str, wanted: Callable[[Received], bool]) -> dict[str, Any]:
    hooks = gateway.hooks.wait_enough(event, account.id, lambda seen: any(map(wanted, seen)))
    (found,) = {hook.body: hook.data for hook in hooks if wanted(hook)}.values()
    return found


@pytest.mark.parametrize("kind", _MESSAGES)
def test_messages(gateway: Gateway, account: Account, customer: Phone, kind: str) -> None:
    message_id = _say(customer, account, _MESSAGES[kind])
    data = _wait(gateway, account, "message", lambda hook: hook.data["message"]["id"] == message_id)
    example = {
        **EXAMPLES["text"]["message"],
        **EXAMPLES[kind if kind != "text" else "text"].get("message", EXAMPLES[kind]),
    }
    _agree(example, data["message"], kind)
    said = data["message"]
    assert (said["type"], said["from"], said["chatId"]) == (kind, customer.number, f"{customer.number}@c.us")
    for field, value in EXAMPLES[kind].items():
        if field in ("text", "location", "poll", "reply"):
            assert said[field] == value


def test_a_quote(gateway: Gateway, account: Account, customer: Phone) -> None:
    first = _say(customer, account, {"text": "Are you open?"})
    answer = _say(customer, account, {"text": "Yes", "quote": first})
    data = _wait(gateway, account, "message", lambda hook: hook.data["message"]["id"] == answer)
    _agree({**EXAMPLES["text"]["message"], **EXAMPLES["quoted"]}, data["message"], "quoted")
    assert data["message"]["quoted"]["messageId"] == first


@pytest.mark.parametrize(
    ("name", "key", "body"),
    [
        ("reaction", "reaction", {"reaction": {"messageId": None, "emoji": "👍"}}),
        ("message_edit", "edit", {"edit": {"messageId": None, "text": "Hello!"}}),
        ("message_revoked", "revoked", {"delete": {"messageId": None}}),
    ],
)
def test_what_is_about_a_message(
    gateway: Gateway, account: Account, customer: Phone, name: str, key: str, body: dict[str, Any]
) -> None:
    first = _say(customer, account, {"text": "Hello"})
    [(what, details)] = body.items()
    _say(customer, account, {what: {**details, "messageId": first}})
    data = _wait(gateway, account, name, lambda hook: hook.data[key]["messageId"] == first)
    _agree(EXAMPLES[name], data, name)
    assert data[key]["from"] == customer.number


def test_votes(gateway: Gateway, account: Account, customer: Phone) -> None:
    question = {"chatId": customer.number, "caption": "Lunch?", "options": ["Yes", "No"], "multipleAnswers": False}
    gateway.secrets |= {"Lunch?"}
    gateway.ok("POST", f"/instances/{account.id}/client/action/create-poll", question)
    (shown,) = customer.wait_shown(lambda seen: len(seen) >= 1)
    customer.box.control("POST", f"phones/{customer.number}/vote", {"pollId": shown["messageId"], "options": ["Yes"]})
    data = _wait(gateway, account, "vote_update", lambda hook: hook.data["vote"]["pollMessageId"] == shown["messageId"])
    _agree(EXAMPLES["vote_update"], data, "vote_update")
    assert data["vote"]["selectedOptions"] == ["Yes"]


def test_two_contacts_that_are_one_person(gateway: Gateway, account: Account) -> None:
    number, own = "201290000001", account.phone.number
    made = gateway.box.control("POST", "phones", {"number": number, "name": "Ana", "lidHidden": True})
    customer, lid = Phone(gateway.box, number), str(made["lid"]).removesuffix("@lid")
    known: dict[str, str] = {}
    for addressing, address in (("pn", number), ("lid", lid)):
        said = _say(customer, account, {"text": f"By {addressing}", "addressing": addressing})
        data = _wait(gateway, account, "message", lambda hook, said=said: hook.data["message"]["id"] == said)  # type: ignore[misc]
        assert data["message"]["from"] == address
        assert data["message"]["fromLid"] == (lid if addressing == "lid" else None)
        known[addressing] = data["message"]["contactId"]
    assert len(set(known.values())) == 2, "two contacts, for nobody told that they are one person"
    gateway.box.control("POST", "faults", {"match": {"number": own}, "do": {"lidMigration": {"number": number}}})
    merged = lambda hook: hook.data["contact"]["mergedContactId"] == known["lid"]  # noqa: E731
    data = _wait(gateway, account, "contact_merged", merged)
    _agree(EXAMPLES["contact_merged"], data, "contact_merged")
    assert data["contact"] == {
        "contactId": known["pn"],
        "mergedContactId": known["lid"],
        "phone": number,
        "lid": lid,
        "name": "Ana",
    }
    said = _say(customer, account, {"text": "Now you know"})
    data = _wait(gateway, account, "message", lambda hook: hook.data["message"]["id"] == said)
    assert (data["message"]["contactId"], data["message"]["from"]) == (known["pn"], number)
    chats = gateway.ok("GET", f"/instances/{account.id}/chats")["chats"]
    assert [chat["contactId"] for chat in chats if chat["contactId"] in known.values()] == [known["pn"]]


def test_every_example_is_looked_at() -> None:
    looked_at = {*_MESSAGES, "quoted", "reaction", "message_edit", "message_revoked", "vote_update", "contact_merged"}
    elsewhere = {"group_update", "call", "presence"}
    assert set(EXAMPLES) - elsewhere == looked_at
