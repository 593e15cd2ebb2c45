"""A stage for what happens to links: a sandbox and a gateway of their own, an instance that meets trouble, and one
beside it that must not notice.

Whatever a scene is about, it ends with what always holds: the neighbour kept its link, no device had two sockets,
WhatsApp would have refused nothing, and each text is shown once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.support.box import Box, Phone
from tests.support.gateway import Account, Gateway
from tests.support.waiting import until

Posted = tuple[str, dict[str, Any]]
"""A webhook: its event and its data."""

LIFECYCLE = frozenset(
    {
        *("qr", "authenticated", "ready", "ready_timeout", "auth_failure", "disconnected", "restricted"),
        *("change_state", "queue_held"),
    }
)
READY: Posted = ("ready", {"status": "ready"})
QR: Posted = ("qr", {})
PAIRED: Posted = ("authenticated", {})


def lost(reason: str) -> Posted:
    """The webhook of a link that ended so."""
    return "disconnected", {"reason": reason}


@dataclass(frozen=True, slots=True)
class Counts:
    """What the sandbox counted."""

    attempts: int
    """WebSocket connections tried, refused ones too, whoever tried."""
    logins: int
    """Logins of the instance's devices that were confirmed."""
    tried: int
    """Logins of the instance's devices, refused ones too."""
    qr: int
    """Times that somebody was asked to scan, whoever."""

    def __sub__(self, other: Counts) -> Counts:
        return Counts(
            self.attempts - other.attempts, self.logins - other.logins, self.tried - other.tried, self.qr - other.qr
        )


def count(box: Box, phone: Phone) -> Counts:
    """The counters as they stand."""
    stats = box.stats()
    devices = [device for device in stats["devices"] if device["number"] == phone.number]
    return Counts(
        stats["attempts"],
        sum(device["logins"] for device in devices),
        sum(device["attempts"] for device in devices),
        stats["qrShown"],
    )


