"""`wahub serve` for tests: started, stopped, frozen and killed as a process, driven through its HTTP API.

Whatever tests send through this helper is remembered, and `check_logs` fails if it shows up in a log.
"""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.support.box import Box, Phone
from tests.support.folders import files_below, size_of, text_of
from tests.support.processes import GONE_TIMEOUT, Command, alive, wait_gone
from tests.support.receiver import WebhookReceiver
from tests.support.waiting import until

API_KEY = "acceptance-api-key-8c1f"
WEBHOOK_SECRET = "acceptance-webhook-secret-5d2e"

QUICK = {
    "MAX_SENDS_PER_MINUTE_PER_INSTANCE": "0",
    "MAX_SENDS_PER_HOUR_PER_INSTANCE": "0",
    "SEND_SPACING_MS": "0",
    "TYPING_INDICATOR_ENABLED_DEFAULT": "false",
    "MAX_QUEUE_SIZE": "2000",
    "UNKNOWN_EVIDENCE_MS": "300",
    "RETRY_BASE_BACKOFF_MS": "200",
    "RECONNECT_BASE_MS": "50",
    "RECONNECT_MAX_MS": "500",
    "RESTORE_JITTER_MS": "0,0",
    "WEBHOOK_RETRY_BASE_MS": "100",
}
"""No limits on sending, short waits."""


@dataclass(slots=True)
class Account:
    """An instance and the phone it is linked to."""

    gateway: Gateway
    id: str
    phone: Phone

    def send(self, to: Phone, text: str, key: str | None = None) -> dict[str, Any]:
        """Queue a text; returns the 202 reply."""
        answer = self.try_send(to, text, key)
        assert answer.status_code == 202, f"{answer.status_code} {answer.text}"
        return dict(answer.json())

    def try_send(self, to: Phone, text: str, key: str | None = None) -> httpx.Response:
        """Queue a text; returns whatever is answered."""
        self.gateway.secrets.add(text)
        self.gateway.secrets.add(to.number)
        body = {"chatId": to.number, "message": text} | ({"idempotencyKey": key} if key else {})
        return self.gateway.http("POST", f"/instances/{self.id}/client/action/send-message", body)

    def item(self, queue_id: str) -> dict[str, Any]:
        """One outbox item, as `GET …/request/{queueId}` shows it."""
        found = self.gateway.ok("GET", f"/instances/{self.id}/request/{queue_id}")
        return dict(found.get("data") or found) if "state" not in found else found

    def wait_item(self, queue_id: str, state: str, timeout: float = 20.0) -> dict[str, Any]:
        """Wait until an item has this state."""

        def look() -> dict[str, Any] | None:
            item = self.item(queue_id)
            return item if item["state"] == state else None

        return until(look, timeout, lambda: f"{queue_id} is not {state} but {self.item(queue_id)}")

    def status(self) -> dict[str, Any]:
        """`clientStatus`."""
        return dict(self.gateway.ok("GET", f"/instances/{self.id}/client/status")["clientStatus"])

    def wait_state(self, state: str, timeout: float = 20.0) -> dict[str, Any]:
        """Wait until the instance has this internal state."""

        def look() -> dict[str, Any] | None:
            status = self.status()
            return status if status["state"] == state else None

        return until(look, timeout, lambda: f"{self.id} is not {state}: {self.status()}\n{self.gateway.log_tail()}")

    def wait_qr(self, timeout: float = 20.0) -> bytes:
        """The picture of the current QR code, as soon as there is one."""

        def look() -> bytes | None:
            answer = self.gateway.http("GET", f"/instances/{self.id}/client/qr")
            if answer.status_code != 200:
                return None
            return base64.b64decode(answer.json()["qrCode"]["data"]["qr_code"])

        return until(look, timeout, lambda: f"{self.id} shows no QR code\n{self.gateway.log_tail()}")

    def scan(self, timeout: float = 30.0) -> None:
        """Scan the gateway's picture with the phone; if it is over by then, the next one."""

        def scanned() -> bool:
            try:
                return bool(self.phone.scan(self.wait_qr()))
            except AssertionError as error:
                if " 409 " not in str(error):
                    raise
                return False

        until(scanned, timeout, f"{self.id}: no code can be scanned")

    def pair(self) -> Account:
        """Scan the gateway's picture with the phone and wait until it is ready."""
        self.scan()
        self.wait_state("ready")
        return self


