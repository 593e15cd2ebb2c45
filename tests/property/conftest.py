"""One store for all examples of a module. How many examples there are: tests/conftest.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.property.rig import Rig, running_rig


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running_rig(tmp_path_factory.mktemp("store")) as made:
        yield made
