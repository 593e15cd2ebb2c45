"""What the log shows of numbers and of ids."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable

import pytest

from wahub.domain.ids import message_id
from wahub.telemetry import mask_event, mask_numbers

_CHANCE = random.Random(20_260_105)


def _hex(digits: int) -> str:
    """With a letter in it, as nearly all have."""
    while (found := f"{_CHANCE.getrandbits(4 * digits):0{digits}x}").isdecimal():
        pass
    return found


_MAKERS: dict[str, Callable[[], str]] = {
    "event": lambda: _hex(32),
    "ours": lambda: message_id("491", _CHANCE.randbytes(16)),
    "iphone": lambda: "3A" + _hex(18).upper(),
    "android": lambda: _hex(32).upper(),
    "contact": lambda: "c_" + _hex(20),
}
_PLACES = (
    "{}",
    "[2026-01-05T10:00:00.000Z] GET /instances/shop/messages/{}/media",
    "incoming message id={} from=***4599 type=text",
    "{}-queue",
    "('{}', 1)",
)


@pytest.mark.parametrize("kind", _MAKERS)
def test_ids_stay_whole(kind: str) -> None:
    for _ in range(1_000):
        made = _MAKERS[kind]()
        for place in _PLACES:
            line = place.format(made)
            assert mask_numbers(line) == line


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "+{}",
        "{}@c.us",
        "{}:12@s.whatsapp.net",
        "{}-1600000000@g.us",
        "shop{}",
        "WASP-{}-abc",
        "c_{}",
        "deadbeef{}",
        "{}abcdef",
        "3EB0{}",
        "/instances/WASP-{}/client/status?x={}",
        "%2B{}",
        "é{}",
        "{}.0",
    ],
)
def test_numbers_are_cut_wherever_they_stand(around: str) -> None:
    for _ in range(1_000):
        number = str(_CHANCE.randrange(10 ** _CHANCE.randrange(7, 10), 10 ** _CHANCE.randrange(10, 14)))
        assert 7 < len(number) <= 15
        shown = mask_numbers(around.format(number, number))
        assert number not in shown
        assert number[:-4] not in shown
        assert f"***{number[-4:]}" in shown


@pytest.mark.parametrize("digits", [7, 15, 18, 20, 22, 32, 40])
def test_a_run_of_digits_is_no_id_whatever_its_length(digits: int) -> None:
    run = "1234567890" * 4
    assert mask_numbers(f"id={run[:digits]} c_{run[:20]}") == f"id=***{run[:digits][-4:]} c_***{run[:20][-4:]}"


def test_events_keep_ids_and_lose_numbers_and_private_fields() -> None:
    line = {"event": "sent", "event_id": "a1234567890bcdef" * 2, "ts": "20260105", "to": "12025550102", "text": "hello"}
    assert mask_event(None, "info", dict(line)) == {**line, "to": "***0102", "text": "[REDACTED]"}


_TALKS = """
import logging, os, structlog
from wahub.telemetry import configure
configure("info")
log = structlog.get_logger("wahub.ours")
log.debug("unsaid")
log.warning("call of 4915551234599", text="private", number=3)
logging.getLogger("theirs").warning("call of 4915551234599")
reader, writer = os.pipe()
os.close(reader)
os.dup2(writer, 2)
log.warning("nobody reads this")
print("went on")
"""


def test_lines_are_json_whoever_writes_them_and_a_log_that_is_gone_stops_nobody() -> None:
    done = subprocess.run([sys.executable, "-c", _TALKS], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "went on\n"
    ours, theirs = (json.loads(line) for line in done.stderr.splitlines())
    assert ours.pop("ts") and theirs.pop("ts")
    common = {"event": "call of ***4599", "level": "warning"}
    assert ours == {**common, "logger": "wahub.ours", "text": "[REDACTED]", "number": 3}
    assert theirs == {**common, "logger": "theirs"}
