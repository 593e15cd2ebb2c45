"""`wahub sandbox` and the people in it, for tests: driven through its control API, as anybody could."""

from __future__ import annotations

import base64
import itertools
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.support.ports import HeldPort
from tests.support.processes import Command
from tests.support.waiting import until

_NUMBERS = itertools.count(1)


@dataclass(slots=True)
class Phone:
    """A person with a phone."""

    box: Box
    number: str
    seq: int = 0
    """How far `next_messages` has read."""

    def send(self, to: Phone, text: str) -> str:
        """Send a text; returns its message id."""
        body = {"to": to.number, "text": text}
        return str(self.box.control("POST", f"phones/{self.number}/send", body)["messageId"])

    def scan(self, png: bytes) -> dict[str, Any]:
        """Scan a picture of a QR code; returns the linked device."""
        return self.box.control("POST", f"phones/{self.number}/scan", {"png": base64.b64encode(png).decode()})

    def devices(self) -> list[dict[str, Any]]:
        """Linked devices."""
        return list(self.box.control("GET", f"phones/{self.number}")["devices"])

    def connected(self) -> bool:
        """Whether a linked device has a live socket."""
        return any(device["connected"] for device in self.devices())

    def type_code(self, code: str) -> dict[str, Any]:
        """Type a linking code; returns the linked device."""
        return self.box.control("POST", f"phones/{self.number}/pair", {"code": code})

    def switch(self, *, on: bool) -> None:
        """Switch the phone on or off."""
        self.box.control("POST", f"phones/{self.number}/online", {"online": on})

    def inject(self, fault: dict[str, Any]) -> None:
        """Do this to the live socket of its only linked device."""
        (device,) = self.devices()
        self.box.control("POST", f"phones/{self.number}/devices/{device['id']}/inject", {"fault": fault})

    def unlink(self) -> None:
        """The person removes every linked device."""
        for device in self.devices():
            self.box.control("DELETE", f"phones/{self.number}/devices/{device['id']}")

    def messages(self) -> list[dict[str, Any]]:
        """Everything the phone decrypted, also arrivals of an id it had seen before."""
        return list(self.box.control("GET", f"phones/{self.number}/messages?after=0")["messages"])

    def shown(self) -> list[dict[str, Any]]:
        """What the person sees: each message id once, without copies of what they wrote themselves."""
        return [seen for seen in self.messages() if not seen["duplicate"] and not seen.get("fromMe")]

    def wait_shown(
        self, enough: Callable[[list[dict[str, Any]]], bool], timeout: float = 30.0, what: str = "not enough messages"
    ) -> list[dict[str, Any]]:
        """Wait by long-poll until `enough` accepts what is shown; returns it."""
        deadline = time.monotonic() + timeout
        while True:
            found = self.messages()
            shown = [seen for seen in found if not seen["duplicate"] and not seen.get("fromMe")]
            if enough(shown):
                return shown
            left = deadline - time.monotonic()
            assert left > 0, f"after {timeout:.0f} s: {what}; {len(shown)} shown"
            after = found[-1]["seq"] if found else 0
            self.box.control("GET", f"phones/{self.number}/messages?after={after}&wait={int(min(left, 5.0) * 1000)}")

    def wait_texts(self, texts: Iterable[str], timeout: float = 30.0) -> list[dict[str, Any]]:
        """Wait until all these texts are shown; returns everything shown."""
        wanted = set(texts)
        return self.wait_shown(
            lambda shown: wanted <= {seen["text"] for seen in shown}, timeout, f"{len(wanted)} texts were expected"
        )


@dataclass(slots=True)
class Box:
    """A sandbox process. `start` may be called again after `stop` or `kill` and takes the same port."""

    directory: Path
    keep_state: bool = False
    flags: tuple[str, ...] = ()
    """More flags of the command."""
    forgiven: set[str] = field(default_factory=set)
    """Kinds of violation that the running test provokes on purpose."""
    _command: Command | None = None
    _facts: dict[str, Any] = field(default_factory=dict)
    _http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60.0, trust_env=False))
    _runs: int = 0
    _port: HeldPort = field(default_factory=HeldPort)

    def start(self) -> Box:
        """Start it and wait until it listens."""
        self._runs += 1
        arguments = ["sandbox", "--port", str(self._port.number), "--seed", "acceptance", *self.flags]
        if self.keep_state:
            arguments += ["--state", str(self.directory / "state")]
        self._command = Command(f"sandbox-{self._runs}", arguments, self.directory, {})
        self._facts = self._command.wait_said("listening")
        return self

    def stop(self) -> None:
        """Stop it and wait."""
        if self._command is not None and self._command.code is None:
            assert self._command.stop(signal.SIGTERM) == 0, self._command.log_tail()

    def kill(self) -> None:
        """kill -9: WhatsApp is gone without a word."""
        if self._command is not None:
            self._command.kill()

    def close(self) -> None:
        """Kill what runs, for teardown."""
        if self._command is not None:
            self._command.kill()
        self._http.close()
        self._port.close()

    @property
    def settings(self) -> dict[str, str]:
        """What points a gateway at this sandbox."""
        return {
            "WAHUB_WA_URL": self._facts["wsUrl"],
            "WAHUB_WA_TRUST_ROOT": self._facts["trustRoot"],
            "WAHUB_WA_CA_FILE": self._facts["caFile"],
        }

    def control(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One call of the control API; an error answer fails the test."""
        root = str(self._facts["controlUrl"]).rstrip("/").removesuffix("/control")
        answer = self._http.request(method, f"{root}/control/{path}", json=body)
        assert answer.is_success, f"{method} /control/{path}: {answer.status_code} {answer.text[:300]}"
        found = answer.json()
        assert isinstance(found, dict)
        return found

    def new_phone(self, name: str | None = None) -> Phone:
        """A person nobody has heard of before."""
        number = f"2012{next(_NUMBERS):07}"
        self.control("POST", "phones", {"number": number, "name": name or f"Person {number[-3:]}"})
        return Phone(self, number)

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    def arm(self, do: dict[str, Any], times: int = 1, **match: Any) -> str:
        """Arm a fault (docs/sandbox.md); 0 times is no limit. Returns its id."""
        return str(self.control("POST", "faults", {"match": match, "do": do, "times": times})["id"])

    def disarm(self, fault: str) -> None:
        """End an armed fault, if it has not ended by itself."""
        if fault in {armed["id"] for armed in self.control("GET", "faults")["faults"]}:
            self.control("DELETE", f"faults/{fault}")

    # --- what was seen -----------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Counters, violations and unknown queries since the start."""
        return self.control("GET", "stats")

    def check_strict(self, already: int) -> None:
        """Fail on violations after the first `already`, except kinds in `forgiven`, and on any unknown query."""
        stats = self.stats()
        new = [found for found in stats["violations"][already:] if found["kind"] not in self.forgiven]
        assert new == [], "WhatsApp would have refused this"
        assert stats["iq"]["unknown"] == [], "queries that the sandbox does not know"
        assert stats["maxConnectionsPerDevice"] <= 1, "two live sockets of one device"

    def wait_stats(self, enough: Callable[[dict[str, Any]], bool], timeout: float, what: str) -> None:
        """Wait until `enough` accepts the statistics."""
        until(lambda: enough(self.stats()), timeout, what)
