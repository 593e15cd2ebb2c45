"""Twenty instances in one engine process: restarts and outages that hit all. All return, nobody scans."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from tests.support.box import Box, Phone
from tests.support.gateway import Account, Gateway
from tests.support.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("lifecycle-many")]

COUNT = 20

Told = dict[str, list[str]]


@dataclass(slots=True)
class Town:
    """Accounts that all write to one customer."""

    box: Box
    gateway: Gateway
    accounts: list[Account]
    customer: Phone
    said: int = 0

    def numbers(self, what: str) -> dict[str, int]:
        """A counter of each account's devices at the sandbox."""
        own = {account.phone.number: 0 for account in self.accounts}
        for device in self.box.stats()["devices"]:
            if device["number"] in own:
                own[device["number"]] += device[what]
        return own

    def wait_back(self, timeout: float = 40.0) -> None:
        """Wait until every instance is ready and has its one link."""

        def all_ready() -> bool:
            states = {found["status"] for found in self.gateway.http("GET", "/instances").json()}
            return states == {"ready"} and self.box.stats()["connections"] == COUNT

        until(all_ready, timeout, lambda: f"not all are back: {self.gateway.http('GET', '/instances').json()}")

    def send(self) -> list[str]:
        """A text from each account."""
        self.said += 1
        texts = [f"text {self.said} from {account.id}" for account in self.accounts]
        for account, text in zip(self.accounts, texts, strict=True):
            account.send(self.customer, text)
        return texts

    def told(self) -> Told:
        """The lifecycle webhooks of each account."""
        found: Told = {account.id: [] for account in self.accounts}
        for hook in self.gateway.hooks.all():
            if hook.event in ("qr", "authenticated", "ready", "disconnected"):
                found[hook.instance].append(hook.event)
        return found

    def wait_quiet(self) -> Told:
        """Wait until nothing is queued or on the wire (what is shown may be), and all have said that they are ready."""

        def quiet() -> bool:
            paths = (f"/instances/{account.id}/queue" for account in self.accounts)
            ready = all(events[-1:] == ["ready"] for events in self.told().values())
            return ready and all(self.gateway.ok("GET", path)["depth"] == 0 for path in paths)

        until(quiet, 20, "something is still queued, or not told")
        return self.told()

    def wait_told(self, before: Told, *more: str) -> None:
        """Wait for these lifecycle webhooks of every account; a text may be shown before they are posted."""
        expected = {account: [*events, *more] for account, events in before.items()}
        until(lambda: self.told() == expected, 20, lambda: f"not {more} after {before}, but {self.told()}")

    def check(self, texts: list[str]) -> None:
        """Each of these is shown once, nobody was asked to scan, no device had two links."""
        shown = [seen["text"] for seen in self.customer.wait_texts(texts, timeout=40)]
        assert len(shown) == len(set(shown)) == self.said * COUNT
        stats = self.box.stats()
        assert (stats["maxConnectionsPerDevice"], stats["violations"], stats["iq"]["unknown"]) == (1, [], [])
        assert all(len(account.phone.devices()) == 1 for account in self.accounts)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    directory = tmp_path_factory.mktemp("town")
    box = Box(directory / "sandbox", keep_state=True)
    try:
        # As fast as it may: how long the defaults take is for the benchmarks.
        gateway = Gateway(directory / "gateway", box.start(), {"RESTORE_MIN_FREE_MEM_MB": "0"}, forked=True)
        try:
            gateway.start()

            def link(name: str) -> Account:
                account = gateway.create(name)
                # The webhook of a code that was scanned before it could be posted is dropped.
                gateway.hooks.wait("qr", account.id, timeout=30)
                return account.pair()

            with ThreadPoolExecutor(5) as pool:
                accounts = list(pool.map(link, [f"shop-{number:02}" for number in range(COUNT)]))
            yield Town(box, gateway, accounts, box.new_phone())
        finally:
            gateway.close()
    finally:
        box.close()


