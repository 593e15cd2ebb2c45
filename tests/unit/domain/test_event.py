"""Names of events, and the marks by which followers come back."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from wahub.domain.event import LOGGED, UNLOGGED, Mark
from wahub.domain.ids import InstanceId
from wahub.domain.webhook import STANDARD_EVENTS

_ROOT = Path(__file__).parents[3]
_ELSEWHERE = UNLOGGED | {"webhook_test", "instance_deleted"}


def _emitted() -> set[str]:
    """The names that services write as they emit an event."""
    calls = [
        node
        for path in (_ROOT / "src" / "wahub" / "services").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "emit"
    ]
    names = [call.args[2].value for call in calls if isinstance(call.args[2], ast.Constant)]
    return {name for name in names if isinstance(name, str)}


def test_every_event_that_there_is_may_be_asked_for() -> None:
    headings = re.findall(r"^## (`.*)$", (_ROOT / "docs" / "events.md").read_text(), re.MULTILINE)
    documented = {name for heading in headings for name in re.findall(r"`([a-z_]+)`", heading)}
    assert len(documented) > 6
    assert len(_emitted()) > 10
    assert (documented | _emitted() | STANDARD_EVENTS) - _ELSEWHERE <= LOGGED
    assert not LOGGED & _ELSEWHERE


@pytest.mark.parametrize("text", ["shop:1:2", "shop:1", "a-b_C:0:0"])
def test_a_mark_is_read_as_it_was_written(text: str) -> None:
    assert str(Mark.parse(text)) == text


def test_the_parts_of_a_mark() -> None:
    assert Mark.parse("shop:7:12") == Mark(InstanceId("shop"), 7, 12)
    assert Mark.parse("shop:7") == Mark(InstanceId("shop"), 7)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "shop",
        "shop:",
        ":1",
        "shop:x",
        "shop:1:",
        "shop:1:2:3",
        "shop:-1",
        "sh op:1",
        "shop:1\n",
        "shop:٣",
        "shop:1:" + "9" * 16,
    ],
)
def test_what_is_no_mark_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="mark"):
        Mark.parse(text)
