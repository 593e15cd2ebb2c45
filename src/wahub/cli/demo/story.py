"""The steps of the demo, and what it does when one of them fails."""

from __future__ import annotations

import base64
import secrets
import signal
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import httpx

from wahub.cli.demo.children import Child, ChildFailedError
from wahub.cli.demo.receiver import Receiver, Webhook
from wahub.cli.demo.screen import Screen, qr_art

# Numbers that are reserved for fiction.
SHOP = "12025550101"
CUSTOMER = "12025550102"
INSTANCE = "demo"
QUESTION = "Hello from wahub! Does this reach you?"
ANSWER = "Yes, it does. 👋"

START_TIMEOUT = 60.0
INSTALL_TIMEOUT = 600.0
STEP_TIMEOUT = 30.0
_STEPS = 9
_POLL = 0.05
_INTERRUPTED = 128 + signal.SIGINT


class StepFailedError(Exception):
    """A step did not do what it should. The text says what was expected."""


class InterruptedByUserError(BaseException):
    """Ctrl-C, or a request to stop. Not an Exception: no step may take it for a failure."""


def run_demo(*, once: bool) -> int:
    """Run the demo; returns the exit code.

    0 after a round trip (with `once` at once, else when somebody stops it), 1 if a step failed, 130 if somebody
    stopped it before the round trip was over.
    """
    screen = Screen(_STEPS)
    with _signals_raise(), ExitStack() as cleanup:
        home = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="wahub-demo-", ignore_cleanup_errors=True))
        demo = Demo(Path(home), screen)
        cleanup.callback(demo.stop)
        try:
            return demo.run(once=once)
        finally:
            # From here on everything stops; a second Ctrl-C must not leave half of it running.
            _ignore_signals()


