"""Who people are: the table of what may be learned, and what holds whatever is learned."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wahub.domain.contact import Contact, Learned, learn

BARE = Contact("c_bare", "111", None, None, 1.0)
HIDDEN = Contact("c_hidden", None, "900", None, 2.0)
WHOLE = Contact("c_whole", "111", "900", "Ana", 1.0)


def _learn(
    by_phone: Contact | None, by_lid: Contact | None, phone: str | None, lid: str | None, name: str | None = None
) -> Learned:
    return learn(by_phone, by_lid, phone=phone, lid=lid, name=name, new_id="c_new", now=5.0)


@pytest.mark.parametrize(("phone", "lid"), [("111", None), (None, "900"), ("111", "900")])
def test_nobody_known_makes_a_contact(phone: str | None, lid: str | None) -> None:
    learned = _learn(None, None, phone, lid, "Ana")
    assert learned.contact == Contact("c_new", phone, lid, "Ana", 5.0)
    assert learned.changed == (learned.contact,)
    assert learned.merged is None


@pytest.mark.parametrize(
    ("by_phone", "by_lid", "phone", "lid"),
    [(BARE, BARE, "111", None), (None, HIDDEN, None, "900"), (WHOLE, WHOLE, "111", "900")],
)
def test_nothing_new_changes_nothing(by_phone: Contact, by_lid: Contact, phone: str, lid: str) -> None:
    assert _learn(by_phone, by_lid, phone, lid).changed == ()


def test_a_name_is_taken_over_and_none_takes_none_away() -> None:
    assert _learn(WHOLE, WHOLE, "111", "900", "Ana B").contact.name == "Ana B"
    assert _learn(WHOLE, WHOLE, "111", "900", None).contact.name == "Ana"


def test_the_other_address_is_added_and_the_id_stays() -> None:
    assert _learn(BARE, None, "111", "900").contact == Contact("c_bare", "111", "900", None, 1.0)
    assert _learn(None, HIDDEN, "111", "900").contact == Contact("c_hidden", "111", "900", None, 2.0)


def test_two_that_are_one_become_the_older() -> None:
    learned = _learn(BARE, HIDDEN, "111", "900")
    assert learned.contact == Contact("c_bare", "111", "900", None, 1.0)
    assert learned.merged == Contact("c_hidden", None, None, None, 2.0, merged_into="c_bare")
    assert learned.changed == (learned.merged, learned.contact)


def test_the_older_stays_also_when_it_is_the_lid() -> None:
    late = Contact("c_late", "111", None, "A", 9.0)
    learned = _learn(late, HIDDEN, "111", "900")
    assert (learned.contact.id, learned.contact.name) == ("c_hidden", "A")
    assert learned.merged is not None
    assert learned.merged.merged_into == "c_hidden"


def test_a_changed_number_stays_with_the_person() -> None:
    assert _learn(None, WHOLE, "222", "900").contact == Contact("c_whole", "222", "900", "Ana", 1.0)


def test_a_number_given_to_somebody_else_leaves_its_owner() -> None:
    learned = _learn(WHOLE, None, "111", "901")
    assert learned.contact == Contact("c_new", "111", "901", None, 5.0)
    assert learned.changed == (Contact("c_whole", None, "900", "Ana", 1.0), learned.contact)
    assert learned.merged is None


def test_a_number_moves_to_a_person_who_is_known() -> None:
    other = Contact("c_other", "222", "901", None, 3.0)
    learned = _learn(WHOLE, other, "111", "901")
    assert learned.contact == Contact("c_other", "111", "901", None, 3.0)
    assert learned.changed[0] == Contact("c_whole", None, "900", "Ana", 1.0)


def test_where_to_write() -> None:
    assert WHOLE.address == "111@c.us"
    assert HIDDEN.address == "900@lid"


@dataclass
class _Book:
    """Contacts as the store keeps them."""

    rows: dict[str, Contact] = field(default_factory=dict)

    def find(self, **wanted: str | None) -> Contact | None:
        [(name, value)] = wanted.items()
        found = [row for row in self.rows.values() if value is not None and getattr(row, name) == value]
        assert len(found) <= 1, "two contacts with one address"
        return found[0] if found else None

    def meet(self, phone: str | None, lid: str | None, turn: int) -> Contact:
        learned = learn(
            self.find(phone=phone), self.find(lid=lid), phone=phone, lid=lid, name=None, new_id=f"c_{turn}", now=turn
        )
        for row in learned.changed:
            self.rows[row.id] = row
            # The store refuses a second owner of an address at any moment, not only at the end.
            for name in ("phone", "lid"):
                self.find(**{name: getattr(row, name)})
        return learned.contact


_DIGITS = st.one_of(st.none(), st.sampled_from("1234"))


@given(st.lists(st.tuples(_DIGITS, _DIGITS).filter(any), max_size=30))
def test_whatever_is_learned_the_last_word_holds(facts: list[tuple[str | None, str | None]]) -> None:
    book = _Book()
    for turn, (phone, lid) in enumerate(facts):
        book.meet(phone, lid, turn)
        for known in (book.find(phone=phone), book.find(lid=lid)):
            assert known is None or known.merged_into is None
        if phone and lid:
            assert book.find(phone=phone) == book.find(lid=lid)
    for row in book.rows.values():
        assert (row.merged_into is None) == bool(row.phone or row.lid)
