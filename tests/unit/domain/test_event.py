"""Names of events, and the marks by which followers come back."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from wahub.domain.event import LOGGED, UNLOGGED, Mark
from wahub.domain.ids import InstanceId
from wahub.domain.inbox import NOTICES
from wahub.domain.webhook import STANDARD_EVENTS

_ROOT = Path(__file__).parents[3]
_ELSEWHERE = UNLOGGED | {"webhook_test", "instance_deleted"}
_SOURCES = _ROOT / "src" / "wahub"
_PLACE_OF_NAME = {"emit": 2, "Emission": 0}
"""Which argument of a call names the event."""

_NAMED_BY_RULES = {
    "services/inbox.py": "domain/incoming.py",
    "services/outbox/record.py": "services/outbox/record.py",
    "services/webhook.py": "services/webhook.py",
}
"""Who emits events whose names it was given, and the file that names them, each beside its data."""


def _tree(path: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse((_SOURCES / path).read_text())))


def _emits(path: str) -> list[ast.expr]:
    """What is given in a file as the name of an event: to `emit`, or to the `Emission` of several."""
    calls = [node for node in _tree(path) if isinstance(node, ast.Call)]
    places = [_PLACE_OF_NAME.get(ast.unparse(call.func).rpartition(".")[2]) for call in calls]
    return [call.args[place] for call, place in zip(calls, places, strict=True) if place is not None]


def _names_beside_data(path: str) -> set[str]:
    """The names in pairs such as `("reaction", {…})`."""
    pairs = [node.elts for node in _tree(path) if isinstance(node, ast.Tuple) and len(node.elts) == 2]
    return {str(name.value) for name, data in pairs if isinstance(name, ast.Constant) and isinstance(data, ast.Dict)}


def _emitted() -> set[str]:
    """The names of all events that the gateway emits."""
    found: set[str] = set(NOTICES)
    for path in sorted(str(file.relative_to(_SOURCES)) for file in _SOURCES.rglob("*.py")):
        given = _emits(path)
        found |= {str(name.value) for name in given if isinstance(name, ast.Constant)}
        if not all(isinstance(name, ast.Constant) for name in given):
            found |= _names_beside_data(_NAMED_BY_RULES[path])
    return found


def test_the_log_may_hold_just_what_is_emitted() -> None:
    assert _emitted() - _ELSEWHERE == LOGGED
    assert _emitted() & _ELSEWHERE == UNLOGGED
    assert STANDARD_EVENTS <= LOGGED


def test_every_event_is_documented() -> None:
    headings = re.findall(r"^## (`.*)$", (_ROOT / "docs" / "events.md").read_text(), re.MULTILINE)
    documented = {name for heading in headings for name in re.findall(r"`([a-z_]+)`", heading)}
    assert documented == LOGGED | _ELSEWHERE


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
