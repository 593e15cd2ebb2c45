"""Any interleaving of what callers, WhatsApp, clocks and crashes do to an outbox: what holds whatever happens.

Hypothesis drives the services themselves on SQLite. The only thing that is modelled is the other end of the wire:
which ids it took. A failing run prints the steps that led there, already shortened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.property.rig import LIMITS, Rig, Server, Shop

from wahub.domain.errors import (
    CallerError,
    InstanceNotFoundError,
    NotCancellableError,
    NotRetryableError,
    NotUnknownError,
    QueueFullError,
    StaleLeaseError,
)
from wahub.domain.ids import ChatId, QueueId
from wahub.domain.instance import Disconnect
from wahub.domain.manage import Verdict
from wahub.domain.outbox import (
    DeliveryMark,
    Entry,
    ItemState,
    Priority,
    SendAcked,
    SendNotStarted,
    SendPolicy,
    SendRefused,
    SendResult,
    SendUncertain,
)
from wahub.domain.pacing import HOUR, MINUTE, Pace, TypingPolicy
from wahub.services import instance as instances
from wahub.services import outbox
from wahub.services.outbox import Claimed, Idle, SendRules

CHATS = ("201111111111", "202222222222", "120363000000000001@g.us", "333333333333@lid")
ABSENT = "209999999999"
"""A number that is not on WhatsApp."""

MARKS = [DeliveryMark.SERVER, DeliveryMark.DELIVERED, DeliveryMark.READ, DeliveryMark.PLAYED]
RANK = {mark: rank for rank, mark in enumerate([None, *MARKS])}
NEVER_OUT = (ItemState.FAILED, ItemState.EXPIRED, ItemState.CANCELLED)

OUTCOMES = st.sampled_from(
    ["acked", "lost_ack", "swallowed", "400", "429", "463", "500", "link_lost", "not_started", "permanent"]
)
PACES = [Pace(0, 0, 0), Pace(6, 60, 0.5), Pace(2, 3, 0.0), Pace(0, 4, 2.0)]


class Outbox(RuleBasedStateMachine):
    """Steps of callers, the worker, WhatsApp and clocks."""

    rig: ClassVar[Rig]

    @initialize(pace=st.sampled_from(PACES), typing=st.booleans(), chats=st.lists(st.sampled_from(CHATS), max_size=6))
    def begin(self, pace: Pace, typing: bool, chats: list[str]) -> None:
        self.rules = SendRules(SendPolicy(), pace, TypingPolicy(enabled=typing))
        self.open_shop()
        for chat in chats:
            self.enqueue_one(chat, Priority.NORMAL, None, None, True)

    def open_shop(self) -> None:
        self.shop: Shop = self.rig.new_shop(self.rules)
        self.server = Server()
        self.on_wire: Entry | None = None
        """What the send loop handed to the link and waits for."""
        self.ids: dict[QueueId, str] = {}
        self.marks: dict[QueueId, DeliveryMark | None] = {}
        self.revived: set[QueueId] = set()
        """Items that were over and that somebody tried again: they take their old place."""
        self.decided: dict[QueueId, Verdict] = {}
        """What callers said about items of unknown fate."""
        self.claims: list[float] = []
        """When items were claimed, by the monotonic clock: setting the wall clock makes no room."""

    # --- callers -----------------------------------------------------------------------------------------------------

    @rule(
        chat=st.sampled_from([*CHATS, ABSENT]),
        priority=st.sampled_from(Priority),
        send_in=st.none() | st.sampled_from([1.0, 90.0, 7_200.0]),
        expires_in=st.none() | st.sampled_from([5.0, 600.0, 86_400.0]),
        typing=st.booleans(),
    )
    def enqueue(
        self, chat: str, priority: Priority, send_in: float | None, expires_in: float | None, typing: bool
    ) -> None:
        self.enqueue_one(chat, priority, send_in, expires_in, typing)

    def enqueue_one(
        self, chat: str, priority: Priority, send_in: float | None, expires_in: float | None, typing: bool
    ) -> None:
        text = f"text {self.rig.new_number()}"
        send_at = None if send_in is None else self.rig.now + send_in
        before = len(self.ids)
        try:
            accepted = self.shop.send(chat, text, priority, send_at=send_at, expires_in=expires_in, typing=typing)
        except QueueFullError:
            assert sum(not entry.settled for entry in self.shop.entries()) >= LIMITS.max_queue
            return
        entry = accepted.entry
        assert not accepted.replayed
        self.ids[entry.id] = entry.message_id
        self.marks[entry.id] = None
        assert len(self.ids) == before + 1
        if send_in is None:
            waiting = [item for item in self.shop.entries() if not item.scheduled and not item.settled]
            earlier = [item for item in waiting if item.id not in self.revived]
            assert entry.joined_at == max(item.joined_at for item in earlier), "joins behind all who wait"
        again = self.shop.send(chat, text, priority)
        assert again.replayed and again.entry.id == entry.id, "an accidental repeat is the same item"

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        entry = self.pick(data)
        taken = entry.message_id in self.server.taken
        try:
            self.write(lambda tx: outbox.cancel(tx, self.shop.id, entry.id, self.rig.now))
        except NotCancellableError:
            assert entry.state not in (ItemState.QUEUED, ItemState.HELD)
        else:
            assert entry.state in (ItemState.QUEUED, ItemState.HELD) and not taken

    @rule(data=st.data(), verdict=st.sampled_from(Verdict))
    def resolve(self, data: st.DataObject, verdict: Verdict) -> None:
        unknown = [entry for entry in self.shop.entries() if entry.state is ItemState.UNKNOWN]
        entry = data.draw(st.sampled_from(unknown)) if unknown else self.pick(data)
        try:
            self.write(lambda tx: outbox.resolve(tx, self.shop.id, entry.id, verdict, self.rig.now))
        except NotUnknownError:
            assert entry.state is not ItemState.UNKNOWN
        else:
            self.decided[entry.id] = verdict

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        entry = self.pick(data)
        try:
            self.write(lambda tx: outbox.retry(tx, self.shop.id, entry.id, self.rig.now))
        except NotRetryableError:
            assert entry.state in (ItemState.SENT, ItemState.SENDING, ItemState.UNKNOWN, ItemState.HELD) or (
                entry.on_wire
            )
        else:
            self.revived.add(entry.id)

    @rule(what=st.sampled_from(["clear", "trigger", "release", "hold"]))
    def manage(self, what: str) -> None:
        shop, now = self.shop, self.rig.now
        try:
            match what:
                case "clear":
                    self.write(lambda tx: outbox.clear(tx, shop.id, now))
                case "trigger":
                    self.write(lambda tx: outbox.trigger(tx, shop.id, now))
                case "release":
                    self.write(lambda tx: outbox.release(tx, shop.id, now))
                case _:
                    self.pair_with_another_number()
        except CallerError:
            pass

    def pair_with_another_number(self) -> None:
        # A link that pairs is not open, so nothing is on the wire.
        self.crash_now(reached=False)
        self.write(lambda tx: outbox.hold_for_new_account(tx, instances.get(tx, self.shop.id), self.rig.now))
        assert all(entry.state is not ItemState.QUEUED for entry in self.shop.entries())
        self.shop.open_link()

    @precondition(lambda self: len(self.ids) >= 6)
    @rule(last=st.sampled_from([None, "answered", "lost"]))
    def delete(self, last: str | None) -> None:
        """The instance goes; a new one takes its place."""
        assert self.write(lambda tx: instances.ask_delete(tx, self.shop.id))
        with pytest.raises(InstanceNotFoundError):
            self.shop.send(CHATS[0], "too late")
        if self.on_wire is not None and last == "answered":
            self.answer(SendAcked(), reaches=True)
        before = {entry.id: entry for entry in self.shop.entries()}
        assert isinstance(self.claim_step(), Idle), "nothing leaves a deleted instance"
        _, cancelled = self.write(lambda tx: instances.prepare_delete(tx, self.shop.lease, self.rig.now))
        waited = {key for key, entry in before.items() if entry.state in (ItemState.QUEUED, ItemState.HELD)}
        assert set(cancelled) == waited
        assert not {before[queue_id].message_id for queue_id in cancelled} & self.server.taken
        self.write(lambda tx: instances.finish_delete(tx, self.shop.lease, self.rig.now))
        assert self.shop.entries() == []
        self.open_shop()

    # --- the worker --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.on_wire is None and self.shop.linked)
    @rule()
    def claim(self) -> None:
        self.claim_step()

    @rule(steps=st.lists(st.tuples(st.sampled_from([0.0, 1.0, 10.0, 61.0]), OUTCOMES), min_size=1, max_size=8))
    def the_loop_goes_on(self, steps: list[tuple[float, str]]) -> None:
        """Most of the time the send loop simply works, with whatever WhatsApp answers."""
        if not self.shop.linked:
            self.shop.open_link()
        for pause, how in steps:
            self.rig.clock.advance(pause)
            if self.on_wire is None:
                self.claim_step()
            if self.on_wire is not None:
                self.answer_with(how)

    def claim_step(self) -> Claimed | Idle:
        """One round of the send loop up to the wire, with what must hold for whatever it claims."""
        step = self.shop.claim(self.prepare)
        if isinstance(step, Claimed):
            self.on_wire = step.entry
            self.check_claim(step.entry)
        return step

    def prepare(self, todo: outbox.Prepare) -> bool | None:
        """Asking and typing take time."""
        self.rig.clock.advance(todo.typing)
        return todo.entry.chat != ChatId.parse(ABSENT)

    def check_claim(self, claimed: Entry) -> None:
        now = self.rig.now
        assert claimed.message_id == self.ids[claimed.id], "the id of its acceptance"
        assert claimed.joined_at <= now or not claimed.scheduled, "not before its time"
        assert claimed.on_wire or now < claimed.expires_at, "not after its time"
        for other in self.shop.entries():
            if other.id == claimed.id or other.settled or other.chat != claimed.chat:
                continue
            if other.priority is claimed.priority:
                mine, theirs = (claimed.joined_at, claimed.position), (other.joined_at, other.position)
                assert mine < theirs, f"{other.id[:8]} ({other.state}) stands before {claimed.id[:8]}"
        self.check_windows(self.rig.clock.monotonic())

    def check_windows(self, at: float) -> None:
        pace, self.claims = self.rules.pace, [*self.claims, at]
        for limit, window in ((pace.per_minute, MINUTE), (pace.per_hour, HOUR)):
            if limit:
                inside = sum(claim > at - window + 1e-6 for claim in self.claims)
                assert inside <= limit, f"{inside} claims in {window} s"
        if len(self.claims) > 1:
            assert at - self.claims[-2] >= pace.spacing - 1e-6, "spacing"

    @precondition(lambda self: self.on_wire is not None)
    @rule(how=OUTCOMES)
    def outcome(self, how: str) -> None:
        self.answer_with(how)

    def answer_with(self, how: str) -> None:
        match how:
            case "acked":
                self.answer(SendAcked(), reaches=True)
            case "lost_ack":
                self.answer(SendUncertain("no ack"), reaches=True)
            case "swallowed":
                self.answer(SendUncertain("no ack"), reaches=False)
            case "link_lost":
                self.answer(SendNotStarted("link_lost", link_lost=True), reaches=False)
            case "not_started":
                self.answer(SendNotStarted("engine busy"), reaches=False)
            case "permanent":
                self.answer(SendNotStarted("no such device", permanent=True), reaches=False)
            case code:
                self.answer(SendRefused(int(code)), reaches=False)

    def answer(self, result: SendResult, *, reaches: bool) -> None:
        assert self.on_wire is not None
        entry, self.on_wire = self.on_wire, None
        if reaches:
            self.server.takes(entry.message_id)
        before = self.shop.entry(entry.id)
        after = self.shop.settle(entry.id, result)
        if before.state is not ItemState.SENDING:
            assert after is None, "proof overtook the answer"
            return
        assert after is not None
        self.check_answer(before, after, result)

    def check_answer(self, before: Entry, after: Entry, result: SendResult) -> None:
        """What one answer does to one item (contract 0.5 and C.4)."""
        wait = after.next_attempt_at - self.rig.now
        costs = 0
        match result:
            case SendAcked():
                assert after.state is ItemState.SENT
            case SendUncertain():
                assert after.state is ItemState.UNKNOWN and (after.gave_up or wait == pytest.approx(10.0))
            case SendRefused(463):
                lock = min(3_600.0 * 2 ** (after.deferrals - 1), 86_400.0)
                assert after.gave_up or wait == pytest.approx(lock)
                assert after.last_error == "outreach_locked"
            case SendRefused(code) if code == 429 or code >= 500:
                costs = 1
            case SendRefused() | SendNotStarted(permanent=True):
                assert after.settled or before.on_wire
            case SendNotStarted(link_lost=True):
                assert not after.settled and wait == pytest.approx(1.0)
            case SendNotStarted():
                costs = 1
        if costs and not after.settled:
            assert after.attempts == before.attempts + 1
            assert wait == pytest.approx(5.0 * 2 ** (after.attempts - 1))
        if not costs and not isinstance(result, SendNotStarted):
            assert after.attempts == before.attempts, "costs no attempt"

    @rule(reached=st.booleans())
    def crash(self, reached: bool) -> None:
        self.crash_now(reached)

    def crash_now(self, reached: bool) -> None:
        """kill -9: what was on the wire may or may not have reached the server; another process takes over."""
        if self.on_wire is not None and reached:
            self.server.takes(self.on_wire.message_id)
        sending = [entry.id for entry in self.shop.entries() if entry.state is ItemState.SENDING]
        self.on_wire = None
        assert self.shop.start_worker() == len(sending)
        for queue_id in sending:
            found = self.shop.entry(queue_id)
            assert found.state is ItemState.UNKNOWN and found.on_wire, "nobody can know what became of it"

    @precondition(lambda self: self.on_wire is None and self.shop.linked)
    @rule(reached=st.booleans())
    def crash_in_a_send(self, reached: bool) -> None:
        self.claim_step()
        self.crash_now(reached)

    @precondition(lambda self: not self.shop.linked)
    @rule()
    def link_opens(self) -> None:
        self.shop.open_link()

    @precondition(lambda self: self.shop.linked and self.on_wire is None)
    @rule()
    def link_breaks(self) -> None:
        self.shop.close_link(Disconnect.CONNECTION_CLOSED)

    @precondition(lambda self: self.shop.old_leases)
    @rule(data=st.data())
    def a_worker_that_lost_its_term_writes_nothing(self, data: st.DataObject) -> None:
        entry = self.pick(data)
        old = self.shop.old_leases[-1]
        with pytest.raises(StaleLeaseError):
            self.shop.settle(entry.id, SendAcked(), lease=old)
        with pytest.raises(StaleLeaseError):
            self.write(lambda tx: outbox.claim_next(tx, old, self.rig.now, self.rules))

    # --- WhatsApp and clocks -----------------------------------------------------------------------------------------

    @precondition(lambda self: self.shop.linked and self.server.taken)
    @rule(data=st.data(), mark=st.sampled_from(MARKS))
    def proof(self, data: st.DataObject, mark: DeliveryMark) -> None:
        """A late ack or a receipt, in any order, also for an item whose answer is still under way."""
        wanted = data.draw(st.sampled_from(sorted(self.server.taken)))
        lease, now = self.shop.lease, self.rig.now
        self.write(lambda tx: outbox.note_proof(tx, lease, (wanted,), mark, now))
        if self.on_wire is not None and self.on_wire.message_id == wanted:
            assert self.shop.entry(self.on_wire.id).state is ItemState.SENT

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 10.0, 61.0, 3_601.0, 86_401.0]))
    def time_passes(self, seconds: float) -> None:
        self.rig.clock.advance(seconds)

    @rule(seconds=st.sampled_from([0.5, 30.0, 4_000.0]))
    def the_clock_is_set_back(self, seconds: float) -> None:
        self.rig.clock.jump(-seconds)

    @rule()
    def sweep(self) -> None:
        now = self.rig.now
        self.write(lambda tx: outbox.expire_due(tx, now, 1_000))
        for entry in self.shop.entries():
            waiting = entry.state in (ItemState.QUEUED, ItemState.HELD) and not entry.on_wire
            assert not (waiting and entry.expires_at <= now), "over, and swept"

    # --- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def fates_are_true(self) -> None:
        entries = self.shop.entries()
        assert {entry.id: entry.message_id for entry in entries} == self.ids, "none lost, and no id ever changes"
        assert len(set(self.ids.values())) == len(self.ids), "no two items under one id"
        assert sum(entry.state is ItemState.SENDING for entry in entries) <= 1, "one at a time"
        for entry in entries:
            self.check_fate(entry)
        open_ones = [entry for entry in entries if not entry.settled]
        assert self.rig.read(lambda tx: tx.line.depth(self.shop.id)) == len(open_ones)
        unscheduled = [entry.joined_at for entry in open_ones if not (entry.scheduled or entry.id in self.revived)]
        assert unscheduled == sorted(unscheduled), "the line is in the order of acceptance, whatever the clock did"

    def check_fate(self, entry: Entry) -> None:
        taken = entry.message_id in self.server.taken
        decided = self.decided.get(entry.id)
        if entry.state is ItemState.SENT:
            assert taken or decided is Verdict.SENT, "sent without proof"
            assert entry.delivery is not None
        if entry.state in NEVER_OUT:
            assert not taken or decided is Verdict.FAILED, f"{entry.state}, but the server has it"
        assert RANK[entry.delivery] >= RANK[self.marks[entry.id]], "a mark never goes back"
        self.marks[entry.id] = entry.delivery
        assert entry.resends <= 5 or decided is Verdict.RESEND, "resends are bounded"
        assert len(entry.timeline) <= 60

    # --- the end -----------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Whatever happened: with a link and a server that answers, every item ends."""
        if hasattr(self, "shop"):
            self.drain(lambda: self.answer(SendAcked(), reaches=True))
            for entry in self.shop.entries():
                assert entry.state in (*NEVER_OUT, ItemState.SENT) or entry.gave_up, entry

    def drain(self, answer: Callable[[], None]) -> None:
        """Run the send loop with a link until nothing is left to do."""
        if self.on_wire is not None:
            answer()
        if not self.shop.linked:
            self.shop.open_link()
        self.write(lambda tx: outbox.release(tx, self.shop.id, self.rig.now))
        patience = 0.001
        # Each has its tries and its resends, with a wait before every one; 300 were too few for a queue that was full.
        for _ in range(100 + 30 * len(self.ids)):
            step = self.claim_step()
            # After the clock was set back the loop looks again and again until it has caught up.
            patience = 0.001 if isinstance(step, Claimed) else patience * 2
            if isinstance(step, Claimed):
                answer()
            elif step.until is None:
                self.fates_are_true()
                return
            else:
                self.rig.clock.advance(max(step.until - self.rig.now, patience))
        pytest.fail(f"still not done: {[entry for entry in self.shop.entries() if not entry.settled]}")

    # --- helpers -----------------------------------------------------------------------------------------------------

    def write(self, work: Callable[[Any], Any]) -> Any:
        return self.rig.write(work)

    def pick(self, data: st.DataObject) -> Entry:
        entries = self.shop.entries()
        assume(entries)
        return entries[data.draw(st.integers(0, len(entries) - 1))]


