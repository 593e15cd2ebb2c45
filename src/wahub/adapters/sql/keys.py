"""Rows of idempotency keys, and of the claims that rate windows count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from wahub.adapters.sql.runner import Runner, for_both
from wahub.adapters.sql.tables import outbox_claims, outbox_keys
from wahub.domain.ids import InstanceId, QueueId
from wahub.domain.outbox import IdempotencyKey, KeyKind
from wahub.ports.store import KeyRecord

_MEANING = ("kind", "payload_hash", "queue_id", "created_at")
_GET = sa.select(*(outbox_keys.c[name] for name in _MEANING)).where(
    outbox_keys.c.instance == bindparam("instance"),
    outbox_keys.c.key == bindparam("wanted", type_=outbox_keys.c.key.type),
)


def _put(insert: Any) -> sa.Executable:
    row = insert(outbox_keys).values({name: bindparam(name) for name in ("instance", "key", *_MEANING)})
    put: sa.Executable = row.on_conflict_do_update(
        index_elements=[outbox_keys.c.instance, outbox_keys.c.key],
        set_={name: row.excluded[name] for name in _MEANING},
    )
    return put


_PUT = for_both(_put)
_CLAIMS = (
    sa.select(outbox_claims.c.at)
    .where(outbox_claims.c.instance == bindparam("instance"), outbox_claims.c.at > bindparam("since"))
    .order_by(outbox_claims.c.at)
)
_ADD_CLAIM = sa.insert(outbox_claims).values(instance=bindparam("instance"), at=bindparam("at"))
_FORGET = sa.delete(outbox_claims).where(
    outbox_claims.c.instance == bindparam("instance"), outbox_claims.c.at < bindparam("before")
)


class SqlOutboxKeys:
    """ports.store.OutboxKeys."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def get(self, instance: InstanceId, key: str) -> KeyRecord | None:
        row = self._runner.run(_GET, {"instance": instance, "wanted": key}).one_or_none()
        if row is None:
            return None
        meaning = IdempotencyKey(key, KeyKind(row.kind), row.payload_hash)
        return KeyRecord(meaning, QueueId(row.queue_id), row.created_at)

    def put(self, instance: InstanceId, record: KeyRecord) -> None:
        self._runner.run(
            _PUT[self._runner.dialect],
            {
                "instance": instance,
                "key": record.key.value,
                "kind": record.key.kind.value,
                "payload_hash": record.key.payload_hash,
                "queue_id": record.queue_id,
                "created_at": record.created_at,
            },
        )

    def claims_since(self, instance: InstanceId, since: float) -> Sequence[float]:
        return list(self._runner.run(_CLAIMS, {"instance": instance, "since": since}).scalars())

    def add_claim(self, instance: InstanceId, at: float, forget_before: float) -> None:
        self._runner.run(_ADD_CLAIM, {"instance": instance, "at": at})
        self._runner.run(_FORGET, {"instance": instance, "before": forget_before})
