"""The short form of inbound chaos, and builds that are broken on purpose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.chaos.inbound.plan import InboundPlan, InboundRound, make_inbound_plan
from tests.chaos.inbound.run import run_inbound
from tests.chaos.plan import Death

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("inbound-chaos"), pytest.mark.timeout(180)]

REPOSITORY = Path(__file__).parents[3]
SEED = int(os.environ.get("CHAOS_SEED", "1115"))
"""This seed kills the gateway and an engine at once, and has four kinds of trouble on the wire."""

TOLD_TOO_EARLY = InboundRound(1, armed=3, settled=True, death=Death("engine", 0, "after_receipt", 1))
KNOWN_TOO_EARLY = InboundRound(1, armed=3, settled=True, death=Death("gateway", 0, "after_ingest", 1))
TWO_DEATHS = (TOLD_TOO_EARLY, KNOWN_TOO_EARLY)
"""Where a careless gateway loses a message: WhatsApp was told that it is there; its key is known, and nobody heard."""


def test_kills_and_an_hour_without_receiver_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    plan = make_inbound_plan(SEED, shops=3, kills=3, acts=24, hour=(3_600,), engines=2)
    outcome = run_inbound(plan, tmp_path, forked=True)
    assert outcome.verdict.findings == [], f"replay with CHAOS_SEED={SEED}\n{outcome}"
    assert outcome.kills >= 2, f"replay with CHAOS_SEED={SEED}\n{outcome}"
    assert outcome.verdict.figures["paused"] == 3, str(outcome)


def quiet(*deaths: InboundRound) -> InboundPlan:
    """These deaths for one shop with one customer."""
    return InboundPlan(seed=0, shops=1, customers=1, engines=1, moody=False, last_restart=False, rounds=deaths)


def test_the_two_deaths_without_the_breakage_hold(tmp_path: Path) -> None:
    plan = quiet(*TWO_DEATHS)
    outcome = run_inbound(plan, tmp_path, forked=True)
    assert outcome.verdict.findings == [], str(outcome)
    assert outcome.kills == plan.kills


@pytest.mark.parametrize(("kind", "death"), [("spool", TOLD_TOO_EARLY), ("dedupe", KNOWN_TOO_EARLY)])
def test_a_careless_build_is_found_guilty(kind: str, death: InboundRound, tmp_path: Path) -> None:
    environment = {"WAHUB_BROKEN": kind, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'src'}"}
    outcome = run_inbound(quiet(death), tmp_path, module="tests.chaos.inbound.broken", **environment)
    # The first that came when the point of its kind lay in wait; of the others no build is sure.
    lost = " 1 of shop-0: sent once, in the log 0 times"
    assert any(found.endswith(lost) for found in outcome.verdict.findings), str(outcome)
