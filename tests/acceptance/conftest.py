"""Fixtures of the acceptance tests: a sandbox per test process, gateways, and what holds after every test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.box import Box
from tests.support.gateway import Gateway
from tests.support.scene import Scene, Stage, open_stage

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
        gateway = Gateway(tmp_path / f"gateway-{len(made) + 1}", box, settings, forked=True)
        made.append(gateway)
        return gateway

    yield make
    for gateway in made:
        gateway.close()


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Where things happen to links: a sandbox and a gateway with short waits, and a neighbour who is left alone.

    Not too short: on a busy machine a login takes a second and more, and a link is not to be given up for that.
    """
    settings = {
        "WHATSAPP_CONNECT_TIMEOUT_MS": "5000",
        "READY_POLL_INTERVAL_MS": "2500",
        "SEND_ACK_TIMEOUT_MS": "700",
        "LINK_KEEP_ALIVE_MS": "1500",
        "REPLACED_WAIT_MS": "500",
        "EXTENDED_RESTRICTION_COOLDOWN_HOURS": "0.0015",
    }
    with open_stage(tmp_path_factory.mktemp("stage"), **settings) as stage:
        yield stage


@pytest.fixture
def scene(stage: Stage, name: str) -> Iterator[Scene]:
    """A linked instance on the stage; afterwards, what always holds is looked at."""
    with stage.scene(name) as scene:
        yield scene


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
