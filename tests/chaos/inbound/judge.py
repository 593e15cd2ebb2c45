"""The verdict over what came in: three ledgers that must tell the same story (ledgers.py).

Each sent thing is in the log once and nothing else is, sequences have no gap, each event was delivered with one id and
the bytes of the log, and order is kept per chat: in the log as WhatsApp delivered it, at the receiver as in the log.
`judge` is a pure function; its own tests give it ledgers with each kind of wrong in them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from tests.chaos.inbound.ledgers import Attempt, Ledgers, Logged, Sent
from tests.chaos.verdict import Verdict

INBOUND = frozenset({"message", "vote_update"})
MORTAL = frozenset({"qr"})
"""Events that die early, and then are not posted any more."""
UNLOGGED = frozenset({"presence"})
"""Posted once, and in no log."""
ASIDE_AFTER = 5
"""Refused attempts after which an event may step aside (contract 0.7)."""

Match = list[tuple[Logged, Sent]]
"""Events of the log with what was sent, in the order of the log."""


def judge(ledgers: Ledgers) -> Verdict:
    """Compare the ledgers."""
    matched, strangers = _match(ledgers)
    out_of_turn, aside = _order_of_delivery(ledgers, matched)
    findings = [
        *_once(ledgers.sent, matched),
        *(f"{one.name}: a {one.event} that nobody sent" for one in strangers),
        *_sequences(ledgers),
        *_order_of_log(matched, ledgers.late),
        *_delivered(ledgers),
        *out_of_turn,
    ]
    figures = {
        "sent": len(ledgers.sent),
        "votes": sum(one.kind == "vote" for one in ledgers.sent),
        "late": len(ledgers.late),
        "logged": len(ledgers.logged),
        "posted": len(ledgers.posted),
        "taken": sum(attempt.taken for attempt in ledgers.posted),
        "repeats": len(ledgers.posted) - len({attempt.event_id for attempt in ledgers.posted}),
        "aside": len(aside),
        "unseen": _unseen(ledgers.posted),
    }
    return Verdict(findings, figures)


def _match(ledgers: Ledgers) -> tuple[Match, list[Logged]]:
    """Find what each message or vote of the log was: by its id, and it must say what was sent, where, by whom."""
    sent = {(one.instance, one.id): one for one in ledgers.sent}
    matched: Match = []
    strangers = []
    for event in ledgers.logged:
        if event.event in INBOUND:
            said = event.data["vote" if event.event == "vote_update" else "message"]
            found = sent.get((event.instance, said["id"]))
            if found is not None and _says(event, said) == _meant(found):
                matched.append((event, found))
            else:
                strangers.append(event)
    return matched, strangers


def _says(event: Logged, said: Mapping[str, Any]) -> tuple[object, ...]:
    if event.event == "vote_update":
        return "vote", said["chat"], said["voter"], said["pollMessageId"], tuple(said["selectedOptions"])
    return said["type"], said["chat"], said["from"], said["text"]


def _meant(one: Sent) -> tuple[object, ...]:
    return one.kind, one.chat, one.author, *((one.poll, one.options) if one.kind == "vote" else (one.text,))


def _once(sent: list[Sent], matched: Match) -> Iterable[str]:
    times = Counter(one for _, one in matched)
    for one in sent:
        if times[one] != 1:
            yield f"{one.name}: sent once, in the log {times[one]} times"


def _sequences(ledgers: Ledgers) -> Iterable[str]:
    """1, 2, 3 … to the newest, for each instance; no two events share an id."""
    found: dict[str, list[int]] = defaultdict(list)
    for event in ledgers.logged:
        found[event.instance].append(event.sequence)
    for instance, newest in ledgers.newest.items():
        if found[instance] != list(range(1, newest + 1)):
            missing = sorted(set(range(1, newest + 1)) - set(found[instance]))
            yield f"{instance}: the log has {len(found[instance])} of {newest} numbers; missing {missing[:5]}"
    for event_id, count in Counter(event.event_id for event in ledgers.logged).items():
        if count > 1:
            yield f"{event_id[:8]}: the id of {count} events"


def _order_of_log(matched: Match, late: frozenset[str]) -> Iterable[str]:
    """Within a chat the log has the order of sending, but for what WhatsApp itself delivered late."""
    last: dict[tuple[str, str], Sent] = {}
    for _, one in matched:
        if one.id in late:
            continue
        before = last.setdefault((one.instance, one.chat), one)
        if one.number < before.number:
            yield f"{one.name}: in the log after {before.name}"
        else:
            last[one.instance, one.chat] = one


def _by_event(ledgers: Ledgers) -> dict[str, list[tuple[int, Attempt]]]:
    found: dict[str, list[tuple[int, Attempt]]] = defaultdict(list)
    for at, attempt in enumerate(ledgers.posted):
        found[attempt.event_id].append((at, attempt))
    return found


def _delivered(ledgers: Ledgers) -> Iterable[str]:
    """Each event was taken, always with its one id, its number and the bytes of the log; nothing else was posted."""
    posted = _by_event(ledgers)
    for event in ledgers.logged:
        attempts = [attempt for _, attempt in posted.pop(event.event_id, [])]
        if event.event in MORTAL:
            continue
        if not any(attempt.taken for attempt in attempts):
            yield f"{event.name} ({event.event}): posted {len(attempts)} times, and never taken"
        if {attempt.body for attempt in attempts} - {event.body}:
            yield f"{event.name} ({event.event}): posted with other bytes than the log has"
        if {(attempt.instance, attempt.sequence) for attempt in attempts} - {(event.instance, event.sequence)}:
            yield f"{event.name} ({event.event}): posted under another number"
        if not all(attempt.genuine for attempt in attempts):
            yield f"{event.name} ({event.event}): posted with a wrong signature"
    for event_id, attempts_of in posted.items():
        name = attempts_of[0][1].event
        if name not in UNLOGGED:
            yield f"{event_id[:8]} ({name}): posted, but not in the log"


def _unseen(posted: Sequence[Attempt]) -> int:
    """Attempts that the book lacks, though a later one of the same event has a higher number."""
    numbers: dict[str, set[int]] = defaultdict(set)
    for attempt in posted:
        numbers[attempt.event_id].add(attempt.attempt)
    return sum(max(seen) - len(seen) for seen in numbers.values())


def _order_of_delivery(ledgers: Ledgers, matched: Match) -> tuple[list[str], set[str]]:
    """Within a chat an event is posted after the one before it was taken, unless that one stepped aside.

    Returns what is wrong, and the ids of those that stepped aside.
    """
    wrong: list[str] = []
    aside: set[str] = set()
    posted = _by_event(ledgers)
    took: dict[str, list[int]] = defaultdict(list)
    for at, attempt in enumerate(ledgers.posted):
        if attempt.taken:
            took[attempt.instance].append(at)
    chats: dict[tuple[str, str], list[Logged]] = defaultdict(list)
    for event, one in matched:
        chats[one.instance, one.chat].append(event)
    for events in chats.values():
        for before, after in pairwise(events):
            begins = min((at for at, _ in posted[after.event_id]), default=len(ledgers.posted))
            earlier = [(at, attempt) for at, attempt in posted[before.event_id] if at < begins]
            if any(attempt.taken for _, attempt in earlier):
                continue
            others_taken = earlier and any(earlier[0][0] < at < begins for at in took[before.instance])
            # An attempt over a connection that was being closed may reach nobody: its number is missing in the book.
            later = [attempt.attempt - 1 for at, attempt in posted[before.event_id] if at > begins][:1]
            made = max([attempt.attempt for _, attempt in earlier] + later, default=0)
            if others_taken and made >= ASIDE_AFTER:
                aside.add(before.event_id)
            else:
                wrong.append(f"{after.name}: posted before {before.name} was taken, after {len(earlier)} attempts")
    return wrong, aside
