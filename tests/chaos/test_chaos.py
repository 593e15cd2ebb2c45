"""The short form of `make chaos`: a dozen kills over a town of six shops, and builds that are broken on purpose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.chaos.plan import Death, Plan, Round, WireFault, make_plan
from tests.chaos.run import Outcome, run_chaos

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("chaos"), pytest.mark.timeout(180)]

REPOSITORY = Path(__file__).parents[2]
SEED = int(os.environ.get("CHAOS_SEED", "20"))

LOST_ACKS = Plan(
    seed=0,
    shops=2,
    rounds=(
        # The receiver's phone is off, so nothing but a repeat helps: time enough for two of them.
        Round(
            faults=(WireFault("no_ack_while_off", 0, 0, 0), WireFault("no_ack_while_off", 1, 1, 0)),
            pause=7.0,
            death=Death("engine", 0, None, 0),
        ),
        Round(
            faults=(WireFault("drop_stanza", 0, 1, 0), WireFault("drop_stanza", 1, 0, 0)),
            pause=2.0,
            death=Death("gateway", 0, None, 0),
        ),
    ),
)
"""Where a careless gateway goes wrong: proof withheld while the phone has the message, or never got it."""


def test_a_dozen_kills_lose_nothing_double_nothing_and_every_fate_is_true(tmp_path: Path) -> None:
    plan = make_plan(SEED, shops=6, kills=12)
    outcome = run_chaos(plan, tmp_path, per_second=10)
    assert outcome.verdict.findings == [], f"replay with CHAOS_SEED={SEED}\n{outcome}"
    assert outcome.kills >= 9, f"replay with CHAOS_SEED={SEED}\n{outcome}"
    assert outcome.verdict.figures["accepted"] >= 60


def broken(kind: str, directory: Path) -> Outcome:
    """The run of lost acks against a broken build."""
    environment = {"WAHUB_BROKEN": kind, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'src'}"}
    return run_chaos(LOST_ACKS, directory, per_second=6, module="tests.chaos.broken", **environment)


def test_the_same_without_the_breakage_holds(tmp_path: Path) -> None:
    outcome = run_chaos(LOST_ACKS, tmp_path, per_second=6)
    assert outcome.verdict.findings == [], str(outcome)


def test_ids_chosen_at_each_attempt_are_found_guilty(tmp_path: Path) -> None:
    outcome = broken("ids", tmp_path)
    assert any("under 2 message ids" in found for found in outcome.verdict.findings), str(outcome)


def test_settling_before_the_ack_is_found_guilty(tmp_path: Path) -> None:
    outcome = broken("early", tmp_path)
    assert any("sent, but never shown" in found for found in outcome.verdict.findings), str(outcome)
