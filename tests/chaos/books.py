"""The three ledgers of a run, collected from the gateway, the phones and the webhook receiver when all has settled."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.chaos.town import Shop, Town
from tests.chaos.verdict import MARKS, Fate, Heard, Ledgers, Seen, Told
from tests.support.box import Phone
from tests.support.waiting import until

FINAL = ("sent", "failed", "expired", "cancelled")
WEBHOOK_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Books:
    """Of one town. `read_upto`: what phones had seen before the run, by number; it is no part of the ledgers."""

    town: Town
    read_upto: Mapping[str, int] = field(default_factory=dict)

    def settle(self, patience: float) -> int:
        """Wait until every item has a fate; those that were given up are sent again, as a caller would. How many."""
        gateway, deadline = self.town.gateway, time.monotonic() + patience
        left = {(promise.queue_id, shop.account.id) for shop in self.town.shops for promise in shop.promises}
        resolved = 0
        while left and time.monotonic() < deadline:
            for queue_id, instance in sorted(left):
                path = f"/instances/{instance}/request/{queue_id}"
                answer = gateway.http("GET", path)
                item = answer.json()
                if answer.status_code == 404 or item["state"] in FINAL:
                    left.discard((queue_id, instance))
                elif item["state"] == "unknown" and item["final"]:
                    gateway.ok("POST", f"{path}/resolve", {"as": "resend"})
                    resolved += 1
        return resolved

    def ledgers(self, *, least: str = "server") -> Ledgers:
        """Everything, once the webhooks are there; each sent item is waited for until it has at least this mark."""
        shops = self.town.shops
        promises = [promise for shop in shops for promise in shop.promises]
        written = {number: texts for shop in shops for number, texts in shop.written.items()}
        fates = dict(fate for shop in shops for fate in self._fates(shop))
        self._wait_webhooks(fates, sum(map(len, written.values())), MARKS.index(least))
        seen = [one for shop in shops for customer in shop.customers for one in self._seen(customer)]
        return Ledgers(promises, fates, seen, self._told(), written, self._heard(written))

    def _seen(self, customer: Phone) -> Iterator[Seen]:
        for one in customer.messages():
            if not one.get("fromMe") and one["seq"] > self.read_upto.get(customer.number, 0):
                yield Seen(customer.number, one["messageId"], one["text"], one["duplicate"])

    def _fates(self, shop: Shop) -> Iterator[tuple[str, Fate]]:
        for promise in shop.promises:
            answer = self.town.gateway.http("GET", f"/instances/{shop.account.id}/request/{promise.queue_id}")
            if answer.status_code == 200:
                item = answer.json()
                yield promise.queue_id, Fate(item["state"], item["messageId"])

    def _wait_webhooks(self, fates: dict[str, Fate], written: int, least: int) -> None:
        """Give the dispatcher time for what is left; the verdict says what is missing."""
        sent = {queue_id for queue_id, fate in fates.items() if fate.state == "sent"}
        hooks = self.town.gateway.hooks

        def all_there() -> bool:
            marked = {told.queue_id for told in self._told() if MARKS.index(told.delivery) >= least}
            return sent <= marked and len({hook.data["message"]["text"] for hook in hooks.all("message")}) >= written

        with contextlib.suppress(AssertionError):
            until(all_there, WEBHOOK_PATIENCE, "webhooks are missing")

    def _told(self) -> list[Told]:
        return [
            Told(hook.event_id, hook.data["queueId"], hook.data["id"], hook.data["delivery"])
            for hook in self.town.gateway.hooks.all("message_ack")
        ]

    def _heard(self, written: dict[str, list[str]]) -> list[Heard]:
        sender = {text: number for number, texts in written.items() for text in texts}
        heard = []
        for hook in self.town.gateway.hooks.all("message"):
            message = hook.data["message"]
            heard.append(Heard(hook.event_id, message["id"], sender.get(message["text"], "?"), message["text"]))
        return heard
