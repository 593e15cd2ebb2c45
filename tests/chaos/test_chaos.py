"""The short form of `make chaos`: ten kills over a town of four shops, and builds that are broken on purpose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.chaos.plan import Death, Plan, Round, WireFault, make_plan
from tests.chaos.run import Outcome, run_chaos

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("chaos"), pytest.mark.timeout(180)]

REPOSITORY = Path(__file__).parents[2]
SEED = int(os.environ.get("CHAOS_SEED", "348"))
"""This seed has four kinds of death: either process at once, and either at a point of its own."""

PROOF_WITHHELD = Round(
    # The receiver's phone is off, so nothing but a repeat helps: time enough for two of them.
    faults=(WireFault("no_ack_while_off", 0, 0, 0), WireFault("no_ack_while_off", 1, 1, 0)),
    pause=7.0,
    death=Death("engine", 0, None, 0),
)
NEVER_THERE = Round(
    faults=(WireFault("drop_stanza", 0, 1, 0), WireFault("drop_stanza", 1, 0, 0)),
    pause=2.0,
    death=Death("gateway", 0, None, 0),
)
LOST_ACKS = (PROOF_WITHHELD, NEVER_THERE)
"""Where a careless gateway goes wrong: proof withheld while the phone has the message, or never got it."""


def test_ten_kills_lose_nothing_double_nothing_and_every_fate_is_true(tmp_path: Path) -> None:
    """The rounds that convict the broken builds below come first: they hold against the shipped one."""
    drawn = make_plan(SEED, shops=4, kills=6)
    plan = Plan(SEED, drawn.shops, (*LOST_ACKS, *drawn.rounds))
    outcome = run_chaos(plan, tmp_path, per_second=6, engines=2, forked=True)
    assert outcome.verdict.findings == [], f"replay with CHAOS_SEED={SEED}\n{outcome}"
    assert outcome.kills >= 7, f"replay with CHAOS_SEED={SEED}\n{outcome}"
    assert outcome.verdict.figures["accepted"] >= 60


def broken(kind: str, one: Round, directory: Path) -> Outcome:
    """One of the rounds of lost acks against a broken build."""
    environment = {"WAHUB_BROKEN": kind, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'src'}"}
    plan = Plan(seed=0, shops=2, rounds=(one,))
    return run_chaos(plan, directory, per_second=6, engines=1, module="tests.chaos.broken", **environment)


def test_ids_chosen_at_each_attempt_are_found_guilty(tmp_path: Path) -> None:
    outcome = broken("ids", PROOF_WITHHELD, tmp_path)
    assert any("under 2 message ids" in found for found in outcome.verdict.findings), str(outcome)


def test_settling_before_the_ack_is_found_guilty(tmp_path: Path) -> None:
    outcome = broken("early", NEVER_THERE, tmp_path)
    assert any("sent, but never shown" in found for found in outcome.verdict.findings), str(outcome)
