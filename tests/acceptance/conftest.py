"""Fixtures of the acceptance tests: a sandbox per test process, gateways, and what holds after every test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.box import Box
from tests.support.gateway import Gateway

_NAMES = itertools.count(1)


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A sandbox that all tests of this process share; each test takes phones of its own."""
    box = Box(tmp_path_factory.mktemp("sandbox"))
    try:
        yield box.start()
    finally:
        box.close()


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, box: Box) -> Iterator[Gateway]:
    """A gateway for tests that leave it running and use instances of their own."""
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), box)
    try:
        yield gateway.start()
    finally:
        gateway.close()


@pytest.fixture
def new_gateway(tmp_path: Path, box: Box) -> Iterator[Callable[..., Gateway]]:
    """Makes gateways (not started) with data of their own; settings as keyword arguments."""
    made: list[Gateway] = []

    def make(**settings: str) -> Gateway:
        gateway = Gateway(tmp_path / f"gateway-{len(made) + 1}", box, settings)
        made.append(gateway)
        return gateway

    yield make
    for gateway in made:
        gateway.close()


@pytest.fixture
def name() -> str:
    """An instance name that no other test uses."""
    return f"shop-{next(_NAMES)}"


@pytest.fixture(autouse=True)
def nothing_that_whatsapp_would_refuse(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test the sandbox has seen nothing that the real server would refuse, and no unknown query."""
    if "box" not in request.fixturenames:
        yield
        return
    box: Box = request.getfixturevalue("box")
    before = len(box.stats()["violations"])
    yield
    box.check_strict(before)
