"""The parts of a phone: QR reading, message reading, padding, the log one can wait for, storage."""

from __future__ import annotations

import asyncio
import io
import secrets
from base64 import b64encode

import pytest
import segno
from PIL import Image
from tests.unit.sandbox.phone_fakes import FakeNetwork

from wahub.sandbox.phone.content import Text
from wahub.sandbox.phone.directory import lid_for
from wahub.sandbox.phone.inbox import SeenLog
from wahub.sandbox.phone.padding import pad, unpad
from wahub.sandbox.phone.qr import LINK_PREFIX, UnreadableQrError, read_text, text_from_picture
from wahub.sandbox.phone.reading import read
from wahub.sandbox.proto import e2e_pb2
from wahub.sandbox.world import World

KEYS = [bytes((n,)) * 32 for n in (1, 2, 3)]
PLAIN = ",".join(["2@ref/+==", *(b64encode(key).decode() for key in KEYS)])


@pytest.mark.parametrize("text", [PLAIN, f"{PLAIN},chrome", LINK_PREFIX + PLAIN, f" {LINK_PREFIX}{PLAIN},1\n"])
def test_qr_text_in_all_forms(text: str) -> None:
    request = read_text(text)
    assert (request.ref, request.noise_key, request.identity_key, request.adv_secret) == ("2@ref/+==", *KEYS)


@pytest.mark.parametrize(
    "text",
    ["", "hello", "https://example.com", PLAIN.replace("AQEB", "A"), f"{PLAIN},a,b", "," + PLAIN.partition(",")[2]],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UnreadableQrError):
        read_text(text)


def picture(text: str, **options: object) -> bytes:
    out = io.BytesIO()
    segno.make(text, error="m").save(out, kind="png", **{"scale": 4, "border": 4, **options})
    return out.getvalue()


@pytest.mark.parametrize(
    "options",
    [{}, {"scale": 1}, {"light": None}, {"scale": 8, "dark": "darkblue"}, {"border": 1}],
    ids=["plain", "one pixel per module", "transparent", "coloured", "thin border"],
)
def test_qr_from_picture(options: dict[str, object]) -> None:
    assert text_from_picture(picture(LINK_PREFIX + PLAIN, **options)) == LINK_PREFIX + PLAIN


def test_pictures_without_one_code() -> None:
    blank = io.BytesIO()
    Image.new("L", (50, 50), 255).save(blank, "PNG")
    for rubbish in (b"", b"not a picture", blank.getvalue(), picture(PLAIN)[:200]):
        with pytest.raises(UnreadableQrError):
            text_from_picture(rubbish)


def test_padding() -> None:
    for length in range(40):
        plain = secrets.token_bytes(length)
        assert 1 <= len(pad(plain)) - length <= 16
        assert unpad(pad(plain)) == plain
    for wrong in (b"", b"\x00", b"a\x05"):
        with pytest.raises(ValueError, match="padding"):
            unpad(wrong)


def test_lids_are_stable_and_do_not_show_the_number() -> None:
    assert lid_for("201000000001") == lid_for("201000000001") != lid_for("201000000002")
    assert len(lid_for("4912345678")) == 15
    assert "4912345678" not in lid_for("4912345678")


def test_reading_a_poll() -> None:
    options = [e2e_pb2.PollCreationMessage.Option(option_name=name) for name in ("yes", "no")]
    poll = e2e_pb2.PollCreationMessage(name="Come?", options=options, selectable_options_count=1)
    for message in (
        e2e_pb2.Message(poll_creation_message=poll),
        e2e_pb2.Message(poll_creation_message_v2=poll),
        e2e_pb2.Message(poll_creation_message_v3=poll, message_context_info=e2e_pb2.MessageContextInfo()),
    ):
        said = read(message)
        assert said is not None
        assert (said.type, said.poll) == ("poll", {"name": "Come?", "options": ["yes", "no"], "selectable": 1})


@pytest.mark.parametrize("kind", ["image", "video", "audio", "document", "sticker"])
def test_reading_media(kind: str) -> None:
    message = e2e_pb2.Message()
    part = getattr(message, f"{kind}_message")
    part.mimetype, part.file_length = "a/b", 12345
    if kind in ("image", "video", "document"):
        part.caption = "look"
    said = read(message)
    assert said is not None
    assert said.media is not None
    assert (said.type, said.media["mime"], said.media["size"]) == (kind, "a/b", 12345)
    assert said.text == ("look" if kind in ("image", "video", "document") else None)


def test_reading_through_wrappers() -> None:
    document = e2e_pb2.DocumentMessage(file_name="a.pdf", mimetype="application/pdf", caption="the file")
    inner = e2e_pb2.WrappedMessage(message=e2e_pb2.Message(document_message=document))
    wrapped = e2e_pb2.WrappedMessage(message=e2e_pb2.Message(document_with_caption_message=inner))
    said = read(e2e_pb2.Message(ephemeral_message=wrapped))
    assert said is not None
    assert said.media is not None
    assert (said.type, said.text, said.media["fileName"]) == ("document", "the file", "a.pdf")


def test_what_is_not_for_a_person_says_nothing() -> None:
    keys = e2e_pb2.SenderKeyDistributionMessage(group_id="1@g.us")
    request = e2e_pb2.ProtocolMessage(type=e2e_pb2.ProtocolMessage.APP_STATE_SYNC_KEY_REQUEST)
    assert read(e2e_pb2.Message(sender_key_distribution_message=keys)) is None
    assert read(e2e_pb2.Message(protocol_message=request)) is None
    unknown = read(e2e_pb2.Message.FromString(b"\xfa\x07\x02hi"))
    assert unknown is not None
    assert unknown.type == "unknown"


