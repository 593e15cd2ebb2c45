"""When a gap is worth another alert, and what is missing of a queue."""

from __future__ import annotations

import pytest

from wahub.domain import gap
from wahub.domain.ids import InstanceId
from wahub.domain.lifecycle import Lifecycle

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("last", "begins"),
    [
        (None, True),
        (NOW, False),
        (NOW - gap.BURST + 1, False),
        (NOW - gap.BURST, True),
        (NOW + 1, True),  # the clock was set back
    ],
    ids=["first", "same moment", "within", "later", "future"],
)
def test_a_burst_begins_after_a_pause(last: float | None, begins: bool) -> None:
    record, found = gap.note(Lifecycle(InstanceId("shop"), last_gap_at=last), NOW)
    assert (record.last_gap_at, found) == (NOW, begins)


@pytest.mark.parametrize(
    ("announced", "received", "missing"), [(None, 0, 0), (0, 0, 0), (3, 3, 0), (3, 5, 0), (3, 1, 2)]
)
def test_what_is_missing_of_a_queue(announced: int | None, received: int, missing: int) -> None:
    assert gap.of_queue(announced, received) == missing
