"""The machine events of contract G.3, on the log: one line each, `{"ts","instanceId","event",…}`."""

from __future__ import annotations

import structlog

from wahub.domain.ids import InstanceId
from wahub.services.lifecycle import Moved

_events = structlog.get_logger("wahub.events")


def note(instance: InstanceId, event: str, **fields: object) -> None:
    """Write an event down. No text, number, code or secret may be among the fields."""
    _events.info(event, instanceId=instance, **fields)


def alert(instance: InstanceId, event: str, **fields: object) -> None:
    """Write down what a person should look at."""
    _events.warning(event, instanceId=instance, **fields)


def moved(done: Moved) -> None:
    """The state changed, if it did."""
    before, after = done.before.observed.state, done.after.observed.state
    if before is not after:
        words = {"from": str(before), "to": str(after), "reason": done.reason or str(done.event)}
        _events.info("state_transition", instanceId=done.after.id, **words)
