"""`python -m tests.chaos --seed 1 --part 2 --kills 50`: the long form of the chaos test.

A part is a run with a seed of its own, made from SEED and the number of the part; it takes less than ten minutes. The
first line says how to run exactly this part again.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos.plan import make_plan
from tests.chaos.run import run_chaos


def main() -> int:
    """Run the parts; 1 if any verdict is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="default: by chance")
    parser.add_argument("--part", type=int, default=0, help="only this part (from 1); 0: all")
    parser.add_argument("--parts", type=int, default=5)
    parser.add_argument("--kills", type=int, default=46, help="kills per part")
    parser.add_argument("--shops", type=int, default=20)
    parser.add_argument("--rate", type=float, default=12.0, help="texts per second in all")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1, 100_000) if options.seed is None else options.seed
    parts = [options.part] if options.part else range(1, options.parts + 1)
    wrong, kills = False, 0
    for part in parts:
        print(f"part {part}: make chaos SEED={seed} PART={part} KILLS={options.kills}", flush=True)
        with tempfile.TemporaryDirectory(prefix="wahub-chaos-") as directory:
            plan = make_plan(seed * 100 + part, options.shops, options.kills)
            outcome = run_chaos(plan, Path(directory), options.rate)
        print(outcome, flush=True)
        wrong = wrong or bool(outcome.verdict.findings)
        kills += outcome.kills
    print(f"{kills} kills in all: " + ("the verdict is wrong somewhere" if wrong else "the verdict holds"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
