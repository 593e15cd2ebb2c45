"""Changes of groups, calls and presence, as a webhook tells them with every part real and docs/events.md shows them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.box import Phone
from tests.support.gateway import Account, Gateway

pytestmark = pytest.mark.acceptance

_PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text()


def _example(event: str) -> dict[str, Any]:
    """The one that the docs show."""
    (body,) = re.findall(rf"```json {event}\n(.*?)```", _PAGE, re.DOTALL)
    found = json.loads(body)
    assert isinstance(found, dict)
    return found


def _told(gateway: Gateway, account: Account, event: str, count: int) -> list[dict[str, Any]]:
    """The data of so many events, each once, in the order in which they were posted first."""
    hooks = gateway.hooks.wait_enough(event, account.id, lambda seen: len({hook.event_id for hook in seen}) >= count)
    return list({hook.event_id: hook.data for hook in hooks}.values())


def _group(gateway: Gateway, owner: Phone, *members: Phone) -> str:
    body = {"subject": "Our group", "owner": owner.number, "members": [member.number for member in members]}
    gateway.secrets |= {"Our group"}
    return str(gateway.box.control("POST", "groups", body)["id"])


def test_a_group_is_followed_also_through_the_death_of_everything(
    new_gateway: Callable[..., Gateway], name: str
) -> None:
    gateway = new_gateway().start()
    account = gateway.create(name, ["group_update", "message"]).pair()
    owner, guest = gateway.box.new_phone(), gateway.box.new_phone()
    group = _group(gateway, owner, account.phone)
    box = gateway.box
    box.control("POST", f"groups/{group}/members", {"add": [guest.number]})
    _told(gateway, account, "group_update", 2)
    gateway.kill()  # the engine process ends with it
    box.control("POST", f"groups/{group}/members", {"promote": [guest.number]})
    box.control("POST", f"groups/{group}", {"subject": "Renamed"})
    gateway.secrets |= {"Renamed"}
    gateway.start()
    gateway.wait_restored()
    box.control("POST", f"groups/{group}/members", {"remove": [guest.number]})
    told = _told(gateway, account, "group_update", 5)
    changes = [data["group"] for data in told]
    assert [change["action"] for change in changes] == ["create", "add", "promote", "subject", "remove"]
    assert [change["subject"] for change in changes] == ["Our group", None, None, "Renamed", None]
    lid = str(box.control("GET", f"phones/{guest.number}")["lid"]).removesuffix("@lid")
    for change in changes:
        assert (change["from"], change["chatId"], change["fromMe"]) == (owner.number, group, False)
        if change["action"] in ("add", "promote", "remove"):
            assert change["participants"] == [{"phone": guest.number, "lid": lid}]
    assert len({change["contactId"] for change in changes}) == 1
    shown = _example("group_update")
    assert list(changes[1]) == list(shown["group"])
    log = gateway.ok("GET", f"/instances/{account.id}/events?after=0&limit=1000")["events"]
    assert [event["data"] for event in log if event["event"] == "group_update"] == told


def test_a_call_rings_and_is_missed(gateway: Gateway, name: str) -> None:
    account = gateway.create(name, ["call"]).pair()
    caller = gateway.box.new_phone()
    call_id = gateway.box.control("POST", f"phones/{caller.number}/call", {"to": account.phone.number, "video": True})[
        "callId"
    ]
    _told(gateway, account, "call", 1)
    gateway.box.control("POST", f"phones/{caller.number}/hangup", {"callId": call_id, "as": "timeout"})
    rings, missed = [data["call"] for data in _told(gateway, account, "call", 2)]
    assert [(one["callId"], one["status"], one["video"]) for one in (rings, missed)] == [
        (call_id, "offer", True),
        (call_id, "timeout", True),
    ]
    assert (rings["from"], rings["chatId"], rings["contactId"]) == (
        caller.number,
        f"{caller.number}@c.us",
        missed["contactId"],
    )
    assert list(rings) == list(_example("call")["call"])


def test_who_asks_for_presence_sees_who_types(gateway: Gateway, name: str) -> None:
    account = gateway.create(name, ["message", "presence"])
    gateway.ok("PUT", f"/instances/{account.id}", {"engine": {"markOnline": True}})
    account.pair()
    customer = gateway.box.new_phone()
    customer.send(account.phone, "hello")
    gateway.secrets |= {customer.number}
    _told(gateway, account, "message", 1)
    _told(gateway, account, "presence", 1)
    for state in ("composing", "paused"):
        body = {"state": state, "to": account.phone.number}
        gateway.box.control("POST", f"phones/{customer.number}/presence", body)
    seen = [data["presence"] for data in _told(gateway, account, "presence", 3)]
    assert [one["state"] for one in seen] == ["unavailable", "composing", "paused"]
    assert {(one["from"], one["chatId"]) for one in seen} == {(customer.number, f"{customer.number}@c.us")}
    assert all(one["contactId"] for one in seen)
    assert list(seen[1]) == list(_example("presence")["presence"])
    log = gateway.ok("GET", f"/instances/{account.id}/events?after=0&limit=1000")["events"]
    assert "presence" not in {event["event"] for event in log}
    hooks = gateway.hooks.wait_enough("presence", account.id, lambda found: len(found) >= 3)
    assert all("x-wa-hub-sequence" not in hook.headers for hook in hooks)


def test_who_does_not_ask_has_nobody_watched(gateway: Gateway, name: str) -> None:
    account = gateway.create(name, ["message"]).pair()
    customer = gateway.box.new_phone()
    customer.send(account.phone, "hello")
    _told(gateway, account, "message", 1)
    trace = gateway.box.control("GET", f"trace?number={account.phone.number}&after=0")["stanzas"]
    asked = [entry["stanza"]["attrs"].get("type") for entry in trace if entry["stanza"]["tag"] == "presence"]
    assert "subscribe" not in asked