async def test_waiting_for_the_next_entry() -> None:
    log: SeenLog[str] = SeenLog(["one"])
    assert await log.wait_after(0, 5) == ["one"]
    assert await log.wait_after(1, 0.01) == []
    waiting = [asyncio.create_task(log.wait_after(1, 5)) for _ in range(3)]
    late = asyncio.create_task(log.wait_after(2, 5))
    await asyncio.sleep(0)
    log.append("two")
    assert await asyncio.gather(*waiting) == [["two"]] * 3
    assert not late.done()
    log.append("three")
    assert await late == ["three"]


class MemoryJournal:
    """Keeps what was committed, and forgets the rest as a crash would."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self._pending: dict[str, bytes | None] = {}

    def put(self, key: str, value: bytes) -> None:
        self._pending[key] = value

    def delete(self, key: str) -> None:
        self._pending[key] = None

    def commit(self) -> None:
        for key, value in self._pending.items():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value
        self._pending.clear()


class WatchedNetwork(FakeNetwork):
    """Takes a copy of what is durable each time something leaves a phone."""

    def __init__(self, journal: MemoryJournal) -> None:
        super().__init__()
        self.journal = journal
        self.durable_at: list[tuple[str, dict[str, bytes]]] = []

    def submit(self, sender, stanza) -> None:  # type: ignore[no-untyped-def]
        self.durable_at.append((stanza.tag, dict(self.journal.rows)))
        super().submit(sender, stanza)


ANNA, BEN = "201000000001", "201000000002"


def test_a_conversation_goes_on_after_every_restart() -> None:
    journal = MemoryJournal()
    network = FakeNetwork()
    world = World(network, journal=journal)
    companion = None
    for number in (ANNA, BEN):
        world.create_phone(number)
    for turn in range(5):
        companion = companion or network.add_companion(BEN)
        world.phones[ANNA].send(BEN, Text(f"a{turn}"))
        world.phones[BEN].send(ANNA, Text(f"b{turn}"))
        companion.write(world.phones[ANNA].jid, e2e_pb2.Message(conversation=f"c{turn}"), f"C{turn}")
        world = World(network, journal=journal)
        world.restore(journal.rows)
    anna = world.phones[ANNA]
    assert [e["text"] for e in anna.state.inbox.after(0)] == [f"{who}{turn}" for turn in range(5) for who in "bc"]
    assert anna.undecryptable == 0
    assert anna.dump() == {key: value for key, value in journal.rows.items() if key.startswith(f"phone/{ANNA}/")}
    companion.write(anna.jid, e2e_pb2.Message(conversation="again"), "C0")
    assert anna.state.inbox.after(10)[0]["duplicate"] is True


def test_nothing_leaves_a_phone_before_it_is_stored() -> None:
    journal = MemoryJournal()
    network = WatchedNetwork(journal)
    world = World(network, journal=journal)
    anna, ben = world.create_phone(ANNA)[0], world.create_phone(BEN)[0]
    message_id = anna.send(BEN, Text("hello"))
    (first, sent), (second, read_back) = network.durable_at[:2]
    assert (first, second) == ("message", "receipt")
    assert f"phone/{ANNA}/kept/{message_id}" in sent
    assert f"phone/{ANNA}/session/{BEN}:0" in sent
    assert f"phone/{BEN}/inbox/1" in read_back
    assert f"phone/{BEN}/session/{ANNA}:0" in read_back
    # A crash between storing and the receipt: the message comes again, and is told from a new one.
    crashed = World(FakeNetwork())
    crashed.restore(read_back)
    assert [e["messageId"] for e in crashed.phones[BEN].state.inbox.after(0)] == [message_id]
    assert len(ben.state.inbox) == 1


def test_a_used_prekey_stays_used_after_a_restart() -> None:
    journal = MemoryJournal()
    network = FakeNetwork()
    world = World(network, journal=journal)
    anna = world.create_phone(ANNA)[0]
    world.create_phone(BEN)
    bundle = anna.key_bundle()
    network.take_bundle = lambda device: bundle  # type: ignore[method-assign]
    network.add_companion(BEN).write(anna.jid, e2e_pb2.Message(conversation="first"), "M1")
    again = World(network, journal=journal)
    again.restore(journal.rows)
    network.add_companion(BEN).write(anna.jid, e2e_pb2.Message(conversation="reused"), "M2")
    assert [e["text"] for e in again.phones[ANNA].state.inbox.after(0)] == ["first"]
    assert again.phones[ANNA].undecryptable == 1


def test_a_phone_that_was_off_stays_off_after_a_restart() -> None:
    journal = MemoryJournal()
    world = World(FakeNetwork(), journal=journal)
    for number in (ANNA, BEN):
        world.create_phone(number)
    world.set_online(world.phones[BEN], False)
    network = FakeNetwork()
    again = World(network, journal=journal)
    again.restore(journal.rows)
    assert [again.phones[number].online for number in (ANNA, BEN)] == [True, False]
    again.phones[ANNA].send(BEN, Text("later"))
    assert len(again.phones[BEN].state.inbox) == 0
    again.set_online(again.phones[BEN], True)
    assert len(again.phones[BEN].state.inbox) == 1


def test_reset_leaves_nothing_stored() -> None:
    journal = MemoryJournal()
    world = World(FakeNetwork(), journal=journal)
    world.create_phone(ANNA)
    world.reset()
    assert journal.rows == {}
    assert world.phones == {}