class EndsBadly(Outbox):
    """The same, but in the end the server never says yes: every item ends all the same."""

    @initialize(answer=st.sampled_from(["silence", "463", "500", "400"]))
    def choose(self, answer: str) -> None:
        self.last_answer = answer

    def teardown(self) -> None:
        if not hasattr(self, "shop") or not hasattr(self, "last_answer"):
            return
        kind = self.last_answer
        result = SendUncertain("no ack") if kind == "silence" else SendRefused(int(kind))
        self.drain(lambda: self.answer(result, reaches=False))
        for entry in self.shop.entries():
            assert entry.settled, entry


def run(machine: type[Outbox], rig: Rig) -> None:
    machine.rig = rig
    run_state_machine_as_test(machine)


def test_no_interleaving_loses_doubles_or_misjudges_an_item(rig: Rig) -> None:
    run(Outbox, rig)


def test_every_item_ends_also_when_whatsapp_never_says_yes(rig: Rig) -> None:
    run(EndsBadly, rig)


def test_the_machine_meets_every_state(rig: Rig) -> None:
    """The steps above reach all fates, or they would prove little: one walk by hand through the same rules."""
    Outbox.rig = rig
    machine = Outbox()
    machine.begin(Pace(0, 0, 0), False, [CHATS[0]] * 3)
    machine.enqueue_one(ABSENT, Priority.NORMAL, None, None, True)
    machine.enqueue_one(CHATS[1], Priority.NORMAL, 60.0, 5.0, True)
    seen = set()
    for how in ("acked", "lost_ack"):
        machine.claim()
        seen |= {entry.state for entry in machine.shop.entries()}
        machine.answer_with(how)
    machine.claim()
    assert machine.on_wire is None, "the one of unknown fate holds back its chat, the absent number is settled"
    machine.time_passes(10.0)
    machine.sweep()
    machine.manage("hold")
    seen |= {entry.state for entry in machine.shop.entries()}
    machine.manage("clear")
    seen |= {entry.state for entry in machine.shop.entries()}
    machine.fates_are_true()
    assert seen == set(ItemState)
