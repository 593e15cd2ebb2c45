"""People who write to shops: texts and images to the shop and into a group with it, and votes on its polls.

Some write by number, some by LID, some now so and now so; half of the groups name their members by LID, the others by
number. Everything sent is written into a book at the moment at which WhatsApp took it.
"""

from __future__ import annotations

import base64
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.chaos.inbound.ledgers import Sent
from tests.chaos.inbound.plan import InboundPlan
from tests.support.box import Box, Phone
from tests.support.gateway import Account, Gateway
from tests.support.waiting import until

OPTIONS = tuple(f"option {letter}" for letter in "abcdefghijkl")
"""Twelve, so that a voter can say 4,095 different things."""
ADDRESSING = (("pn",), ("lid",), ("pn", "lid"))
WITHDRAWN = 5
"""Each vote of so many is withdrawn by the next."""
IMAGE = base64.b64encode(bytes(range(256))).decode()
SHOWN_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class Poll:
    """A poll of the shop: its id, the chat it stands in, and who may vote."""

    id: str
    chat: str
    voters: list[Writer]


@dataclass(frozen=True, slots=True)
class Writer:
    """A person, and how messages of theirs are addressed outside of groups, by turns."""

    phone: Phone
    addressing: tuple[str, ...]

    def addressed(self, number: int) -> str:
        """How that message is addressed: `pn` or `lid`."""
        return self.addressing[number % len(self.addressing)]


@dataclass(slots=True)
class Shop:
    """An instance and the people who write to it, one thing after the other."""

    account: Account
    writers: list[Writer]
    group: str
    mark: str
    """Every text begins with it, so that logs can be searched for texts."""
    polls: list[Poll] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    _votes: dict[tuple[str, str], int] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def act(self, chance: random.Random) -> None:
        """Somebody sends something, when nobody else does."""
        dice = chance.random()
        with self._turn:
            if self.polls and dice < 0.25:
                poll = chance.choice(self.polls)
                self.vote(poll, chance.choice(poll.voters))
            else:
                writer = chance.choice(self.writers)
                self.write(writer, in_group=bool(self.group) and dice > 0.7, image=dice < 0.32)

    def write(self, writer: Writer, *, in_group: bool, image: bool) -> None:
        """A text, or an image with one."""
        number, text = len(self.sent), f"{self.mark} {self.account.id} {len(self.sent)}"
        body: dict[str, object] = {"to": self.group if in_group else self.account.phone.number}
        if not in_group:
            body["addressing"] = writer.addressed(number)
        body |= {"media": {"kind": "image", "base64": IMAGE, "caption": text}} if image else {"text": text}
        message_id = self._take(writer, "send", body)
        chat = self.group if in_group else writer.phone.number
        kind = "image" if image else "text"
        self.sent.append(Sent(self.account.id, number, chat, writer.phone.number, message_id, kind, text))

    def vote(self, poll: Poll, voter: Writer) -> None:
        """Another vote: its options tell which one of this voter it is; now and then none."""
        turn = self._votes.get((poll.id, voter.phone.number), 0) + 1
        self._votes[poll.id, voter.phone.number] = turn
        chosen = () if turn % WITHDRAWN == 0 else tuple(name for bit, name in enumerate(OPTIONS) if turn >> bit & 1)
        body: dict[str, object] = {"pollId": poll.id, "options": list(chosen)}
        if poll.chat != self.group:
            body["addressing"] = voter.addressed(turn)
        vote_id = self._take(voter, "vote", body)
        author = voter.phone.number
        self.sent.append(
            Sent(self.account.id, len(self.sent), poll.chat, author, vote_id, "vote", poll=poll.id, options=chosen)
        )

    def _take(self, writer: Writer, what: str, body: dict[str, object]) -> str:
        box = self.account.gateway.box
        return str(box.control("POST", f"phones/{writer.phone.number}/{what}", body)["messageId"])

    def order(self) -> Mapping[str, int]:
        """When messages were sent, by id."""
        return {one.id: one.number for one in self.sent}


