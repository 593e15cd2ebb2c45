"""Chats and messages as a caller reads them, with every part real: people write, change their minds, vote, and move.

What is received has whole seconds, so what is sent and received within one may stand in either order: tests look at
which messages there are, and leave the order to those that choose the times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.support.box import Phone
from tests.support.gateway import Account, Gateway
from tests.support.waiting import until

pytestmark = pytest.mark.acceptance

Shown = dict[str, Any]


@dataclass(slots=True)
class Shop:
    """An account and who writes to it."""

    gateway: Gateway
    account: Account
    customer: Phone

    def does(self, phone: Phone, to: str, **body: Any) -> str:
        """Somebody sends something; returns its id."""
        self.gateway.secrets |= {text for text in (body.get("text"), *_texts(body)) if isinstance(text, str)}
        answer = self.gateway.box.control("POST", f"phones/{phone.number}/send", {"to": to, **body})
        return str(answer["messageId"])

    def writes(self, **body: Any) -> str:
        """The customer does, to the account."""
        return self.does(self.customer, self.account.phone.number, **body)

    def chats(self) -> list[Shown]:
        return list(self.gateway.ok("GET", f"/instances/{self.account.id}/chats")["chats"])

    def messages(self, chat: str, query: str = "") -> list[Shown]:
        """Newest first."""
        path = f"/instances/{self.account.id}/chats/{chat}/messages{query}"
        return list(self.gateway.ok("GET", path)["messages"])

    def wait(self, chat: str, enough: Callable[[list[Shown]], bool], what: str) -> list[Shown]:
        """The messages of a chat, as soon as `enough` accepts them."""

        def look() -> list[Shown] | None:
            found = self.messages(chat)
            return found if enough(found) else None

        def say() -> str:
            # Not what was said: that would end in the log of the tests.
            kinds = [(message["type"], len(message["reactions"])) for message in self.messages(chat)]
            return f"{what}: {kinds}\n{self.gateway.log_tail()}"

        return until(look, 30.0, say)

    def wait_ids(self, chat: str, *ids: str) -> list[Shown]:
        """The messages of a chat, as soon as they are these, each once."""
        wanted = sorted(ids)
        return self.wait(chat, lambda found: sorted(message["id"] for message in found) == wanted, f"not {len(ids)}")


def _texts(body: dict[str, Any]) -> Iterator[Any]:
    for part in body.values():
        if isinstance(part, dict):
            yield part.get("text")
            yield part.get("name")


@pytest.fixture
def shop(gateway: Gateway, name: str) -> Shop:
    account = gateway.create(name, ["message"]).pair()
    customer = gateway.box.new_phone("Anna of the test")
    gateway.secrets |= {customer.number, "Anna of the test"}
    return Shop(gateway, account, customer)


def by_id(found: list[Shown]) -> dict[str, Shown]:
    return {message["id"]: message for message in found}


def test_a_chat_is_shown_as_it_stands(shop: Shop) -> None:
    account, customer = shop.account, shop.customer
    chat = customer.number
    first = shop.writes(text="the first text")
    second = shop.writes(text="a text to delete", quote=first)
    shop.wait_ids(chat, second, first)
    reply = account.send(customer, "an answer of the shop")
    answer = account.wait_item(reply["queueId"], "sent")["messageId"]
    customer.wait_texts(["an answer of the shop"])
    own = shop.does(account.phone, customer.number, text="typed on the phone of the shop")
    shop.wait_ids(chat, own, answer, second, first)

    shop.writes(edit={"messageId": first, "text": "the first text, mended"})
    shop.writes(reaction={"messageId": answer, "emoji": "👍"})
    shop.writes(reaction={"messageId": answer, "emoji": "❤"})
    shop.does(account.phone, customer.number, reaction={"messageId": first, "emoji": "🎉"})
    shop.writes(delete={"messageId": second})
    shop.gateway.box.control("POST", f"phones/{customer.number}/read", {"messageId": answer})
    found = by_id(
        shop.wait(
            chat,
            lambda now: (
                by_id(now)[first]["editedAt"] is not None
                and len(by_id(now)[first]["reactions"]) == 1
                and by_id(now)[second]["revokedAt"] is not None
                and [one["emoji"] for one in by_id(now)[answer]["reactions"]] == ["❤"]
                and by_id(now)[answer]["delivery"] == "read"
            ),
            "what was done to them is missing",
        )
    )
    assert set(found) == {own, answer, second, first}
    assert (found[first]["text"], found[first]["fromMe"], found[first]["from"]) == (
        "the first text, mended",
        False,
        customer.number,
    )
    assert (found[first]["name"], found[first]["chatId"]) == ("Anna of the test", f"{customer.number}@c.us")
    assert [(one["from"], one["contactId"]) for one in found[first]["reactions"]] == [(account.phone.number, None)]
    assert (found[second]["text"], found[second]["reactions"]) == (None, [])
    assert "quoted" not in found[second]
    assert (found[answer]["text"], found[answer]["fromMe"]) == ("an answer of the shop", True)
    assert (found[answer]["queueId"], found[answer]["state"]) == (reply["queueId"], "sent")
    assert (found[own]["text"], found[own]["fromMe"], found[own]["queueId"]) == (
        "typed on the phone of the shop",
        True,
        None,
    )
    [shown] = shop.chats()
    assert (shown["contactId"], shown["phone"]) == (found[first]["contactId"], customer.number)
    assert shown["lastMessage"]["id"] in (own, answer) and shown["lastMessage"]["fromMe"]
    page = shop.gateway.ok("GET", f"/instances/{account.id}/chats/{chat}/messages?limit=3")
    rest = shop.messages(chat, f"?limit=3&cursor={page['next']}")
    assert [message["id"] for message in [*page["messages"], *rest]] == list(found)
    inbound = shop.gateway.ok("GET", f"/instances/{account.id}/diagnostics")["inbound"]
    assert (inbound["caughtUp"], inbound["unreadable"]["count"]) == (True, 0)


def test_votes_are_in_the_poll_also_after_both_processes_died(new_gateway: Callable[..., Gateway], name: str) -> None:
    gateway = new_gateway().start()
    account = gateway.create(name, ["message"]).pair()
    shop = Shop(gateway, account, gateway.box.new_phone())
    chat = shop.customer.number
    gateway.secrets |= {"Order 7 of the test?", chat}
    question = {"chatId": chat, "caption": "Order 7 of the test?", "options": ["Confirm", "Cancel", "Later"]}
    path = f"/instances/{account.id}/client/action/create-poll"
    reply = gateway.ok("POST", path, {**question, "multipleAnswers": True})
    poll = account.wait_item(reply["queueId"], "sent")["messageId"]
    shop.customer.wait_shown(lambda seen: len(seen) == 1)
    gateway.kill()
    gateway.start()
    gateway.wait_restored()

    def votes(options: list[str], expected: list[list[str]]) -> Shown:
        body = {"pollId": poll, "options": options}
        gateway.box.control("POST", f"phones/{chat}/vote", body)
        [found] = shop.wait(
            chat,
            lambda now: [vote["selectedOptions"] for vote in now[0]["votes"]] == expected,
            "the vote is missing",
        )
        return found

    shown = votes(["Later", "Confirm"], [["Confirm", "Later"]])
    assert shown["poll"] == {"name": "Order 7 of the test?", "options": question["options"], "selectable": 0}
    assert (shown["id"], shown["type"], shown["votes"][0]["voter"]) == (poll, "poll", chat)
    votes(["Cancel"], [["Cancel"]])
    votes([], [])


def test_a_group(shop: Shop) -> None:
    owner, box = shop.customer, shop.gateway.box
    guest = box.new_phone()
    shop.gateway.secrets |= {guest.number, "The group of the test"}
    members = [shop.account.phone.number, guest.number]
    made = {"subject": "The group of the test", "owner": owner.number, "members": members}
    group = str(box.control("POST", "groups", made)["id"])
    first = shop.does(owner, group, text="a first text in the group")
    shop.wait_ids(group, first)
    second = shop.does(guest, group, text="a second text in the group")
    shop.wait_ids(group, second, first)
    shop.does(owner, group, reaction={"messageId": second, "emoji": "👍"})
    shop.does(guest, group, edit={"messageId": second, "text": "a better text in the group"})
    found = shop.wait(group, lambda now: bool(now[0]["reactions"]) and bool(now[0]["editedAt"]), "nothing was done")
    assert [(one["author"], one["chatId"], one["text"]) for one in found] == [
        (guest.number, group, "a better text in the group"),
        (owner.number, group, "a first text in the group"),
    ]
    [reaction] = found[0]["reactions"]
    assert (reaction["from"], reaction["contactId"]) == (owner.number, found[1]["contactId"])

    def titled() -> list[Shown] | None:
        found = [chat for chat in shop.chats() if chat["isGroup"]]
        return found if found and found[0]["name"] else None

    [shown] = until(titled, 20.0, "the group has no name")
    assert (shown["chatId"], shown["name"], shown["contactId"]) == (group, "The group of the test", None)
    assert shown["lastMessage"]["text"] == "a better text in the group"


def test_who_moves_to_a_lid_stays_one_chat(shop: Shop) -> None:
    account, customer, box = shop.account, shop.customer, shop.gateway.box
    lid = str(box.control("GET", f"phones/{customer.number}")["lid"]).removesuffix("@lid")
    first = shop.writes(text="a text from the number")
    shop.wait_ids(customer.number, first)
    before = shop.chats()[0]["contactId"]
    reply = account.send(customer, "an answer to the number")
    answer = account.wait_item(reply["queueId"], "sent")["messageId"]
    customer.wait_texts(["an answer to the number"])
    box.control(
        "POST",
        "faults",
        {"match": {"number": account.phone.number}, "do": {"lidMigration": {"number": customer.number}}},
    )
    moved = shop.writes(text="a text from the LID")
    shop.writes(reaction={"messageId": first, "emoji": "👍"})
    expected = [moved, answer, first]
    shop.wait_ids(customer.number, *expected)
    later = account.send(customer, "an answer after the move")
    last = account.wait_item(later["queueId"], "sent")["messageId"]
    for chat in (customer.number, f"{lid}@lid", before):
        found = shop.wait_ids(chat, last, *expected)
        assert {message["contactId"] for message in found if not message["fromMe"]} == {before}
        assert {message["chatId"] for message in found} == {f"{customer.number}@c.us"}
    shop.wait(customer.number, lambda now: bool(by_id(now)[first]["reactions"]), "the reaction is missing")
    [shown] = shop.chats()
    assert (shown["contactId"], shown["phone"], shown["lid"]) == (before, customer.number, lid)


def test_what_cannot_be_read_at_first_is_a_gap_that_closes(shop: Shop) -> None:
    box, number = shop.gateway.box, shop.account.phone.number
    shop.wait_ids(shop.customer.number, shop.writes(text="a text that can be read"))
    box.arm({"corrupt": {}}, 1, number=number, stanza="message")
    damaged = shop.writes(text="a text that is damaged on its way")
    found = shop.wait(shop.customer.number, lambda now: damaged in by_id(now), "the second copy is missing")
    assert len(found) == 2

    def told() -> Shown | None:
        seen = shop.gateway.ok("GET", f"/instances/{shop.account.id}/diagnostics")
        return seen if seen["inbound"]["lastGapAt"] else None

    seen = until(told, 20.0, "no gap is told")
    assert seen["inbound"]["unreadable"] == {"count": 0, "latestAt": None, "ids": []}
    assert [incident["kind"] for incident in seen["incidents"]] == ["messages_missed"]
