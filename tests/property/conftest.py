"""One store for all examples of a module, and how many examples there are.

`HYPOTHESIS_PROFILE=long scripts/test tests/property` runs many more (HYPOTHESIS_EXAMPLES says how many).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from tests.property.rig import Rig, running_rig

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


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running_rig(tmp_path_factory.mktemp("store")) as made:
        yield made
