"""Rows of files of messages."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.contract.makers import SHOP, START, add_instance, add_received, make_received

from wahub.domain.errors import InstanceNotFoundError
from wahub.domain.ids import InstanceId, MessageId
from wahub.domain.media import MediaFile, MediaState
from wahub.ports.store import Database, Tx

OTHER = InstanceId("other")


def here(number: int, instance: InstanceId = SHOP, at: float = START) -> MediaFile:
    return MediaFile(
        instance,
        MessageId(f"3A{number:02}"),
        MediaState.HERE,
        path=f"{instance}/{number}",
        mime="image/jpeg",
        size=2**40,
        sha256="ab" * 32,
        attempts=2,
        fetched_at=at,
    )


def wanted(number: int, due: float, instance: InstanceId = SHOP) -> MediaFile:
    return MediaFile(instance, MessageId(f"3A{number:02}"), MediaState.WANTED, attempts=1, next_attempt_at=due)


async def save(store: Database, *files: MediaFile) -> None:
    await store.write(lambda tx: [tx.media.save(file) for file in files])


async def test_a_row_comes_back_as_it_was_saved(store: Database) -> None:
    await add_instance(store)
    given_up = MediaFile(SHOP, MessageId("3A03"), MediaState.FAILED, attempts=14, error="gone")
    for file in (here(1), wanted(2, START), given_up, replace(here(1), sha256="cd" * 32, fetched_at=START + 1)):
        await save(store, file)
        assert await store.read(lambda tx, file=file: tx.media.get(SHOP, file.message_id)) == file
    assert await store.read(lambda tx: tx.media.get(SHOP, MessageId("3A99"))) is None
    assert await store.read(lambda tx: tx.media.get(OTHER, MessageId("3A01"))) is None


async def test_what_is_wanted_changes_nothing_that_is_known(store: Database) -> None:
    await add_instance(store)
    await save(store, here(1))
    await store.write(lambda tx: [tx.media.want(SHOP, MessageId(name), START) for name in ("3A01", "3A02", "3A02")])
    assert await store.read(lambda tx: tx.media.get(SHOP, MessageId("3A01"))) == here(1)
    new = await store.read(lambda tx: tx.media.get(SHOP, MessageId("3A02")))
    assert new == MediaFile(SHOP, MessageId("3A02"), MediaState.WANTED, next_attempt_at=START)


async def test_a_file_of_no_instance_is_refused(store: Database) -> None:
    with pytest.raises(InstanceNotFoundError):
        await save(store, here(1))


async def test_due_are_those_of_the_given_instances_by_their_time(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    first, later = wanted(2, START + 1), wanted(1, START + 2)
    await save(store, later, first, wanted(3, START + 3), here(4), wanted(5, START, OTHER))

    def due(tx: Tx) -> list[list[MediaFile]]:
        asked = [(10, [SHOP]), (1, [SHOP]), (10, []), (10, [SHOP, OTHER])]
        return [list(tx.media.due(START + 2, limit, instances)) for limit, instances in asked]

    assert await store.read(due) == [[first, later], [first], [], [wanted(5, START, OTHER), first, later]]


async def test_stale_are_the_files_fetched_before_a_time_oldest_first(store: Database) -> None:
    await add_instance(store)
    await save(store, here(1, at=START + 5), here(2, at=START), here(3, at=START + 9), wanted(4, START))
    stale = await store.read(lambda tx: (tx.media.stale(START + 9, 10), tx.media.stale(START + 9, 1)))
    assert [[file.message_id for file in files] for files in stale] == [["3A02", "3A01"], ["3A02"]]


async def test_pages_say_whose_message_is_still_stored(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    await save(store, *(here(number) for number in (1, 2, 3)), here(1, OTHER))

    def stored(tx: Tx) -> None:
        add_received(tx, make_received("3A01", raw="{}"), START)
        # One whose text was forgotten: only its id is left.
        add_received(tx, make_received("3A02"), START)

    await store.write(stored)
    first = await store.read(lambda tx: tx.media.page(("", ""), 2))
    assert [(file.instance, file.message_id, has) for file, has in first] == [
        ("other", "3A01", False),
        (SHOP, "3A01", True),
    ]
    rest = await store.read(lambda tx: tx.media.page((SHOP, "3A01"), 10))
    assert rest == [(here(2), False), (here(3), False)]


async def test_a_row_is_dropped_unless_it_was_fetched_anew(store: Database) -> None:
    await add_instance(store)
    await save(store, here(1), here(2), wanted(3, START))
    known = [here(1), here(2), wanted(3, START), here(9)]
    await save(store, here(2, at=START + 1))
    assert await store.write(lambda tx: tx.media.drop(known)) == [here(1), wanted(3, START)]
    assert await store.read(lambda tx: tx.media.paths(SHOP)) == {"shop/2"}


async def test_counts_paths_and_the_end_of_all_wishes(store: Database) -> None:
    await add_instance(store)
    await add_instance(store, "other")
    await save(store, here(1), here(2), wanted(3, START), wanted(4, START, OTHER), here(5, OTHER))
    assert await store.read(lambda tx: tx.media.count(SHOP)) == {MediaState.HERE: 2, MediaState.WANTED: 1}
    assert await store.read(lambda tx: tx.media.paths(SHOP)) == {"shop/1", "shop/2"}
    assert await store.write(lambda tx: tx.media.drop_wanted()) == 2
    assert await store.read(lambda tx: tx.media.count(OTHER)) == {MediaState.HERE: 1}


async def test_files_go_with_their_instance(store: Database) -> None:
    await add_instance(store)
    await save(store, here(1))
    await store.write(lambda tx: tx.instances.delete(SHOP))
    await add_instance(store)
    assert await store.read(lambda tx: tx.media.paths(SHOP)) == frozenset()
