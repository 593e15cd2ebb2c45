"""Rows of files of messages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam, literal_column

from wahub.adapters.sql.runner import Runner, for_both
from wahub.adapters.sql.tables import inbox, media_files
from wahub.domain.ids import InstanceId, MessageId
from wahub.domain.media import MediaFile, MediaState

_COLUMNS = (
    *("instance", "message_id", "state", "path", "mime", "size", "sha256", "attempts", "next_attempt_at"),
    *("fetched_at", "error"),
)
_KEY = ("instance", "message_id")
# Literals, for an index that holds only such rows is not found by a parameter.
_WANTED: sa.ColumnElement[str] = literal_column(f"'{MediaState.WANTED.value}'")
_HERE: sa.ColumnElement[str] = literal_column(f"'{MediaState.HERE.value}'")
_ALL = sa.select(*(media_files.c[name] for name in _COLUMNS))
_THIS = (media_files.c.instance == bindparam("instance"), media_files.c.message_id == bindparam("message_id"))
_GET = _ALL.where(*_THIS)
_WANT = for_both(
    lambda insert: insert(media_files).values({name: bindparam(name) for name in _COLUMNS}).on_conflict_do_nothing()
)


def _save(insert: Any) -> sa.Executable:
    row = insert(media_files).values({name: bindparam(name) for name in _COLUMNS})
    changed = {name: row.excluded[name] for name in _COLUMNS if name not in _KEY}
    saved: sa.Executable = row.on_conflict_do_update(
        index_elements=[media_files.c[name] for name in _KEY], set_=changed
    )
    return saved


_SAVE = for_both(_save)
_DUE = (
    _ALL.where(
        media_files.c.state == _WANTED,
        media_files.c.next_attempt_at <= bindparam("now"),
        media_files.c.instance.in_(bindparam("of", expanding=True)),
    )
    .order_by(media_files.c.next_attempt_at)
    .limit(bindparam("at_most"))
)
_STALE = (
    _ALL.where(media_files.c.state == _HERE, media_files.c.fetched_at < bindparam("before"))
    .order_by(media_files.c.fetched_at)
    .limit(bindparam("at_most"))
)
# One whose text was forgotten has no raw message any more; only its id is kept, against a second copy.
_HAS_MESSAGE = sa.exists().where(
    inbox.c.instance == media_files.c.instance,
    inbox.c.message_id == media_files.c.message_id,
    inbox.c.raw.is_not(None),
)
_PAGE = (
    sa.select(*(media_files.c[name] for name in _COLUMNS), _HAS_MESSAGE.label("has_message"))
    .where(
        sa.tuple_(media_files.c.instance, media_files.c.message_id)
        > sa.tuple_(bindparam("instance"), bindparam("message_id"))
    )
    .order_by(media_files.c.instance, media_files.c.message_id)
    .limit(bindparam("at_most"))
)
_DROP = (
    sa.delete(media_files)
    .where(
        media_files.c.instance == bindparam("of"),
        media_files.c.message_id == bindparam("message"),
        sa.func.coalesce(media_files.c.fetched_at, 0.0) == bindparam("fetched"),
    )
    .returning(media_files.c.message_id)
)
_DROP_WANTED = sa.delete(media_files).where(media_files.c.state == _WANTED)
_PATHS = sa.select(media_files.c.path).where(
    media_files.c.instance == bindparam("instance"), media_files.c.path.is_not(None)
)
_COUNT = (
    sa.select(media_files.c.state, sa.func.count())
    .where(media_files.c.instance == bindparam("instance"))
    .group_by(media_files.c.state)
)
_NEW: Final = {"path": None, "mime": None, "size": None, "sha256": None, "fetched_at": None, "error": None}


class SqlMediaFiles:
    """ports.media.MediaFiles."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def get(self, instance: InstanceId, message_id: MessageId) -> MediaFile | None:
        row = self._runner.run(_GET, {"instance": instance, "message_id": message_id}).one_or_none()
        return None if row is None else _read(row)

    def want(self, instance: InstanceId, message_id: MessageId, now: float) -> None:
        values = {"instance": instance, "message_id": message_id, "state": MediaState.WANTED.value, **_NEW}
        self._runner.run(_WANT[self._runner.dialect], {**values, "attempts": 0, "next_attempt_at": now})

    def save(self, file: MediaFile) -> None:
        values = {name: getattr(file, name) for name in _COLUMNS}
        self._runner.run(_SAVE[self._runner.dialect], {**values, "state": file.state.value})

    def due(self, now: float, limit: int, instances: Collection[InstanceId]) -> Sequence[MediaFile]:
        if not instances:
            return ()
        values = {"now": now, "at_most": limit, "of": sorted(instances)}
        return [_read(row) for row in self._runner.run(_DUE, values)]

    def stale(self, before: float, limit: int) -> Sequence[MediaFile]:
        return [_read(row) for row in self._runner.run(_STALE, {"before": before, "at_most": limit})]

    def page(self, after: tuple[str, str], limit: int) -> Sequence[tuple[MediaFile, bool]]:
        values = {"instance": after[0], "message_id": after[1], "at_most": limit}
        return [(_read(row[:-1]), bool(row[-1])) for row in map(list[Any], self._runner.run(_PAGE, values))]

    def drop(self, files: Iterable[MediaFile]) -> Sequence[MediaFile]:
        return [file for file in files if self._drop(file)]

    def _drop(self, file: MediaFile) -> bool:
        values = {"of": file.instance, "message": file.message_id, "fetched": file.fetched_at or 0.0}
        return self._runner.run(_DROP, values).one_or_none() is not None

    def drop_wanted(self) -> int:
        return self._runner.run(_DROP_WANTED, {}).rowcount

    def paths(self, instance: InstanceId) -> frozenset[str]:
        return frozenset(self._runner.run(_PATHS, {"instance": instance}).scalars())

    def count(self, instance: InstanceId) -> Mapping[MediaState, int]:
        rows = map(list[Any], self._runner.run(_COUNT, {"instance": instance}))
        return {MediaState(state): number for state, number in rows}


def _read(row: Sequence[Any]) -> MediaFile:
    # In the order of _COLUMNS.
    instance, message_id, state, *rest = row
    return MediaFile(InstanceId(instance), MessageId(message_id), MediaState(state), *rest)
