"""What the log says of a life (contract G.3), and what it never says."""

from __future__ import annotations

import re

import pytest
from tests.support.scene import READY, Scene, Stage, lost, pairing_code

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("lifecycle")]

LIFE = [
    ("qr", {}),
    ("state_transition", {"from": "connecting", "to": "needs_qr", "reason": "qr"}),
    ("authenticated", {}),
    ("state_transition", {"from": "needs_qr", "to": "connecting", "reason": "authenticated"}),
    ("link_ended", {"reason": "restart_required", "code": 515, "stage": "reached"}),
    ("ready", {}),
    ("state_transition", {"from": "connecting", "to": "ready", "reason": "ready"}),
    ("ready_after_authenticated_ms", {"ms": int}),
    ("disconnected", {"reason": "connection_closed", "code": 428, "stage": "open"}),
    ("state_transition", {"from": "ready", "to": "disconnected", "reason": "connection_closed"}),
    ("state_transition", {"from": "disconnected", "to": "connecting", "reason": "link_started"}),
    ("ready", {}),
    ("state_transition", {"from": "connecting", "to": "ready", "reason": "ready"}),
]
COMMON = {"ts", "instanceId", "event", "level", "logger"}


def test_a_life_is_told_line_by_line(stage: Stage, name: str) -> None:
    gateway = stage.gateway
    with stage.scene(name, linked=False) as scene:
        note_qr_text(scene)
        code = pairing_code(scene)
        scene.account.phone.type_code(code)
        scene.account.wait_state("ready")
        scene.say("a text that no log repeats")
        scene.customer.wait_texts(scene.texts)
        scene.inject({"drop": {}})
        scene.account.wait_state("ready")
        scene.wait_logged(lambda seen: len(seen) >= len(LIFE))
        told = scene.logged
        assert [line["event"] for line in told] == [event for event, _ in LIFE]
        for line, (event, fields) in zip(told, LIFE, strict=True):
            found = {field: value for field, value in line.items() if field not in COMMON}
            assert found.keys() == fields.keys(), event
            assert all(found[field] == value or isinstance(found[field], int) for field, value in fields.items())
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["ts"])
    (start,) = (line for line in gateway.machine_events() if line["event"] == "process_start")
    assert (start["pid"], start["instanceCount"], start["execMode"]) == (gateway.command.pid, 0, "single")
    assert "memoryLimit" in start
    gateway.check_logs()


def test_endings_are_alerts(scene: Scene) -> None:
    scene.inject({"streamError": {"code": 401}})
    scene.wait_posted(lost("logged_out"), ("qr", {}))
    note_qr_text(scene)
    scene.wait_logged(lambda seen: seen[-1]["event"] == "qr")
    alerts = [(line["event"], line.get("kind")) for line in scene.logged if line["level"] == "warning"]
    assert alerts == [("incident", "logged_out")]
    scene.account.scan()
    scene.wait_posted(lost("logged_out"), ("qr", {}), ("authenticated", {}), READY)
    scene.stage.gateway.check_logs()


def note_qr_text(scene: Scene) -> None:
    """No log may hold the code that is shown, or a part of it."""
    scene.account.wait_qr()
    answer = scene.stage.gateway.http("GET", f"/instances/{scene.account.id}/client/qr?format=text")
    assert answer.status_code == 200
    scene.stage.gateway.secrets |= {answer.text, *(part for part in answer.text.split(",") if len(part) > 20)}
