"""Twenty instances share one engine process, and none gets what is another's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support.gateway import Account, Gateway

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("shared-gateway")]

COUNT = 20


def test_twenty_instances_in_one_engine_process(gateway: Gateway, name: str) -> None:
    names = [f"{name}-{number:02}" for number in range(COUNT)]
    with ThreadPoolExecutor(4) as pool:
        accounts = list(pool.map(gateway.link, names))
    assert len(gateway.engine_pids()) == 1

    customers = [gateway.box.new_phone() for _ in accounts]
    for account, customer in zip(accounts, customers, strict=True):
        account.send(customer, f"from {account.id}")
        customer.send(account.phone, f"to {account.id}")
    for account, customer in zip(accounts, customers, strict=True):
        check_both_ways(gateway, account, customer.wait_texts([f"from {account.id}"]))
    assert len(gateway.engine_pids()) == 1


def check_both_ways(gateway: Gateway, account: Account, shown: list[dict[str, str]]) -> None:
    assert [seen["text"] for seen in shown] == [f"from {account.id}"]
    gateway.hooks.wait("message", account.id)
    received = [hook.data["message"]["text"] for hook in gateway.hooks.all("message", account.id)]
    assert received == [f"to {account.id}"]
