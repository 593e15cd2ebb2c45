"""The verdict over a run: three ledgers that must tell the same story.

What was promised (accepted sends), what the phones decrypted, what the webhook receiver got. `judge` is a pure
function; its own tests give it ledgers with each kind of wrong in them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

MARKS = ("server", "delivered", "read", "played")


@dataclass(frozen=True, slots=True)
class Promise:
    """An accepted send: 202 or 200 with this queue id. `number` counts within its shop, in order of acceptance."""

    queue_id: str
    chat: str
    priority: str
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Fate:
    """What `GET …/request/{queueId}` says in the end."""

    state: str
    message_id: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A message that a phone decrypted; `duplicate` if it had this id before, and so did not show it."""

    phone: str
    message_id: str
    text: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Told:
    """A webhook `message_ack`."""

    event_id: str
    queue_id: str
    message_id: str
    delivery: str


@dataclass(frozen=True, slots=True)
class Heard:
    """A webhook `message`: what a customer wrote, as the receiver got it."""

    event_id: str
    message_id: str
    sender: str
    text: str


@dataclass(frozen=True, slots=True)
class Ledgers:
    """All that is known in the end. `written` is what each customer wrote, in order."""

    promises: list[Promise]
    fates: Mapping[str, Fate]
    seen: list[Seen]
    told: list[Told]
    written: Mapping[str, list[str]] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong, in words; and figures."""

    findings: list[str]
    figures: dict[str, int]


def judge(ledgers: Ledgers) -> Verdict:
    """Compare the ledgers."""
    findings = [
        *_items(ledgers),
        *_strangers(ledgers),
        *_order(ledgers),
        *_webhooks(ledgers),
        *_inbound(ledgers),
    ]
    figures = {
        "accepted": len(ledgers.promises),
        "shown": sum(not seen.duplicate for seen in ledgers.seen),
        "duplicates": sum(seen.duplicate for seen in ledgers.seen),
        "acks": len({told.event_id for told in ledgers.told}),
        "written": sum(len(texts) for texts in ledgers.written.values()),
        "heard": len({heard.event_id for heard in ledgers.heard}),
    }
    return Verdict(findings, figures)


def _items(ledgers: Ledgers) -> Iterable[str]:
    """Each accepted item was shown once by its phone, under its one id, and its fate says so."""
    by_text: dict[str, list[Seen]] = defaultdict(list)
    for seen in ledgers.seen:
        by_text[seen.text].append(seen)
    for promise in ledgers.promises:
        name = f"{promise.text} ({promise.queue_id[:8]})"
        fate = ledgers.fates.get(promise.queue_id)
        if fate is None:
            yield f"{name}: accepted, and the gateway knows it no more"
            continue
        copies = by_text[promise.text]
        ids = {seen.message_id for seen in copies}
        shown = sum(not seen.duplicate for seen in copies)
        if len(ids) > 1:
            yield f"{name}: under {len(ids)} message ids"
        if ids and ids != {fate.message_id}:
            yield f"{name}: not shown under the id that its caller was told"
        if {seen.phone for seen in copies} - {promise.chat}:
            yield f"{name}: shown by a phone that it was not for"
        if shown > 1:
            yield f"{name}: shown {shown} times"
        if fate.state != "sent":
            yield f"{name}: its fate is {fate.state}"
        if (fate.state == "sent") != (shown > 0):
            yield f"{name}: {fate.state}, but {'shown' if shown else 'never shown'}"


def _strangers(ledgers: Ledgers) -> Iterable[str]:
    """Nothing was shown that nobody asked for, and no two accepted texts are one item."""
    promised = {promise.text for promise in ledgers.promises}
    for text in sorted({seen.text for seen in ledgers.seen} - promised):
        yield f"{text}: shown, but never accepted"
    for queue_id, count in Counter(promise.queue_id for promise in ledgers.promises).items():
        if count > 1:
            yield f"{queue_id[:8]}: stands for {count} texts"


def _order(ledgers: Ledgers) -> Iterable[str]:
    """Within one chat and priority, first showings come in the order of acceptance."""
    known = {promise.text: promise for promise in ledgers.promises}
    last: dict[tuple[str, str], Promise] = {}
    for seen in ledgers.seen:
        promise = known.get(seen.text)
        if seen.duplicate or promise is None:
            continue
        before = last.setdefault((promise.chat, promise.priority), promise)
        if promise.number < before.number:
            yield f"{promise.text}: shown after {before.text}"
        else:
            last[promise.chat, promise.priority] = promise


def _webhooks(ledgers: Ledgers) -> Iterable[str]:
    """Each item was acknowledged to its caller, with its id, each mark as one event, and forward only."""
    marks: dict[str, list[Told]] = defaultdict(list)
    for told in ledgers.told:
        marks[told.queue_id].append(told)
    promised = {promise.queue_id for promise in ledgers.promises}
    for queue_id in sorted(set(marks) - promised):
        yield f"{queue_id[:8]}: acknowledged by webhook, but never accepted"
    for promise in ledgers.promises:
        name, events = f"{promise.text} ({promise.queue_id[:8]})", marks[promise.queue_id]
        fate = ledgers.fates.get(promise.queue_id)
        if fate is None:
            continue
        if (fate.state == "sent") != bool(events):
            yield f"{name}: {fate.state}, and {len(events)} webhooks message_ack"
        if {told.message_id for told in events} - {fate.message_id}:
            yield f"{name}: acknowledged under another id"
        first = list(dict.fromkeys((told.event_id, told.delivery) for told in events))
        ranks = [MARKS.index(delivery) for _, delivery in first]
        if ranks != sorted(set(ranks)):
            yield f"{name}: marks {[delivery for _, delivery in first]}"


def _inbound(ledgers: Ledgers) -> Iterable[str]:
    """What customers wrote arrived: each text as one event under one id, in order."""
    heard: dict[str, list[Heard]] = defaultdict(list)
    for one in ledgers.heard:
        heard[one.sender].append(one)
    known = {text for texts in ledgers.written.values() for text in texts}
    for text in sorted({one.text for one in ledgers.heard} - known):
        yield f"{text}: arrived, but nobody wrote it"
    for sender, texts in ledgers.written.items():
        events: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for one in heard[sender]:
            events[one.text].add((one.event_id, one.message_id))
        for text in texts:
            if len(events[text]) != 1:
                yield f"{text}: written once, arrived as {len(events[text])} events"
        first = list(dict.fromkeys(one.text for one in heard[sender]))
        if sorted(first) == sorted(texts) and first != texts:
            yield f"{sender}: what they wrote arrived in another order"