def test_twenty_share_an_engine_process_and_none_gets_what_is_anothers(town: Town) -> None:
    assert len(town.gateway.engine_pids()) == 1
    friends = [town.box.new_phone() for _ in town.accounts]
    for account, friend in zip(town.accounts, friends, strict=True):
        town.gateway.secrets.add(f"to {account.id} alone")
        account.send(friend, f"from {account.id} alone")
        friend.send(account.phone, f"to {account.id} alone")
    for account, friend in zip(town.accounts, friends, strict=True):
        (seen,) = friend.wait_texts([f"from {account.id} alone"])
        assert seen["text"] == f"from {account.id} alone"
        town.gateway.hooks.wait("message", account.id)
        received = [hook.data["message"]["text"] for hook in town.gateway.hooks.all("message", account.id)]
        assert received == [f"to {account.id} alone"]
    assert len(town.gateway.engine_pids()) == 1


def test_after_a_restart_all_are_ready_again_without_a_scan(town: Town) -> None:
    told = town.wait_quiet()
    logins, scans = town.numbers("attempts"), town.box.stats()["qrShown"]
    texts = town.send()
    town.gateway.stop()
    town.gateway.start()
    with health_watched(town.gateway) as answers:
        listed = town.gateway.http("GET", "/instances").json()
        assert len(listed) == COUNT, "those that wait for their turn are listed"
        said = town.gateway.wait_restored()
        town.wait_back()
        # All may have been back before the first look.
        until(lambda: len(answers) >= 3, 20, "health is not answered")
    assert said | {"event": "restored"} == {"event": "restored", "connected": COUNT, "total": COUNT}
    assert set(answers) == {200}
    assert town.numbers("attempts") == {number: found + 1 for number, found in logins.items()}
    assert town.box.stats()["qrShown"] == scans
    assert f"Boot sequence complete: {COUNT}/{COUNT} accounts connected" in town.gateway.command.err.read_text()
    texts += town.send()
    town.check(texts)
    town.wait_told(told, "ready")


def test_whatsapp_away_for_all_is_probed_by_one_and_all_return(town: Town) -> None:
    told = town.wait_quiet()
    before, logins = town.box.stats(), town.numbers("logins")
    outage = town.box.arm({"gone": {"ms": 0}})
    until(lambda: states(town) == {"disconnected"}, 20, lambda: f"{states(town)}")
    texts = town.send()
    until(lambda: town.box.stats()["attempts"] - before["attempts"] >= 5, 30, "nobody tries")
    knocks = town.box.stats()["attempts"] - before["attempts"]
    assert knocks < COUNT, "one stands for all, or each would have tried by then"
    town.box.disarm(outage)
    # Probes go on until the outage ends, however long that takes.
    knocks = town.box.stats()["attempts"] - before["attempts"]
    town.wait_back()
    after = town.box.stats()
    assert after["qrShown"] == before["qrShown"]
    assert town.numbers("logins") == {number: found + 1 for number, found in logins.items()}
    assert after["attempts"] - before["attempts"] <= knocks + COUNT + 3, "one attempt each, and a probe or two"
    town.check(texts)
    town.wait_told(told, "disconnected", "ready")


def test_whatsapp_killed_and_started_again_is_found_by_all(town: Town) -> None:
    told = town.wait_quiet()
    town.box.kill()
    until(lambda: states(town) == {"disconnected"}, 20, lambda: f"{states(town)}")
    texts = town.send()
    first = town.accounts[0]
    (waiting,) = town.gateway.ok("GET", f"/instances/{first.id}/queue")["items"]
    assert first.item(waiting["id"])["state"] == "queued"
    town.box.start()
    town.wait_back()
    first.wait_item(waiting["id"], "sent")
    stats = town.box.stats()
    assert (stats["qrShown"], stats["logins"]) == (0, COUNT), "since its start"
    assert set(town.numbers("logins").values()) == {1}
    town.check(texts)
    town.wait_told(told, "disconnected", "ready")


def states(town: Town) -> set[str]:
    """The public states of all instances that are not just being connected."""
    found = {instance["status"] for instance in town.gateway.http("GET", "/instances").json()}
    # A link that is being opened shows as initializing for a moment.
    return found - {"initializing"}


@contextmanager
def health_watched(gateway: Gateway) -> Iterator[list[int]]:
    """Ask `/health` again and again meanwhile; gives the answers."""
    answers: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            answers.append(gateway.http("GET", "/health").status_code)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()
