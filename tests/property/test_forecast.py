"""What GET queue says about the future is what the send loop does, to the second, as long as nothing else happens."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import example, given
from hypothesis import strategies as st
from tests.property.rig import Rig, Shop

from wahub.domain.ids import QueueId
from wahub.domain.outbox import Priority, SendAcked, SendPolicy, SendRefused
from wahub.domain.pacing import Pace, TypingPolicy
from wahub.services import outbox
from wahub.services.outbox import Claimed, SendRules

CHATS = ("201111111111", "202222222222", "203333333333", "120363000000000001@g.us")


@dataclass(frozen=True)
class Item:
    """One send: to which chat, how urgent, and in how many seconds at the earliest."""

    chat: str
    priority: Priority
    send_in: float | None


PACES = st.builds(
    Pace,
    per_minute=st.sampled_from([0, 1, 2, 6]),
    per_hour=st.sampled_from([0, 3, 10]),
    spacing=st.sampled_from([0.0, 0.5, 7.0]),
)
ITEMS = st.lists(
    st.builds(
        Item,
        st.sampled_from(CHATS),
        st.sampled_from(Priority),
        st.none() | st.sampled_from([3.0, 50.0, 59.5, 1_000.0, 5_000.0]),
    ),
    min_size=1,
    max_size=12,
)


def play(shop: Shop, queue: dict[QueueId, float]) -> dict[QueueId, float]:
    """Run the send loop until nothing is left; when each item was claimed."""
    clock, claimed = shop.rig.clock, dict[QueueId, float]()

    def type_a_while(todo: outbox.Prepare) -> None:
        clock.advance(todo.typing)

    while len(claimed) < len(queue):
        step = shop.claim(type_a_while)
        if isinstance(step, Claimed):
            claimed[step.entry.id] = clock.now()
            shop.settle(step.entry.id, SendAcked())
        else:
            assert step.until is not None, f"{len(queue) - len(claimed)} items are never sent"
            clock.advance(max(step.until - clock.now(), 1e-3))
    return claimed


def forecast(shop: Shop) -> dict[QueueId, float]:
    """What GET queue says now."""
    rules, now = shop.rules, shop.rig.now
    view = shop.rig.read(lambda tx: outbox.overview(tx, shop.id, now, rules.pace, rules.typing))
    return {item.entry.id: item.next_attempt_at for item in view.items}


def check(shop: Shop, sends: list[Item]) -> None:
    for number, item in enumerate(sends):
        send_at = None if item.send_in is None else shop.rig.now + item.send_in
        shop.send(item.chat, f"text {number}", item.priority, send_at=send_at)
    said = forecast(shop)
    done = play(shop, said)
    assert done.keys() == said.keys()
    assert max(abs(done[key] - said[key]) for key in said) < 0.05, (said, done)


@given(pace=PACES, earlier=st.lists(st.sampled_from([0.0, 1.0, 20.0, 70.0, 1_800.0]), max_size=5), sends=ITEMS)
@example(pace=Pace(1, 3, 0.5), earlier=[0.0, 0.0], sends=[Item(CHATS[0], priority, None) for priority in Priority] * 3)
def test_claims_come_when_the_queue_said_they_would(
    rig: Rig, pace: Pace, earlier: list[float], sends: list[Item]
) -> None:
    shop = rig.new_shop(SendRules(SendPolicy(), pace, TypingPolicy(enabled=False), ask_first=False))
    for number, pause in enumerate(earlier):
        # Claims that are in the windows already when the queue is asked for.
        accepted = shop.send(CHATS[0], f"earlier {number}")
        play(shop, {accepted.entry.id: 0.0})
        rig.clock.advance(pause)
    check(shop, sends)


@given(pace=PACES, sends=ITEMS)
def test_typing_is_part_of_the_forecast(rig: Rig, pace: Pace, sends: list[Item]) -> None:
    """Items that join while somebody types for another one change that turn; a static queue has none of them."""
    shop = rig.new_shop(SendRules(SendPolicy(), pace, TypingPolicy(), ask_first=False))
    check(shop, [Item(item.chat, item.priority, None) for item in sends])


def test_a_retry_that_waits_is_forecast_with_what_it_holds_back(rig: Rig) -> None:
    shop = rig.new_shop(SendRules(SendPolicy(), Pace(0, 0, 0.5), TypingPolicy(enabled=False), ask_first=False))
    for number in range(3):
        shop.send(CHATS[0], f"text {number}")
    other = shop.send(CHATS[1], "another chat").entry
    first = shop.claim(lambda _todo: None)
    assert isinstance(first, Claimed)
    shop.settle(first.entry.id, SendRefused(500))
    said, start = forecast(shop), rig.now
    assert [round(at - start, 1) for at in said.values()] == [5.0, 5.5, 6.0, 0.5]
    assert play(shop, said)[other.id] == start + 0.5
