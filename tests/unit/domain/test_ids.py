"""Identifiers, and how they are cleaned, read and masked (contract A.0)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wahub.domain.errors import InvalidChatIdError, InvalidInstanceIdError
from wahub.domain.ids import (
    ChatId,
    ChatKind,
    chat_fingerprint,
    instance_id,
    mask_chat,
    mask_phone,
    message_id,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("WASP-shop.myshopify.com", "WASP-shop_myshopify_com"),
        ("Shop_1-a", "Shop_1-a"),
        (" a b ", "_a_b_"),
        ("café", "caf_"),
        ("متجر", "____"),
        ("a😀b", "a__b"),
        ("a/../b", "a____b"),
        ("a\0\n", "a__"),
        ("İ", "_"),
    ],
)
def test_instance_id(name: str, expected: str) -> None:
    assert instance_id(name) == expected


def test_an_empty_name_has_no_id() -> None:
    with pytest.raises(InvalidInstanceIdError, match="Invalid instance ID"):
        instance_id("")


@given(st.text(min_size=1))
def test_an_instance_id_is_as_long_as_javascript_makes_it_and_stays_as_it_is(name: str) -> None:
    found = instance_id(name)
    assert re.fullmatch("[A-Za-z0-9_-]+", found)
    assert len(found) == len(name.encode("utf-16-le", "surrogatepass")) // 2
    assert instance_id(found) == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+20 122 488-5551", "201224885551@c.us"),
        ("201224885551", "201224885551@c.us"),
        ("201224885551@c.us", "201224885551@c.us"),
        ("201224885551:12@s.whatsapp.net", "201224885551@c.us"),
        (" 120363021234567890@g.us ", "120363021234567890@g.us"),
        ("201224885551-1400000000@g.us", "201224885551-1400000000@g.us"),
        ("123456789012345:7@lid", "123456789012345@lid"),
    ],
)
def test_chat_ids(text: str, expected: str) -> None:
    assert str(ChatId.parse(text)) == expected
    assert ChatId.parse(expected) == ChatId.parse(text)


@pytest.mark.parametrize("text", ["", "@c.us", "nobody", "@g.us", "friends@g.us", "@lid", "x@lid", "٣٤٥", "12-@g.us"])
def test_what_is_no_chat_id(text: str) -> None:
    with pytest.raises(InvalidChatIdError, match="Invalid chatId format"):
        ChatId.parse(text)


@given(st.text())
def test_any_text_is_a_chat_id_or_is_refused(text: str) -> None:
    try:
        found = ChatId.parse(text)
    except InvalidChatIdError:
        return
    assert re.fullmatch("[0-9]+(-[0-9]+)?", found.user)
    assert ChatId.parse(str(found)) == found
    assert ChatId.from_jid(found.jid) == found


def test_addresses_on_the_wire() -> None:
    assert ChatId.parse("20122").jid == "20122@s.whatsapp.net"
    assert ChatId.parse("1@g.us").jid == "1@g.us"
    assert ChatId.parse("1@g.us").is_group and not ChatId.parse("1@lid").is_group
    assert ChatId.from_jid("5@lid").kind is ChatKind.LID


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (None, "unknown"),
        ("", "unknown"),
        ("1234", "****"),
        ("1234@c.us", "****"),
        ("201224884599@c.us", "***4599"),
        ("201224884599:3@s.whatsapp.net", "***4599"),
    ],
)
def test_chats_in_logs(text: str | None, shown: str) -> None:
    assert mask_chat(text) == shown


@pytest.mark.parametrize(
    ("phone", "shown"),
    [("+40712345697", "+407****97"), (None, "[REDACTED]"), ("", "[REDACTED]"), ("12345", "[REDACTED]")],
)
def test_phones_in_dashboards(phone: str | None, shown: str) -> None:
    assert mask_phone(phone) == shown


def test_fingerprint() -> None:
    # The first ten digits of `printf 20122@c.us | sha256sum`.
    assert chat_fingerprint("20122@c.us") == "11a4dbb933"


@given(st.binary(min_size=16, max_size=32), st.binary(min_size=16, max_size=32))
def test_message_ids(one: bytes, other: bytes) -> None:
    made = message_id("20122", one)
    assert re.fullmatch("3EB0[0-9A-F]{18}", made)
    assert message_id("20122", one) == made
    assert (message_id("20122", other) == made) is (one == other)
    assert message_id("20123", one) != made


def test_a_message_id_needs_enough_entropy() -> None:
    with pytest.raises(ValueError, match="16"):
        message_id("20122", b"x" * 15)
