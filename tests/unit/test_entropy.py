"""The supply of random bytes never hands one out twice."""

from __future__ import annotations

import os

import pytest

from wahub.api.entropy import Entropy


def test_bytes_are_the_systems_own_in_order_and_each_is_used_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []
    of_system = os.urandom

    def urandom(count: int) -> bytes:
        drawn.append(of_system(count))
        return drawn[-1]

    monkeypatch.setattr("wahub.api.entropy.os.urandom", urandom)
    supply = Entropy()
    taken = [supply.take(16) for _ in range(600)]

    assert {len(part) for part in taken} == {16}
    assert len(set(taken)) == 600
    assert b"".join(drawn).startswith(b"".join(taken))
    assert len(drawn) == 3
