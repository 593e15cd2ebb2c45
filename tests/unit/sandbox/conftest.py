"""An empty network without sockets, and two people on it."""

from __future__ import annotations

import pytest
from tests.unit.sandbox.network_client import ALICE, BOB, Person

from wahub.sandbox.network.network import Network
from wahub.sandbox.network.trust import keys_from_seed


@pytest.fixture
def network() -> Network:
    return Network(keys_from_seed("test"))


@pytest.fixture
def alice(network: Network) -> Person:
    return _joined(network, ALICE)


@pytest.fixture
def bob(network: Network) -> Person:
    return _joined(network, BOB)


def _joined(network: Network, number: str) -> Person:
    person = Person(number)
    network.add_account(person, business=False)
    return person
