"""What was done to a message, folded into it: the rules one by one. What always holds is in tests/property."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from tests.contract.makers import make_entry

from wahub.domain.ids import MessageId
from wahub.domain.message import Poll
from wahub.domain.outbox import DeliveryMark, ItemState
from wahub.domain.thread import END, Ballot, Kept, Message, Reaction, Spot, fold, received, sent

ANNA, BEN = "c_anna", "c_ben"
WANTED = MessageId("3A01")
_POSITIONS = itertools.count(10)


def row(kind: str = "text", author: str | None = ANNA, text: str = "", at: int = 100, **more: Any) -> Kept:
    """A row; one that changes another is about the message."""
    target = WANTED if kind in ("edit", "delete", "reaction", "vote") else None
    position = next(_POSITIONS)
    made = Kept(position, MessageId(f"row-{position}"), author, kind, text, at, target)
    return replace(made, **more)


def said(author: str | None = ANNA, kind: str = "text") -> Message:
    """The message that the rows are about."""
    return received(Kept(1, WANTED, author, kind, "before", 50, details={"forwarded": True}))


def test_a_message_that_nothing_was_done_to_is_as_it_came() -> None:
    message = fold(said(), [], group=False)
    assert message == said()
    assert (message.id, message.author, message.text, message.details) == (WANTED, ANNA, "before", {"forwarded": True})
    assert message.spot == Spot(50.0, False, 1)


def test_the_last_edit_of_its_author_stands() -> None:
    edits = [row("edit", text="second", at=102), row("edit", text="first", at=101)]
    message = fold(said(), edits, group=False)
    assert (message.text, message.edited_at, message.type) == ("second", 102, "text")
    assert message.details == {"forwarded": True}


def test_of_two_edits_of_one_second_the_later_arrival_stands() -> None:
    first, second = row("edit", text="first"), row("edit", text="second")
    assert fold(said(), [second, first], group=False).text == "second"


@pytest.mark.parametrize("group", [False, True])
def test_nobody_else_edits(group: bool) -> None:
    assert fold(said(), [row("edit", BEN, "forged"), row("edit", None, "ours")], group=group) == said()
    assert fold(said(None), [row("edit", BEN, "forged")], group=group) == said(None)


def test_what_we_wrote_is_edited_by_our_phone() -> None:
    assert fold(said(None), [row("edit", None, "better")], group=False).text == "better"


def test_its_author_deletes_and_nothing_of_it_is_left() -> None:
    done = [row("edit", text="edited"), row("reaction", BEN, "👍"), row("delete", at=103)]
    message = fold(said(), done, group=False)
    assert message == replace(said(), text=None, details={}, revoked_at=103)


@pytest.mark.parametrize("by", [BEN, None])
def test_in_a_group_an_admin_may_delete_and_nobody_elsewhere(by: str | None) -> None:
    admins = row("delete", by, details={"byAdmin": True})
    assert fold(said(), [admins], group=True).text is None
    assert fold(said(), [admins], group=False) == said()
    assert fold(said(), [row("delete", by)], group=True) == said()


def test_reactions_are_replaced_and_taken_back() -> None:
    done = [
        row("reaction", ANNA, "👍", at=101),
        row("reaction", BEN, "🎉", at=102),
        row("reaction", None, "👀", at=103),
        row("reaction", ANNA, "❤", at=104),
        row("reaction", BEN, "", at=105),
    ]
    assert fold(said(), done, group=True).reactions == (Reaction(None, "👀", 103), Reaction(ANNA, "❤", 104))


def test_votes_are_replaced_and_withdrawn_and_may_be_unreadable() -> None:
    done = [
        row("vote", ANNA, at=101, options=("Confirm",)),
        row("vote", BEN, at=101, options=("Cancel",)),
        row("vote", BEN, at=102, options=()),
        row("vote", None, at=103, options=None),
        row("vote", ANNA, at=104, options=("Cancel", "Later")),
    ]
    votes = fold(said(None, "poll"), done, group=True).votes
    assert votes == (Ballot(None, None, 103), Ballot(ANNA, ("Cancel", "Later"), 104))


def test_what_is_about_another_message_does_nothing() -> None:
    assert fold(said(), [row("delete", target=MessageId("3A02")), row("text", text="hi")], group=True) == said()


def test_ours_from_the_outbox() -> None:
    text = replace(make_entry(7), state=ItemState.SENT, settled_at=200.5, delivery=DeliveryMark.READ, position=7)
    message = sent(text)
    assert (message.spot, message.author, message.type, message.text) == (Spot(200.5, True, 7), None, "text", "text 7")
    assert message.fate is not None
    assert (message.fate.queue_id, message.fate.state, message.fate.delivery) == (text.id, "sent", "read")
    poll = sent(replace(text, content=Poll("Order?", ("Yes", "No"), False, b"secret" * 6)))
    assert (poll.type, poll.text) == ("poll", "Order?")
    assert poll.details == {"poll": {"name": "Order?", "options": ["Yes", "No"], "selectable": 1}}
    assert "secret" not in repr(poll)


def test_what_was_said_is_in_no_repr() -> None:
    done = [row("edit", text="better"), row("reaction", BEN, "👍"), row("vote", BEN, options=("Confirm",))]
    shown = repr(fold(said(), done, group=False)) + repr(done)
    assert not {"before", "better", "👍", "Confirm"} & set(shown.split("'"))


def test_the_end_is_beyond_everything() -> None:
    assert Spot(253_402_300_799.0, False, 2**53) < END
    assert Spot(100.0, False, 9) < Spot(100.0, True, 1) < Spot(100.5, False, 1)