@dataclass(slots=True)
class Scene:
    """One instance and what happens to it from now on."""

    stage: Stage
    account: Account
    customer: Phone
    texts: list[str] = field(default_factory=list)
    """What was sent, in order; every one must be shown once."""
    scheduled: set[str] = field(default_factory=set)
    """Those of the texts that wait for a time of their own."""
    gone: bool = False
    """The instance was deleted in the scene."""
    _posted: int = 0
    _logged: int = 0
    _before: Counts = field(default_factory=lambda: Counts(0, 0, 0, 0))

    def begin(self) -> None:
        """What comes from now on counts."""
        self._posted = len(self._all_posted())
        self._logged = len(self._all_logged())
        self._before = count(self.stage.box, self.account.phone)

    # --- doing -------------------------------------------------------------------------------------------------------

    def say(self, what: str, **more: Any) -> dict[str, Any]:
        """The caller sends a text to the customer, who must get it before the scene ends."""
        text = f"{what}, from {self.account.id}"
        self.stage.gateway.secrets |= {text, self.customer.number}
        body = {"chatId": self.customer.number, "message": text} | more
        reply = self.stage.gateway.ok("POST", f"/instances/{self.account.id}/client/action/send-message", body)
        self.texts.append(text)
        if "sendAt" in more:
            self.scheduled.add(text)
        return reply

    def arm(self, do: dict[str, Any], times: int = 1, stanza: str | None = "login") -> str:
        """Arm a fault for this account."""
        more = {} if stanza is None else {"stanza": stanza}
        return self.stage.box.arm(do, times, number=self.account.phone.number, **more)

    def inject(self, fault: dict[str, Any]) -> None:
        """Do this to the live socket now."""
        self.account.phone.inject(fault)

    def ask(self, path: str, **body: Any) -> dict[str, Any]:
        """`POST /instances/{id}/…`, which must succeed."""
        return self.stage.gateway.ok("POST", f"/instances/{self.account.id}/{path}", body)

    def refused(self, path: str, **body: Any) -> str:
        """The text with which `POST /instances/{id}/…` is refused."""
        answer = self.stage.gateway.http("POST", f"/instances/{self.account.id}/{path}", body)
        assert answer.status_code == 400, f"{path}: {answer.status_code} {answer.text}"
        return str(answer.json()["error"])

    # --- seeing ------------------------------------------------------------------------------------------------------

    @property
    def counts(self) -> Counts:
        """What the sandbox counted since the beginning."""
        return count(self.stage.box, self.account.phone) - self._before

    @property
    def posted(self) -> list[Posted]:
        """Lifecycle webhooks since the beginning, in order, each once; pictures left out."""
        return self._all_posted()[self._posted :]

    @property
    def path(self) -> list[str]:
        """The states since the beginning, by the log."""
        moves = [line for line in self.logged if line["event"] == "state_transition"]
        for one, next_one in pairwise(moves):
            assert one["to"] == next_one["from"], "a move is missing in the log"
        return [moves[0]["from"], *(line["to"] for line in moves)] if moves else []

    @property
    def logged(self) -> list[dict[str, Any]]:
        """Machine events of the instance since the beginning."""
        return self._all_logged()[self._logged :]

    def diagnostics(self) -> dict[str, Any]:
        """`GET …/diagnostics`."""
        return self.stage.gateway.ok("GET", f"/instances/{self.account.id}/diagnostics")

    def incidents(self) -> list[str]:
        """Kinds of the incidents, oldest first."""
        return [found["kind"] for found in reversed(self.diagnostics()["incidents"])]

    # --- waiting -----------------------------------------------------------------------------------------------------

    def wait_posted(self, *expected: Posted, timeout: float = 20.0) -> None:
        """Wait for exactly these lifecycle webhooks, in this order."""
        with self._explained():
            until(lambda: len(self.posted) >= len(expected), timeout, "webhooks are missing")
        assert self.posted == list(expected)

    def wait_first_posted(self, *expected: Posted, timeout: float = 20.0) -> None:
        """Wait for these lifecycle webhooks as the first ones: what follows by itself may be there already."""
        with self._explained():
            until(lambda: len(self.posted) >= len(expected), timeout, "webhooks are missing")
        assert self.posted[: len(expected)] == list(expected)

    def wait_logged(self, enough: Callable[[list[dict[str, Any]]], bool], timeout: float = 20.0) -> None:
        """Wait until `enough` accepts the machine events since the beginning."""
        with self._explained():
            until(lambda: enough(self.logged), timeout, "the log does not say it")

    def wait_path(self, *states: str, timeout: float = 20.0) -> None:
        """Wait for exactly this way through the states."""
        with self._explained():
            until(lambda: len(self.path) >= len(states), timeout, "states are missing")
        assert self.path == list(states)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            seen = f"posted {self.posted}\npath {self.path}\n{self.counts}\n{self.stage.gateway.log_tail()}"
            raise AssertionError(f"{error}\n{seen}") from None

    def settle(self) -> None:
        """Enough happens meanwhile for what is due to show."""
        self.stage.talk(1)

    def _all_posted(self) -> list[Posted]:
        found: dict[str, Posted] = {}
        for hook in self.stage.gateway.hooks.all(instance=self.account.id):
            if hook.event in LIFECYCLE:
                data = {} if hook.event == "qr" and hook.data.get("qr") else hook.data
                found.setdefault(hook.event_id, (hook.event, data))
        return list(found.values())

    def _all_logged(self) -> list[dict[str, Any]]:
        return [line for line in self.stage.gateway.machine_events() if line.get("instanceId") == self.account.id]

    # --- the end -----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """What holds after every scene."""
        shown = [seen["text"] for seen in self.customer.wait_texts(self.texts)]
        assert sorted(shown) == sorted(self.texts), "each text once"
        in_line = [text for text in self.texts if text not in self.scheduled]
        assert [text for text in shown if text not in self.scheduled] == in_line, "in the order of sending"
        self.stage.check_neighbour()
        if not self.gone:
            self.stage.gateway.ok("DELETE", f"/instances/{self.account.id}")


