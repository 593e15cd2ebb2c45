"""Lifecycle records and incidents."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import sqlalchemy as sa
from tests.contract.makers import SHOP, START, add_instance

from wahub.adapters.sql import tables
from wahub.adapters.sql.failure import StoreFailedError
from wahub.adapters.sql.lifecycle import encode_record
from wahub.adapters.sql.transaction import SqlTx
from wahub.domain.errors import IllegalTransitionError, InstanceNotFoundError
from wahub.domain.ids import InstanceId
from wahub.domain.lifecycle import Ask, Incident, IncidentKind, Lifecycle
from wahub.ports.store import Database, Tx

OTHER = InstanceId("other")
CODE, PHONE = "WXYZ1234", "4915551230001"
FULL = Lifecycle(
    SHOP,
    needs_qr_since=START + 0.1,
    last_qr_at=START + 1 / 3,
    qr_received_during_restart=True,
    qr_recovery_attempts=2,
    qr_recovery_at=START + 4,
    qr_rounds_left=0,
    credentials_dead=True,
    pairing_phone=PHONE,
    pairing_code=CODE,
    pairing_code_expires_at=START + 5,
    pairing_error="nul \0 half \ud83d é 👋",
    last_auth_failure_at=START + 6,
    ready_watchdog_at=START + 7,
    ready_timed_out=True,
    ready_source="poll",
    authenticated_to_ready_ms=171,
    told_ready=True,
    ready_poll_attempts=3,
    last_ready_poll_error="not yet",
    connecting_watchdog_at=START + 8,
    connecting_watchdog_restarts=4,
    paused_until=math.inf,
    pause_reason="cooldown",
    restricted_until=START + 9,
    restarts=(START + 10, START + 10.5),
    last_restart_at=START + 11,
    restart_count=5,
    replaced_at=START + 12,
    bad_sessions=6,
    quick_restarts=7,
    last_error_at=START + 13,
    mute_since=START + 14,
    mute_evidence="no ack",
    mutes=8,
    reconnects=9,
    health_checked_at=START + 15,
    caught_up_at=START + 25,
    last_gap_at=START + 16,
    account_since=START + 17,
    incidents=(("banned", 1), ("invented", 5)),
    asked=Ask.PAIRING_CODE,
    asked_at=START + 17,
)


async def _save(store: Database, *records: Lifecycle) -> None:
    for record in records:
        await store.write(lambda tx, record=record: tx.lifecycles.save(record))  # type: ignore[misc]


async def _get(store: Database, instance: InstanceId = SHOP) -> Lifecycle:
    return await store.read(lambda tx: tx.lifecycles.get(instance))


async def _alter(store: Database, statement: sa.Executable) -> None:
    """Write what this version of the adapter would not."""

    def work(tx: Tx) -> None:
        assert isinstance(tx, SqlTx)
        tx._runner.run(statement, {})

    await store.write(work)


async def test_a_record_comes_back_as_it_was_saved(store: Database) -> None:
    blank = Lifecycle(SHOP)
    same = [
        f.name for f in fields(Lifecycle) if f.name != "instance" and getattr(FULL, f.name) == getattr(blank, f.name)
    ]
    assert same == [], "a field that has its default would prove nothing"
    await add_instance(store)
    await _save(store, FULL)
    assert await _get(store) == FULL
    assert await store.write(lambda tx: tx.lifecycles.get(SHOP, for_update=True)) == FULL
    # The whole record is written, also what went back to its default.
    fewer = Lifecycle(SHOP, mutes=8, restarts=(START,))
    await _save(store, fewer)
    assert await _get(store) == fewer
    await _save(store, blank)
    assert await _get(store) == blank


async def test_a_record_that_was_never_written_is_all_defaults(store: Database) -> None:
    await add_instance(store)
    assert await _get(store) == Lifecycle(SHOP)
    assert await store.write(lambda tx: tx.lifecycles.get(SHOP, for_update=True)) == Lifecycle(SHOP)
    assert await _get(store, OTHER) == Lifecycle(OTHER)
    assert await store.read(lambda tx: tx.lifecycles.list()) == []


async def test_written_records_are_listed(store: Database) -> None:
    for name in ("shop", "other", "third"):
        await add_instance(store, name)
    await _save(store, FULL, Lifecycle(OTHER, mutes=1))
    listed = await store.read(lambda tx: tx.lifecycles.list())
    assert {record.instance: record for record in listed} == {SHOP: FULL, OTHER: Lifecycle(OTHER, mutes=1)}
    assert len(listed) == 2


async def test_fields_of_a_later_version_are_ignored(store: Database) -> None:
    await add_instance(store)
    await _save(store, FULL)
    later = json.loads(encode_record(FULL)) | {"invented": [1, {"a": 2}], "asked": "dance", "instance": "other"}
    await _alter(store, sa.update(tables.lifecycles).values(record=json.dumps(later)))
    assert await _get(store) == FULL


async def test_fields_that_an_earlier_version_did_not_write_have_their_defaults(store: Database) -> None:
    await add_instance(store)
    await _save(store, FULL)
    await _alter(store, sa.update(tables.lifecycles).values(record='{"restarts":[1.5,2.5],"mutes":3}', asked=None))
    assert await _get(store) == Lifecycle(SHOP, restarts=(1.5, 2.5), mutes=3)


# --- what is asked ----------------------------------------------------------------------------------------------------


async def test_who_was_asked_something_is_found(store: Database) -> None:
    for name in ("shop", "other", "third"):
        await add_instance(store, name)
    await _save(
        store,
        Lifecycle(SHOP, asked=Ask.RETRY, asked_at=START),
        Lifecycle(OTHER, mutes=1),
        Lifecycle(InstanceId("third"), asked=Ask.HARD_RESTART),
    )
    assert sorted(await store.read(lambda tx: tx.lifecycles.asked())) == ["shop", "third"]
    await _save(store, Lifecycle(SHOP))
    assert await store.read(lambda tx: tx.lifecycles.asked()) == ["third"]


@pytest.mark.parametrize("ask", list(Ask))
async def test_everything_that_can_be_asked_is_stored(store: Database, ask: Ask) -> None:
    await add_instance(store)
    await _save(store, Lifecycle(SHOP, asked=ask))
    assert await _get(store) == Lifecycle(SHOP, asked=ask)


async def test_nothing_else_can_be_asked(store: Database) -> None:
    await add_instance(store)
    await _save(store, Lifecycle(SHOP))
    with pytest.raises(IllegalTransitionError, match="ck_lifecycles_asked"):
        await _alter(store, sa.update(tables.lifecycles).values(asked="dance"))


# --- who may write ----------------------------------------------------------------------------------------------------


async def test_an_instance_that_is_gone_has_no_record(store: Database) -> None:
    await add_instance(store)
    await _save(store, FULL)
    await store.write(lambda tx: tx.instances.delete(SHOP))
    assert await _get(store) == Lifecycle(SHOP)
    incident = Incident(IncidentKind.BANNED, "x", START)
    attempts: list[Callable[[Tx], None]] = [
        lambda tx: tx.lifecycles.save(FULL),
        lambda tx: tx.lifecycles.add_incident(SHOP, incident),
    ]
    for attempt in attempts:
        with pytest.raises(InstanceNotFoundError) as caught:
            await store.write(attempt)
        assert CODE not in str(caught.value)
        assert PHONE not in str(caught.value)
        assert caught.value.__context__ is None
    await add_instance(store)
    assert await _get(store) == Lifecycle(SHOP), "created again it starts afresh"


async def test_a_lock_needs_a_write_transaction(store: Database) -> None:
    await add_instance(store)
    with pytest.raises(StoreFailedError):
        await store.read(lambda tx: tx.lifecycles.get(SHOP, for_update=True))


async def test_writers_of_one_record_take_turns(store: Database) -> None:
    """Also before there is a record."""
    await add_instance(store)

    def count(tx: Tx) -> None:
        found = tx.lifecycles.get(SHOP, for_update=True)
        tx.lifecycles.save(replace(found, mutes=found.mutes + 1))

    await asyncio.gather(*(store.write(count) for _ in range(20)))
    assert (await _get(store)).mutes == 20


# --- incidents --------------------------------------------------------------------------------------------------------


def _incident(number: int, **changes: Any) -> Incident:
    return replace(Incident(IncidentKind.CONNECTED_MUTE, f"incident {number}", START + number), **changes)


async def _report(store: Database, instance: InstanceId, *incidents: Incident) -> None:
    for incident in incidents:
        await store.write(lambda tx, incident=incident: tx.lifecycles.add_incident(instance, incident))  # type: ignore[misc]


async def test_incidents_are_listed_newest_first(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    # In the order in which they were written down, whatever a clock that was set back says.
    written = [_incident(3), _incident(1, details="nul \0 é"), _incident(2, kind=IncidentKind.LOGGED_OUT)]
    await _report(store, SHOP, *written)
    await _report(store, OTHER, _incident(9))
    kept = [written[2], replace(written[1], details="nul \ufffd é"), written[0]]
    assert await store.read(lambda tx: tx.lifecycles.incidents(SHOP, 10)) == kept
    assert await store.read(lambda tx: tx.lifecycles.incidents(SHOP, 2)) == kept[:2]
    assert await store.read(lambda tx: tx.lifecycles.incidents(OTHER, 10)) == [_incident(9)]


async def test_the_latest_hundred_incidents_are_kept(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    await _report(store, OTHER, _incident(0))
    incidents = [_incident(number) for number in range(105)]
    await _report(store, SHOP, *incidents[:100])
    assert len(await store.read(lambda tx: tx.lifecycles.incidents(SHOP, 1000))) == 100
    await _report(store, SHOP, *incidents[100:])
    assert await store.read(lambda tx: tx.lifecycles.incidents(SHOP, 1000)) == incidents[:4:-1]
    assert await store.read(lambda tx: tx.lifecycles.incidents(OTHER, 1000)) == [_incident(0)]


async def test_incidents_are_counted_in_the_record(store: Database) -> None:
    """Also those that are forgotten, and whatever else the record says."""
    await add_instance(store)
    await add_instance(store, "other")
    await _save(store, FULL)
    await _report(store, SHOP, *(_incident(number) for number in range(105)), _incident(1, kind=IncidentKind.BANNED))
    await _report(store, OTHER, _incident(1))
    counted = (("banned", 2), ("connected_mute", 105), ("invented", 5))
    assert await _get(store) == replace(FULL, incidents=counted)
    assert await _get(store, OTHER) == Lifecycle(OTHER, incidents=(("connected_mute", 1),))


async def test_incidents_of_one_moment_are_all_counted(store: Database) -> None:
    await add_instance(store)
    incident = _incident(1)
    await asyncio.gather(*(store.write(lambda tx: tx.lifecycles.add_incident(SHOP, incident)) for _ in range(20)))
    assert (await _get(store)).incidents == (("connected_mute", 20),)


@pytest.mark.parametrize("kind", list(IncidentKind))
async def test_every_kind_of_incident_is_stored(store: Database, kind: IncidentKind) -> None:
    await add_instance(store)
    await _report(store, SHOP, _incident(1, kind=kind))
    assert await store.read(lambda tx: tx.lifecycles.incidents(SHOP, 1)) == [_incident(1, kind=kind)]


async def test_incidents_of_a_later_version_are_left_out(store: Database) -> None:
    await add_instance(store)
    await _report(store, SHOP, _incident(1), _incident(2))
    at_second = tables.incidents.c.at == START + 2
    await _alter(store, sa.update(tables.incidents).where(at_second).values(kind="invented"))
    assert await store.read(lambda tx: tx.lifecycles.incidents(SHOP, 10)) == [_incident(1)]
