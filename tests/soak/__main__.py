"""`python -m tests.soak --part 2`: fifty instances, random faults, traffic both ways; thirty minutes in three parts.

The parts share a directory: part 1 begins anew, the others go on where the last one stopped. Each takes less than ten
minutes with the default `--seconds` of traffic.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.soak.part import Task, run_part


def main() -> int:
    """Run the parts; 1 if any verdict is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--part", type=int, default=0, help="only this part (from 1); 0: all")
    parser.add_argument("--parts", type=int, default=3)
    parser.add_argument("--seed", type=int, default=None, help="default: by chance")
    parser.add_argument("--seconds", type=float, default=400.0, help="of traffic in each part")
    parser.add_argument("--shops", type=int, default=50)
    parser.add_argument("--rate", type=float, default=6.0, help="texts per second in all")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()) / f"wahub-soak-{os.getuid()}")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1, 100_000) if options.seed is None else options.seed
    wrong = False
    for part in [options.part] if options.part else range(1, options.parts + 1):
        if part == 1:
            shutil.rmtree(options.directory, ignore_errors=True)
        options.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        print(f"part {part}: make soak SEED={seed} PART={part}", flush=True)
        outcome = run_part(Task(options.directory, part, seed, options.seconds, options.shops, options.rate))
        print(outcome, flush=True)
        wrong = wrong or bool(outcome.findings)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