class Demo:
    """The round trip, and what it started."""

    def __init__(self, home: Path, screen: Screen) -> None:
        self._home = home
        self._screen = screen
        self._secret = secrets.token_hex(16)
        self._children: list[Child] = []
        self._receiver: Receiver | None = None
        self._http = httpx.Client(timeout=STEP_TIMEOUT, trust_env=False)
        self._sandbox_url = ""
        self._gateway_url = ""

    def run(self, *, once: bool) -> int:
        """Tell the story; returns the exit code."""
        finished = False
        try:
            self._round_trip()
            finished = True
            self._screen.say(f"\nThe round trip worked. {self._screen.elapsed} in all.")
            if not once:
                self._stay()
        except InterruptedByUserError:
            self._screen.say("\nStopping.")
            return 0 if finished else _INTERRUPTED
        except (StepFailedError, ChildFailedError, httpx.HTTPError, OSError) as error:
            self._explain(error)
            return 1
        return 0

    def stop(self) -> None:
        """Stop everything that was started; the gateway before the sandbox it is connected to."""
        for child in reversed(self._children):
            child.stop()
        if self._receiver is not None:
            self._receiver.close()
        self._http.close()

    # --- the steps ---------------------------------------------------------------------------------------------------

    def _round_trip(self) -> None:
        self._screen.say("wahub demo: a gateway, WhatsApp in a box, and two phones, all on this machine.\n")
        self._start_sandbox()
        receiver = self._start_receiver()
        self._start_gateway()
        with self._screen.step("Two people get phones") as step:
            for number, name in ((SHOP, "Shop"), (CUSTOMER, "Customer")):
                self._control("POST", "phones", {"number": number, "name": name})
            step.note = f"shop +{SHOP}, customer +{CUSTOMER}"
        with self._screen.step("Create an instance") as step:
            self._hub("POST", "", {"name": INSTANCE, "webhook": {"url": receiver.url}})
            step.note = f"POST /instances, id {INSTANCE}"
        self._link(receiver)
        self._message_out()
        self._message_in(receiver)

    def _start_sandbox(self) -> None:
        with self._screen.step("Start the sandbox (wahub sandbox)") as step:
            facts = self._start("sandbox", ["sandbox", "--port", "0"], {}, START_TIMEOUT)
            self._sandbox_url = str(facts["controlUrl"]).rstrip("/").removesuffix("/control")
            self._whatsapp = {
                "WAHUB_WA_URL": str(facts["wsUrl"]),
                "WAHUB_WA_TRUST_ROOT": str(facts["trustRoot"]),
                "WAHUB_WA_CA_FILE": str(facts["caFile"]),
            }
            step.note = self._sandbox_url

    def _start_receiver(self) -> Receiver:
        self._receiver = Receiver(self._secret)
        return self._receiver

    def _start_gateway(self) -> None:
        with self._screen.step("Start the gateway (wahub serve)") as step:
            settings = self._whatsapp | {"WEBHOOK_SECRET": self._secret}
            arguments = ["serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", str(self._home / "data")]
            self._gateway_url = str(self._start("gateway", arguments, settings, INSTALL_TIMEOUT)["url"]).rstrip("/")
            step.note = self._gateway_url

    def _start(self, name: str, arguments: list[str], settings: dict[str, str], timeout: float) -> dict[str, Any]:
        child = Child(name, arguments, self._home, settings)
        self._children.append(child)

        def still_waiting() -> None:
            self._screen.say(f"         the {name} is still starting; the first start fetches the engine's libraries")

        return child.wait_ready(timeout, still_waiting)

    def _link(self, receiver: Receiver) -> None:
        with self._screen.step("Fetch the QR code of the instance") as step:
            png = self._wait_for_qr()
            step.note = "GET /instances/demo/client/qr"
            try:
                step.detail = "\n" + qr_art(png)
            except ValueError as error:
                raise StepFailedError(f"the gateway's QR code cannot be read: {error}") from error
        with self._screen.step("The shop's phone scans the picture") as step:
            self._control("POST", f"phones/{SHOP}/scan", {"png": base64.b64encode(png).decode()})
            ready = self._webhook(receiver, "ready", lambda _: True)
            step.note = f"webhook ready, {_signature(ready)}"

    def _wait_for_qr(self) -> bytes:
        deadline = time.monotonic() + STEP_TIMEOUT
        while time.monotonic() < deadline:
            answer = self._http.get(f"{self._gateway_url}/instances/{INSTANCE}/client/qr")
            if answer.status_code == 200:
                return base64.b64decode(answer.json()["qrCode"]["data"]["qr_code"])
            self._check_children()
            time.sleep(_POLL)
        raise StepFailedError(f"no QR code within {STEP_TIMEOUT:.0f} s")

    def _message_out(self) -> None:
        with self._screen.step("Send a text to the customer") as step:
            path = f"{INSTANCE}/client/action/send-message"
            queued = self._hub("POST", path, {"chatId": CUSTOMER, "message": QUESTION})
            step.note = f"202, queueId {str(queued['queueId'])[:12]}…"
        with self._screen.step("The customer's phone decrypts and shows it") as step:
            shown = self._wait_on_phone(CUSTOMER)
            if (shown["text"], shown["from"]) != (QUESTION, SHOP):
                raise StepFailedError("the customer's phone shows another text than the one that was sent")
            step.note = f"“{shown['text']}”"

    def _wait_on_phone(self, number: str) -> dict[str, Any]:
        deadline = time.monotonic() + STEP_TIMEOUT
        while time.monotonic() < deadline:
            seen = self._control("GET", f"phones/{number}/messages?after=0&wait=1000")["messages"]
            if seen:
                return dict(seen[0])
            self._check_children()
        raise StepFailedError(f"the phone showed no message within {STEP_TIMEOUT:.0f} s")

    def _message_in(self, receiver: Receiver) -> None:
        with self._screen.step("The customer answers, the webhook arrives") as step:
            self._control("POST", f"phones/{CUSTOMER}/send", {"to": SHOP, "text": ANSWER})
            webhook = self._webhook(receiver, "message", _is_the_answer)
            step.note = f"“{webhook.data['message']['text']}”, {_signature(webhook)}"

    def _webhook(self, receiver: Receiver, event: str, wanted: Any) -> Webhook:
        deadline = time.monotonic() + STEP_TIMEOUT
        while time.monotonic() < deadline:
            webhook = receiver.wait_for(event, wanted, 0.5)
            if webhook is not None:
                if not webhook.genuine:
                    raise StepFailedError(f"the webhook {event} came with a wrong signature")
                return webhook
            self._check_children()
        raise StepFailedError(f"no webhook {event} within {STEP_TIMEOUT:.0f} s")

    # --- afterwards --------------------------------------------------------------------------------------------------

    def _stay(self) -> None:
        assert self._receiver is not None
        self._receiver.on_event = self._show_webhook
        self._screen.say(
            textwrap.dedent(f"""
            It stays up until Ctrl-C.  Gateway {self._gateway_url}   Sandbox {self._sandbox_url}/control

            Send another text:
                curl -s {self._gateway_url}/instances/{INSTANCE}/client/action/send-message \\
                     -H 'Content-Type: application/json' -d '{{"chatId":"{CUSTOMER}","message":"And again"}}'
            See what the customer's phone shows:
                curl -s '{self._sandbox_url}/control/phones/{CUSTOMER}/messages?after=0'
            Let the customer write; the webhook appears here:
                curl -s {self._sandbox_url}/control/phones/{CUSTOMER}/send \\
                     -H 'Content-Type: application/json' -d '{{"to":"{SHOP}","text":"One more question"}}'
            """)
        )
        while True:
            self._check_children()
            threading.Event().wait(0.5)

    def _show_webhook(self, webhook: Webhook) -> None:
        message = webhook.data.get("message")
        text = f": “{message.get('text')}” from +{message.get('from')}" if isinstance(message, dict) else ""
        self._screen.say(f"webhook {webhook.event}{text} ({_signature(webhook)})")

    def _explain(self, error: Exception) -> None:
        self._screen.say(f"\nThe demo failed: {str(error) or type(error).__name__}")
        ended = [child for child in self._children if child.ended]
        for child in ended or self._children[-1:]:
            self._screen.say(f"\nThe last lines of the {child.name}'s log:")
            self._screen.block(child.log_tail() or "(empty)")

    # --- the two interfaces ------------------------------------------------------------------------------------------

    def _check_children(self) -> None:
        for child in self._children:
            child.check()

    def _control(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._request(method, f"{self._sandbox_url}/control/{path}", body)

    def _hub(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._request(method, f"{self._gateway_url}/instances/{path}".rstrip("/"), body)

    def _request(self, method: str, url: str, body: dict[str, Any] | None) -> dict[str, Any]:
        answer = self._http.request(method, url, json=body)
        if answer.is_error:
            self._check_children()
            raise StepFailedError(f"{method} {httpx.URL(url).path} answered {answer.status_code}: {answer.text[:300]}")
        found = answer.json()
        assert isinstance(found, dict)
        return found


def _is_the_answer(webhook: Webhook) -> bool:
    message = webhook.data.get("message")
    return isinstance(message, dict) and message.get("text") == ANSWER and message.get("from") == CUSTOMER


def _signature(webhook: Webhook) -> str:
    return "signature right" if webhook.genuine else "signature WRONG"


_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Inside, the signals that ask to stop raise InterruptedByUserError; afterwards they do what they did before."""

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        raise InterruptedByUserError

    before = {number: signal.signal(number, interrupted) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_signals() -> None:
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