@dataclass(slots=True)
class Stage:
    """A sandbox, a gateway, and an instance that nothing happens to."""

    box: Box
    gateway: Gateway
    neighbour: Account
    friend: Phone
    _said: int = 0
    _calm: tuple[int, list[str]] = (0, [])
    """Of the neighbour, when it was linked: how often it logged in, and its lifecycle webhooks."""

    def leave_alone(self) -> Stage:
        """From now on nothing happens to the neighbour."""
        self._calm = self._of_neighbour()
        return self

    def check_neighbour(self) -> None:
        """It is as it was, and can be talked with."""
        assert self.neighbour.status()["state"] == "ready"
        assert self._of_neighbour() == self._calm, "logins and webhooks of the neighbour"
        self.talk(1)

    def _of_neighbour(self) -> tuple[int, list[str]]:
        hooks = self.gateway.hooks.all(instance=self.neighbour.id)
        return count(self.box, self.neighbour.phone).tried, [hook.event for hook in hooks if hook.event in LIFECYCLE]

    def talk(self, rounds: int) -> None:
        """The neighbour and its friend write to each other."""
        for _ in range(rounds):
            self._said += 1
            there, back = f"round {self._said} from the neighbour", f"round {self._said} from its friend"
            self.gateway.secrets.add(back)
            self.neighbour.send(self.friend, there)
            self.friend.wait_texts([there])
            self.friend.send(self.neighbour.phone, back)
            self.gateway.hooks.wait("message", self.neighbour.id, after=self._said - 1)

    @contextmanager
    def scene(self, name: str, *, linked: bool = True) -> Iterator[Scene]:
        """A scene with a new instance; what must hold is looked at afterwards."""
        violations = len(self.box.stats()["violations"])
        # A new instance begins by itself: everything of it counts, unless it is to be linked first.
        stats = self.box.stats()
        account = self.gateway.create(name, events=["*"])
        scene = Scene(self, account, self.box.new_phone(), _before=Counts(stats["attempts"], 0, 0, stats["qrShown"]))
        if linked:
            account.pair()
            self.gateway.hooks.wait("ready", account.id)
            scene.begin()
        yield scene
        scene.finish()
        self.box.check_strict(violations)


@contextmanager
def open_stage(directory: Path, flags: tuple[str, ...] = (), **settings: str) -> Iterator[Stage]:
    """A stage with this sandbox and these settings; at its end the logs are looked through."""
    box = Box(directory / "sandbox", flags=flags)
    try:
        gateway = Gateway(directory / "gateway", box.start(), settings)
        try:
            gateway.start()
            neighbour = gateway.link("the-neighbour")
            gateway.hooks.wait("ready", neighbour.id)
            yield Stage(box, gateway, neighbour, box.new_phone()).leave_alone()
        finally:
            gateway.close()
    finally:
        box.close()


def link_again(scene: Scene) -> None:
    """The person links it again with the same phone; what waited goes on."""
    if scene.counts.qr:
        scene.account.scan()
    else:
        # No code is shown before someone asks.
        assert scene.stage.gateway.http("GET", f"/instances/{scene.account.id}/client/qr").status_code == 404
        scene.account.phone.type_code(pairing_code(scene))
    scene.account.wait_state("ready")
    scene.say("linked again")


def pairing_code(scene: Scene) -> str:
    """Ask for a code to type; no log may show it."""
    code = str(scene.ask("client/pairing-code", phone=scene.account.phone.number)["code"])
    scene.stage.gateway.secrets |= {code, code.replace("-", "")}
    return code


def later(seconds: float) -> int:
    """A time so far away, for `sendAt`."""
    return round((time.time() + seconds) * 1000)
