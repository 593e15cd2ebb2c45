"""`python -m tests.chaos --seed 1 --part 2`: the long form of the chaos tests.

The first parts are about what is sent (tests/chaos/run.py), the others about what comes in (tests/chaos/inbound). A
part is a run with a seed of its own, made from SEED and the number of the part; it takes less than ten minutes. Its
first line says how to run exactly this part again.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos.inbound.plan import make_inbound_plan
from tests.chaos.inbound.run import Outcome as InboundOutcome
from tests.chaos.inbound.run import run_inbound
from tests.chaos.plan import make_plan
from tests.chaos.run import Outcome, run_chaos

OUTBOUND, INBOUND = 5, 4
"""How many parts of each."""
OUTBOUND_KILLS, INBOUND_KILLS = 46, 28
"""In each part."""


def main() -> int:
    """Run the parts; 1 if any verdict is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="default: by chance")
    parser.add_argument("--part", type=int, default=0, help="only this part (from 1); 0: all")
    parser.add_argument("--kills", type=int, default=0, help="kills per part; default: 46, of what comes in 28")
    parser.add_argument("--shops", type=int, default=20)
    parser.add_argument("--rate", type=float, default=12.0, help="texts sent per second in all")
    parser.add_argument("--messages", type=int, default=1_300, help="messages and votes that come in, per part")
    options = parser.parse_args()
    options.seed = random.SystemRandom().randrange(1, 100_000) if options.seed is None else options.seed
    wrong, kills = False, 0
    for part in [options.part] if options.part else range(1, OUTBOUND + INBOUND + 1):
        outcome = _run(part, options)
        print(outcome, flush=True)
        wrong = wrong or bool(outcome.verdict.findings)
        kills += outcome.kills
    print(f"{kills} kills in all: " + ("the verdict is wrong somewhere" if wrong else "the verdict holds"))
    return 1 if wrong else 0


def _run(part: int, options: argparse.Namespace) -> Outcome | InboundOutcome:
    comes_in = part > OUTBOUND
    kills = options.kills or (INBOUND_KILLS if comes_in else OUTBOUND_KILLS)
    print(f"part {part}: make chaos SEED={options.seed} PART={part} KILLS={kills}", flush=True)
    seed = options.seed * 100 + part
    with tempfile.TemporaryDirectory(prefix="wahub-chaos-") as directory:
        if comes_in:
            return run_inbound(make_inbound_plan(seed, options.shops, kills, options.messages), Path(directory))
        return run_chaos(make_plan(seed, options.shops, kills), Path(directory), options.rate)


if __name__ == "__main__":
    sys.exit(main())