@dataclass(slots=True)
class Town:
    """All shops, and the threads in which their people write."""

    gateway: Gateway
    box: Box
    plan: InboundPlan
    shops: list[Shop] = field(default_factory=list)
    goodbyes: set[str] = field(default_factory=set)
    """Ids of the last text of each writer in each chat."""
    failures: list[BaseException] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def build(self) -> Town:
        """Make the people and their groups, link the instances, and have each shop put its polls."""
        mark = f"inbound-{self.plan.seed}"
        self.gateway.secrets |= {mark, *OPTIONS}
        for number in range(self.plan.shops):
            account = self.gateway.create(f"shop-{number}", events=["*"])
            phones = [self.box.new_phone() for _ in range(self.plan.customers)]
            self.gateway.secrets |= {phone.number for phone in phones}
            writers = [Writer(phone, ADDRESSING[turn % 3]) for turn, phone in enumerate(phones)]
            self.shops.append(Shop(account, writers, self._group(number, account, phones), mark))
        for shop in self.shops:
            shop.account.pair()
        waiting = [(shop, chat, self._ask(shop, chat)) for shop in self.shops for chat in self._chats_asked(shop)]
        for shop, chat, queue_id in waiting:
            self._note_poll(shop, chat, queue_id)
        return self

    def talk(self, acts: int, seed: int, pause: float) -> None:
        """Have so many things sent to each shop, in the background, with pauses of so many seconds on average."""
        for number, shop in enumerate(self.shops):
            self._spawn(self._write, shop, acts, random.Random(seed * 1_000 + number), pause)

    def hush(self) -> None:
        """Wait until all is sent."""
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        if self.failures:
            raise self.failures[0]

    def say_goodbye(self) -> None:
        """A last text of each writer in each chat."""
        for shop in self.shops:
            for writer in shop.writers:
                shop.write(writer, in_group=False, image=False)
                self.goodbyes.add(shop.sent[-1].id)
                if shop.group:
                    shop.write(writer, in_group=True, image=False)
                    self.goodbyes.add(shop.sent[-1].id)

    def _write(self, shop: Shop, acts: int, chance: random.Random, pause: float) -> None:
        for _ in range(acts):
            time.sleep(pause * chance.uniform(0, 2))
            shop.act(chance)

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        def guarded() -> None:
            try:
                work(*arguments)
            except BaseException as error:  # noqa: BLE001 - told to the main thread
                self.failures.append(error)

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        self._threads.append(thread)

    # --- building ----------------------------------------------------------------------------------------------------

    def _group(self, number: int, account: Account, phones: list[Phone]) -> str:
        if len(phones) < 2:
            return ""
        owner, *others = (phone.number for phone in phones)
        members = [*others, account.phone.number]
        body = {
            "subject": f"group {number}",
            "owner": owner,
            "members": members,
            "addressing": ("lid", "pn")[number % 2],
        }
        return str(self.box.control("POST", "groups", body)["id"])

    def _chats_asked(self, shop: Shop) -> list[str]:
        """A poll for one who writes by number, for one who writes by LID, and for the group."""
        return [shop.group, *(writer.phone.number for writer in shop.writers[:2])] if shop.group else []

    def _ask(self, shop: Shop, chat: str) -> str:
        question = {"chatId": chat, "caption": f"{shop.mark} which?", "options": list(OPTIONS), "multipleAnswers": True}
        path = f"/instances/{shop.account.id}/client/action/create-poll"
        return str(self.gateway.ok("POST", path, question)["queueId"])

    def _note_poll(self, shop: Shop, chat: str, queue_id: str) -> None:
        poll_id = str(shop.account.wait_item(queue_id, "sent", SHOWN_WITHIN)["messageId"])
        voters = [writer for writer in shop.writers if chat in (shop.group, writer.phone.number)]
        for voter in voters:
            seen = lambda phone=voter.phone: any(one["messageId"] == poll_id for one in phone.messages())  # noqa: E731
            until(seen, SHOWN_WITHIN, f"{shop.account.id}: a poll was not shown")
        shop.polls.append(Poll(poll_id, chat, voters))
