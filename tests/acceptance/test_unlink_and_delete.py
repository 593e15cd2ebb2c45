"""The end of a link from either side: the person removes the device, or the caller deletes the instance."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.support.gateway import Gateway
from tests.support.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("shared-gateway")]


def test_unlinking_on_the_phone_asks_for_a_scan_and_touches_nobody_else(gateway: Gateway, name: str) -> None:
    account, other = gateway.link(name), gateway.link(f"{name}-other")
    customer = gateway.box.new_phone()
    account.phone.unlink()

    account.wait_state("needs_qr")
    assert gateway.hooks.wait("disconnected", account.id).genuine
    assert account.phone.devices() == []
    refused = account.try_send(customer, "nobody can send this")
    assert refused.status_code == 400 and "QR" in refused.json()["error"]

    other.send(customer, "the neighbour still works")
    customer.wait_texts(["the neighbour still works"])
    assert other.status()["state"] == "ready"
    assert gateway.hooks.all("disconnected", other.id) == []

    account.pair()
    account.send(customer, "linked again")
    customer.wait_texts(["linked again"])


def test_delete_unlinks_at_whatsapp_and_leaves_no_row(gateway: Gateway, name: str) -> None:
    account, customer = gateway.link(name), gateway.box.new_phone()
    account.send(customer, "to be forgotten")
    customer.wait_texts(["to be forgotten"])
    customer.send(account.phone, "an answer to be forgotten")
    gateway.hooks.wait("message", account.id)

    gone = gateway.ok("DELETE", f"/instances/{account.id}")
    assert gone["deleted"] is True, gone
    until(lambda: account.phone.devices() == [], 10, "the device is still linked")
    assert gateway.http("GET", f"/instances/{account.id}/client/status").status_code == 404
    assert account.id not in {found["id"] for found in gateway.http("GET", "/instances").json()}
    assert rows_about(gateway.data / "wahub.db", account.id) == {}
    assert not list((gateway.data / "spool").glob(f"{account.id}*"))
    again = gateway.ok("DELETE", f"/instances/{account.id}")
    assert again["deleted"] is False


def rows_about(database: Path, instance: str) -> dict[str, int]:
    """How many rows of which table name the instance; the ended lease, which only keeps the epoch, does not count."""
    found = {}
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
            mentions = " OR ".join(f'CAST("{column}" AS TEXT) = ?' for column in columns)
            query = f'SELECT count(*) FROM "{table}" WHERE {mentions}'
            count = connection.execute(query, [instance] * len(columns)).fetchone()[0]
            if count and table != "leases":
                found[table] = count
    return found