@dataclass(slots=True)
class Gateway:
    """A gateway with its own data directory; `start` may be called again after an end of any kind."""

    directory: Path
    box: Box
    settings: dict[str, str] = field(default_factory=dict)
    module: str = "wahub"
    """What is run: a test of tests puts a broken build here."""
    forked: bool = False
    """Only the first start of the shipped program loads it; what follows is forked from a process that has."""
    secrets: set[str] = field(default_factory=set)
    """What no log may contain."""
    hooks: WebhookReceiver = field(default_factory=lambda: WebhookReceiver(WEBHOOK_SECRET))
    runs: list[Command] = field(default_factory=list)
    url: str = ""
    _http: httpx.Client = field(
        default_factory=lambda: httpx.Client(timeout=30.0, trust_env=False, headers={"X-API-Key": API_KEY})
    )

    # --- the process -------------------------------------------------------------------------------------------------

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def start(self, fault: str | None = None) -> Gateway:
        """Start it and wait until it listens. `fault` arms a fault point."""
        settings = QUICK | {"API_KEY": API_KEY, "WEBHOOK_SECRET": WEBHOOK_SECRET} | self.box.settings | self.settings
        if fault is not None:
            settings |= {"WAHUB_ENV": "test", "WAHUB_FAULT": fault}
        arguments = ["serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", str(self.data)]
        number = len(self.runs) + 1
        forked = self.forked and number > 1 and self.module == "wahub"
        self.runs.append(Command(f"gateway-{number}", arguments, self.directory, settings, self.module, forked=forked))
        self.url = str(self.command.wait_said("listening")["url"]).rstrip("/")
        return self

    @property
    def command(self) -> Command:
        """The current run."""
        return self.runs[-1]

    @property
    def running(self) -> bool:
        return bool(self.runs) and self.command.code is None

    def wait_restored(self, timeout: float = 30.0) -> dict[str, Any]:
        """Wait until the instances of the last run are back."""
        return self.command.wait_said("restored", timeout)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop it cleanly."""
        code = self.command.stop(number)
        assert code == 0, f"exit code {code}\n{self.log_tail()}"

    def kill(self) -> None:
        """kill -9, and wait until its engine processes noticed."""
        engines = self.engine_pids()
        self.command.kill()
        for pid in engines:
            wait_gone(pid, GONE_TIMEOUT, "the engine process outlives its gateway")

    def freeze(self) -> None:
        self.command.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.command.send_signal(signal.SIGCONT)

    def engine_pids(self) -> list[int]:
        """Processes named by `run/engine-*.pid` that are alive."""
        named = [text_of(file) for file in sorted((self.data / "run").glob("engine-*.pid"))]
        return [int(text) for text in named if text and alive(int(text))]

    def spooled(self) -> list[str]:
        """The engine's files, below its spool, in which received messages wait. They come and go."""
        spool = self.data / "spool"
        return [str(file.relative_to(spool)) for file in files_below(spool) if size_of(file)]

    def close(self) -> None:
        """End what runs (cleanly, to save its peers from a broken line), close sockets, look at the logs."""
        try:
            if self.running:
                self.thaw()
                self.stop()
            self.check_logs()
        finally:
            for command in self.runs:
                command.kill()
            self.hooks.close()
            self._http.close()

    def log_tail(self) -> str:
        return f"--- {self.command.name}:\n{self.command.log_tail()}"

    def machine_events(self) -> list[dict[str, Any]]:
        """The machine events of all runs (contract G.3). Every line of a log must be JSON, but for one half written."""
        lines = [
            line for run in self.runs for line in run.err.read_text(errors="replace").rpartition("\n")[0].splitlines()
        ]
        return [found for line in lines if (found := json.loads(line)).get("logger") == "wahub.events"]

    def check_logs(self) -> None:
        """No secret, text, QR code or number in any log or on stdout; stdout has JSON lines only."""
        secrets = self.secrets | {API_KEY, WEBHOOK_SECRET}
        for command in self.runs:
            if command.code == 0:
                assert all("event" in line for line in command.lines())
            said = command.err.read_text(errors="replace") + command.out.read_text(errors="replace")
            # Not the secret itself in the message: it would end in the log of the tests.
            found = [f"{len(secret)} characters" for secret in secrets if len(secret) >= 8 and secret in said]
            assert not found, f"{command.name} logged {len(found)} secrets: {found}"
            traces = [line for line in said.splitlines() if "Traceback" in line]
            assert not traces, f"{command.name} logged a traceback:\n" + "\n".join(traces[:3]) + command.log_tail(60)

    # --- the API -----------------------------------------------------------------------------------------------------

    def http(self, method: str, path: str, body: dict[str, Any] | None = None, **more: Any) -> httpx.Response:
        """One request with the API key."""
        return self._http.request(method, self.url + path, json=body, **more)

    def ok(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request that must succeed."""
        answer = self.http(method, path, body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:300]}\n{self.log_tail()}"
        found = answer.json()
        assert isinstance(found, dict)
        return found

    def create(self, name: str, events: list[str] | None = None) -> Account:
        """Create an instance for a new phone; not linked yet."""
        phone = self.box.new_phone()
        self.secrets.add(phone.number)
        webhook = {"url": self.hooks.url} | ({"events": events} if events is not None else {})
        made = self.ok("POST", "/instances", {"name": name, "webhook": webhook})["instance"]
        return Account(self, made["id"], phone)

    def link(self, name: str) -> Account:
        """Create an instance and link it to a new phone."""
        return self.create(name).pair()


def ids_of(account: Account, replies: Iterable[dict[str, Any]]) -> list[str]:
    """The WhatsApp message ids of queued texts, in order."""
    return [str(account.item(reply["queueId"])["messageId"]) for reply in replies]


def once_each(shown: Iterable[dict[str, Any]], field: Callable[[dict[str, Any]], Any]) -> bool:
    """Whether no two of these agree in `field`."""
    values = [field(seen) for seen in shown]
    return len(values) == len(set(values))
