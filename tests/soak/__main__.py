"""`python -m tests.soak --part 2`: fifty instances, random faults, traffic both ways; thirty minutes in three parts.

The parts share a directory: part 1 begins anew, the others go on where the last one stopped. Each takes less than ten
minutes with the default `--seconds` of traffic. `--long` instead is one part of 33 minutes in a directory of its own,
in which the processes grow old.
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

SECONDS = 440.0
LONG_SECONDS = 1_900.0


def main() -> int:
    """Run the parts; 1 if any verdict is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--part", type=int, default=0, help="only this part (from 1); 0: all")
    parser.add_argument("--parts", type=int, default=3)
    parser.add_argument("--seed", type=int, default=None, help="default: by chance")
    parser.add_argument("--long", action="store_true", help="one part whose processes live for half an hour")
    parser.add_argument(
        "--seconds",
        type=float,
        default=None,
        help=f"of traffic in each part; {SECONDS:.0f}, or {LONG_SECONDS:.0f} if long",
    )
    parser.add_argument("--shops", type=int, default=50)
    parser.add_argument("--rate", type=float, default=6.0, help="texts per second in all")
    parser.add_argument("--directory", type=Path, default=None)
    options = parser.parse_args()
    name = f"wahub-soak-long-{os.getuid()}" if options.long else f"wahub-soak-{os.getuid()}"
    directory = options.directory or Path(tempfile.gettempdir()) / name
    seconds = options.seconds or (LONG_SECONDS if options.long else SECONDS)
    parts = [1] if options.long else [options.part] if options.part else range(1, options.parts + 1)
    seed = random.SystemRandom().randrange(1, 100_000) if options.seed is None else options.seed
    wrong = False
    for part in parts:
        if part == 1:
            shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        again = "LONG=1" if options.long else f"PART={part}"
        print(f"part {part}: make soak SEED={seed} {again}", flush=True)
        outcome = run_part(Task(directory, part, seed, seconds, options.shops, options.rate, long=options.long))
        print(outcome, flush=True)
        wrong = wrong or bool(outcome.findings)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
