"""The benchmark of received messages runs as `python -m bench inbound` does, on a small scale.

Nothing here depends on the machine's speed: only that every message is found on both sides, by the same ids and after
it was written.
"""

from __future__ import annotations

import pytest
from bench import inbound

from wahub.adapters.engines.baileys.install import ensure_installed
from wahub.config import load_settings


@pytest.mark.acceptance
async def test_both_sides_get_what_was_written() -> None:
    engine = ensure_installed(load_settings().cache_dir, print)
    size = inbound.Size(messages=24, rounds=1, seconds=1, accounts=1, people=2, warm_up=10, patience=0.0)
    found = await inbound.run(engine, size)
    delays = found.figures["delaysMs"]
    assert {side: len(values) for side, values in delays.items()} == {"plain": 50, "wahub": 50}
    assert min(delays["wahub"]) > 0
    (pair,) = found.figures["bursts"]["1"]
    assert 0 < pair["wahub"]["posted"] <= pair["wahub"]["written"]
    assert 0 < pair["plain"]["received"] <= pair["plain"]["written"]
