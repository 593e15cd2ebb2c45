"""Whatever was done to a message, in whatever order it came: what people see of it."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from wahub.domain.ids import MessageId
from wahub.domain.thread import Kept, Message, fold, received

ANNA, BEN = "c_anna", "c_ben"
WANTED = MessageId("3A01")
_POSITIONS = itertools.count(10)


def row(kind: str, author: str | None, text: str, at: int, options: tuple[str, ...] | None) -> Kept:
    """Something that somebody did to the message."""
    position = next(_POSITIONS)
    details = {"byAdmin": True} if kind == "delete" else {}
    return Kept(position, MessageId(f"row-{position}"), author, kind, text, at, WANTED, details, options)


def said(author: str | None) -> Message:
    """The message."""
    return received(Kept(1, WANTED, author, "text", "before", 50))


AUTHORS = st.sampled_from([ANNA, BEN, None])
ROWS = st.lists(
    st.builds(
        row,
        st.sampled_from(["edit", "delete", "reaction", "vote"]),
        AUTHORS,
        st.sampled_from(["", "a", "b"]),
        st.integers(100, 103),
        st.sampled_from([None, (), ("Yes",), ("Yes", "No")]),
    ),
    max_size=12,
)


@given(author=AUTHORS, done=ROWS, group=st.booleans(), data=st.data())
def test_the_order_of_arrival_at_the_reader_changes_nothing(
    author: str | None, done: list[Kept], group: bool, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(done))
    assert fold(said(author), shuffled, group=group) == fold(said(author), done, group=group)


@given(author=AUTHORS, done=ROWS, group=st.booleans())
def test_only_the_latest_of_each_kind_and_person_counts(author: str | None, done: list[Kept], group: bool) -> None:
    """The store gives no others."""
    latest = {
        (found.type, found.author): found for found in sorted(done, key=lambda one: (one.timestamp, one.position))
    }
    assert fold(said(author), latest.values(), group=group) == fold(said(author), done, group=group)


@given(author=AUTHORS, done=ROWS, group=st.booleans())
def test_each_person_has_one_reaction_and_one_vote_and_no_say_over_texts_of_others(
    author: str | None, done: list[Kept], group: bool
) -> None:
    message = fold(said(author), done, group=group)
    for given_by in (message.reactions, message.votes):
        authors = [one.author for one in given_by]
        assert len(authors) == len(set(authors))
    own = [found for found in done if found.author == author]
    if message.text not in (None, "before"):
        assert message.text in {found.text for found in own if found.type == "edit"}
    deletes = [found for found in (done if group else own) if found.type == "delete"]
    assert (message.text is None) == (message.revoked_at is not None) == bool(deletes)
