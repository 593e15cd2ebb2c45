"""Fixtures that any test may ask for, and how Hypothesis works in all of them.

`HYPOTHESIS_PROFILE=long scripts/test tests/property` runs many more examples (HYPOTHESIS_EXAMPLES says how many).
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from tests.support.postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]

# Here and not beside some of the tests, because it holds for all that run together. No deadline and no health checks:
# they measure the machine, and a stall of 0.2 s would fail whichever example is running.
_COMMON = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
}
settings.register_profile("short", max_examples=30, stateful_step_count=40, **_COMMON)
settings.register_profile(
    "long", max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "1000")), stateful_step_count=80, **_COMMON
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))
