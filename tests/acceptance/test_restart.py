"""Stops and restarts: no new scan, the queue goes on, one gateway per store, exit codes."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from tests.support.gateway import Gateway
from tests.support.processes import run_wahub

pytestmark = pytest.mark.acceptance


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_restart_needs_no_scan_and_the_queue_goes_on(
    new_gateway: Callable[..., Gateway], name: str, number: signal.Signals
) -> None:
    # Far from through when it is stopped, however late that is.
    gateway = new_gateway(SEND_SPACING_MS="500").start()
    account, customer = gateway.link(name), gateway.box.new_phone()
    texts = [f"text {count} across a restart" for count in range(30)]
    for text in texts:
        account.send(customer, text)
    customer.wait_shown(lambda shown: len(shown) >= 3)

    gateway.stop(number)
    assert gateway.command.lines()[-1] == {"event": "stopped"}
    assert list((gateway.data / "run").glob("*.pid")) == []
    assert len(customer.shown()) < len(texts), "everything was sent before the stop: nothing is shown by this test"
    incoming = [f"while it was down {count}" for count in range(10)]
    gateway.secrets |= set(incoming)
    for text in incoming:
        customer.send(account.phone, text)

    gateway.settings["SEND_SPACING_MS"] = "0"
    gateway.start()
    assert gateway.wait_restored() | {"event": "restored"} == {"event": "restored", "connected": 1, "total": 1}
    assert account.status()["state"] == "ready"
    shown = customer.wait_shown(lambda seen: len(seen) >= len(texts))
    assert [seen["text"] for seen in shown] == texts
    assert customer.messages() == shown, "nothing arrived twice"
    assert len(account.phone.devices()) == 1
    hooks = gateway.hooks.wait_enough("message", account.id, lambda seen: len(seen) >= len(incoming))
    assert [hook.data["message"]["text"] for hook in hooks] == incoming


def test_a_second_gateway_on_the_same_data_ends_with_3(new_gateway: Callable[..., Gateway]) -> None:
    gateway = new_gateway().start()
    second = run_wahub(
        "serve", "--port", "0", "--data-dir", str(gateway.data), directory=gateway.directory, **gateway.box.settings
    )
    assert second.returncode == 3, second.stderr
    assert second.stdout == ""
    assert "in use" in second.stderr and "Traceback" not in second.stderr
    assert gateway.http("GET", "/readyz").status_code == 200
    assert int((gateway.data / "run" / "gateway.pid").read_text()) == gateway.command.pid
