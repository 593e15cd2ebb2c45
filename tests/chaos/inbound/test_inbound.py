"""The short form of inbound chaos, and builds that are broken on purpose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.chaos.inbound.plan import InboundPlan, InboundRound, make_inbound_plan
from tests.chaos.inbound.run import Outcome, run_inbound
from tests.chaos.plan import Death

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("inbound-chaos"), pytest.mark.timeout(180)]

REPOSITORY = Path(__file__).parents[3]
SEED = int(os.environ.get("CHAOS_SEED", "175"))
"""This seed has three kinds of death: the gateway at once, an engine and the gateway at a point of theirs."""

TWO_DEATHS = InboundPlan(
    seed=0,
    shops=1,
    customers=1,
    engines=1,
    moody=False,
    last_restart=False,
    rounds=(
        InboundRound(1, armed=3, settled=True, death=Death("engine", 0, "after_receipt", 1)),
        InboundRound(1, armed=3, settled=True, death=Death("gateway", 0, "after_ingest", 1)),
    ),
)
"""Where a careless gateway loses a message: WhatsApp was told that it is there; its key is known, and nobody heard."""


def test_kills_and_an_hour_without_receiver_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    plan = make_inbound_plan(SEED, shops=3, kills=7, acts=60, hour=(3_600,), engines=2)
    outcome = run_inbound(plan, tmp_path)
    assert outcome.verdict.findings == [], f"replay with CHAOS_SEED={SEED}\n{outcome}"
    assert outcome.kills >= 5, f"replay with CHAOS_SEED={SEED}\n{outcome}"
    assert outcome.verdict.figures["paused"] == 3, str(outcome)


def broken(kind: str, directory: Path) -> Outcome:
    """The run of two deaths against a broken build."""
    environment = {"WAHUB_BROKEN": kind, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'src'}"}
    return run_inbound(TWO_DEATHS, directory, module="tests.chaos.inbound.broken", **environment)


def test_the_two_deaths_without_the_breakage_hold(tmp_path: Path) -> None:
    outcome = run_inbound(TWO_DEATHS, tmp_path)
    assert outcome.verdict.findings == [], str(outcome)
    assert outcome.kills == TWO_DEATHS.kills


@pytest.mark.parametrize(("kind", "victim"), [("spool", 1), ("dedupe", 5)])
def test_a_careless_build_is_found_guilty(kind: str, victim: int, tmp_path: Path) -> None:
    outcome = broken(kind, tmp_path)
    # The first that came when the point of its kind lay in wait; of the others no build is sure.
    lost = f" {victim} of shop-0: sent once, in the log 0 times"
    assert any(found.endswith(lost) for found in outcome.verdict.findings), str(outcome)
