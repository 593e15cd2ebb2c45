"""Shops that write to their customers, customers that write back, all the time while things break."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
from tests.chaos.verdict import Promise
from tests.support.box import Box, Phone
from tests.support.gateway import Account, Gateway

INSIST_FOR = 90.0
"""Seconds for which a caller tries again; the gateway is down for a few of them at a time."""


@dataclass(slots=True)
class Shop:
    """An instance, its customers, and a caller that writes to them one text after the other."""

    account: Account
    customers: list[Phone]
    mark: str
    """Every text begins with it, so that logs can be searched for texts."""
    promises: list[Promise] = field(default_factory=list)
    written: dict[str, list[str]] = field(default_factory=dict)
    """What each customer wrote, by number."""
    problem: str | None = None

    def write_next(self, chance: random.Random) -> None:
        """One more text to one of the customers, tried until it is accepted."""
        customer = chance.choice(self.customers)
        priority = "high" if chance.random() < 0.15 else "normal"
        number = len(self.promises)
        text = f"{self.mark} {self.account.id} to {customer.number}: {number}"
        reply = self._insist({"chatId": customer.number, "message": text, "priority": priority}, f"key of {text}")
        self.promises.append(Promise(str(reply["queueId"]), customer.number, priority, number, text))

    def _insist(self, body: dict[str, str], key: str) -> dict[str, object]:
        path = f"/instances/{self.account.id}/client/action/send-message"
        deadline = time.monotonic() + INSIST_FOR
        while time.monotonic() < deadline:
            try:
                answer = self.account.gateway.http("POST", path, body | {"idempotencyKey": key})
            except httpx.HTTPError:
                time.sleep(0.1)
                continue
            if answer.status_code in (200, 202):
                return dict(answer.json())
            self.problem = f"{answer.status_code} {answer.text[:200]}"
            time.sleep(0.1)
        raise AssertionError(f"never accepted: {self.problem}")

    def hear(self, customer: Phone) -> None:
        """One more text from a customer."""
        texts = self.written.setdefault(customer.number, [])
        text = f"{self.mark} from {customer.number}: {len(texts)}"
        customer.send(self.account.phone, text)
        texts.append(text)


@dataclass(slots=True)
class Town:
    """All shops, and the threads that keep them busy."""

    gateway: Gateway
    box: Box
    shops: list[Shop] = field(default_factory=list)
    _leaving: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    _off: set[str] = field(default_factory=set)
    """Numbers whose phones are off: their people cannot write."""
    _switching: threading.Lock = field(default_factory=threading.Lock)

    def build(self, shops: int, mark: str) -> Town:
        """Link the instances; each has two customers, who are known to it."""
        self.gateway.secrets.add(mark)
        for number in range(shops):
            account = self.gateway.create(f"shop-{number}", events=["*"])
            customers = [self.box.new_phone(), self.box.new_phone()]
            self.gateway.secrets |= {customer.number for customer in customers}
            self.shops.append(Shop(account, customers, mark))
        for shop in self.shops:
            shop.account.pair()
        return self

    def open(self, seed: int, per_second: float) -> None:
        """Start the traffic, also again: so many texts per second in all, and a fifth as many back."""
        self._leaving.clear()
        pause = len(self.shops) / per_second
        for number, shop in enumerate(self.shops):
            self._spawn(self._write, shop, random.Random(seed * 1_000 + number), pause)
        self._spawn(self._answer, random.Random(seed), 5 / per_second)

    def close(self) -> None:
        """End the traffic: whatever is being accepted is seen through."""
        self._leaving.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        if self.failures:
            raise self.failures[0]

    def switch_off(self, *numbers: str) -> None:
        """Phones go off; what is sent to them waits."""
        with self._switching:
            for number in numbers:
                self.box.control("POST", f"phones/{number}/online", {"online": False})
                self._off.add(number)

    def switch_on(self, *numbers: str) -> None:
        """These phones are on again, and take what waits for them."""
        with self._switching:
            for number in self._off & set(numbers):
                self.box.control("POST", f"phones/{number}/online", {"online": True})
                self._off.discard(number)

    def switch_all_on(self) -> None:
        """All phones are on again."""
        self.switch_on(*list(self._off))

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        def guarded() -> None:
            try:
                work(*arguments)
            except BaseException as error:  # noqa: BLE001 - told to the main thread
                self.failures.append(error)

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _write(self, shop: Shop, chance: random.Random, pause: float) -> None:
        while not self._leaving.wait(pause * chance.uniform(0.5, 1.5)):
            shop.write_next(chance)

    def _answer(self, chance: random.Random, pause: float) -> None:
        while not self._leaving.wait(pause * chance.uniform(0.5, 1.5)):
            shop = chance.choice(self.shops)
            customer = chance.choice(shop.customers)
            with self._switching:
                if customer.number not in self._off:
                    shop.hear(customer)
