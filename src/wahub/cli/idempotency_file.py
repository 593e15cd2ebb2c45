"""The file in which an earlier gateway kept its idempotency keys (contract C.2), and taking them over.

The whole file is checked before anything is stored. Importing it twice is the same as once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

from wahub.cli.gateway import Api, CommandError
from wahub.cli.outbox_work import instances
from wahub.domain.errors import InvalidInstanceIdError
from wahub.domain.ids import InstanceId, instance_id

_AT_ONCE = 100
"""Records per request: even the longest keys then fit into a body."""
_LONGEST_KEY = 1_024
_LONGEST_ID = 255
_LATEST_MS = 2**53


class Status(StrEnum):
    """What the earlier gateway knew of a message."""

    QUEUED = "QUEUED"
    SENT = "SENT"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `sent_at` is the best that the file knows: epoch milliseconds."""

    key: str
    instance: InstanceId
    instance_name: str
    status: Status
    sent_at: int
    queue_item_id: str | None
    provider_message_id: str | None

    def as_body(self) -> dict[str, Any]:
        """The record as the API takes it."""
        return {
            "idempotencyKey": self.key,
            "sentAt": self.sent_at,
            "queueItemId": self.queue_item_id,
            "providerMessageId": self.provider_message_id,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What an import did, in numbers of records."""

    imported: int
    ignored: int
    """Known already, or older than their keys live."""
    queued: int
    never_sent: int
    other_instances: int
    unknown_instances: Counter[str] = field(default_factory=Counter)

    def print(self, *, as_json: bool) -> None:
        """One JSON object, or sentences. What was left out for a reason to act on is told on stderr."""
        if as_json:
            counts = {"imported": self.imported, "ignored": self.ignored, "queued": self.queued}
            left = {"neverSent": self.never_sent, "otherInstances": self.other_instances}
            unknown = {"unknownInstances": dict(self.unknown_instances)}
            typer.echo(json.dumps({"event": "imported", **counts, **left, **unknown}, ensure_ascii=False))
        else:
            typer.echo(f"{self.imported} keys imported, {self.ignored} known already or too old")
            typer.echo(f"{self.never_sent} of messages that were never sent need no import")
            if self.other_instances:
                typer.echo(f"{self.other_instances} of other instances left out")
        if self.queued:
            typer.echo(
                f"wahub: {self.queued} keys of queued messages were skipped: whether those went out is not known. "
                "--queued sent imports them too, so that they are never sent again",
                err=True,
            )
        for name, count in sorted(self.unknown_instances.items()):
            typer.echo(f"wahub: {count} keys of {name!r} were skipped: create that instance first", err=True)


# --- reading ----------------------------------------------------------------------------------------------------------


def read(file: Path) -> list[Record]:
    """All records. CommandError naming the record and the field that is wrong, never a value."""
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise CommandError(f"{file} is not valid JSON: nothing was imported; look for a copy beside it") from None
    if not isinstance(found, list):
        raise CommandError(f"{file} must hold a JSON array of records: nothing was imported")
    records = [_record(record, f"{file}, record {number}") for number, record in enumerate(found, start=1)]
    uses = Counter(record.queue_item_id for record in records)
    # An id that several records claim belongs to none of them; keys matter, ids are a courtesy.
    return [record if uses[record.queue_item_id] == 1 else replace(record, queue_item_id=None) for record in records]


def _record(found: Any, place: str) -> Record:
    if not isinstance(found, dict):
        raise CommandError(f"{place} must be an object: nothing was imported")
    try:
        status = Status(str(found.get("status")))
    except ValueError:
        raise CommandError(f"{place}: status must be one of {', '.join(Status)}: nothing was imported") from None
    name = _text(found, "instanceName", place, _LONGEST_ID)
    key = _text(found, "idempotencyKey", place, _LONGEST_KEY)
    if not name or not key:
        missing = "idempotencyKey" if name else "instanceName"
        raise CommandError(f"{place}: {missing} is missing: nothing was imported")
    times = (_time(found.get(field), f"{place}: {field}") for field in ("sentAt", "updatedAt", "createdAt"))
    sent_at = next((at for at in times if at is not None), None)
    if sent_at is None:
        raise CommandError(f"{place}: sentAt, updatedAt and createdAt are all missing: nothing was imported")
    return Record(
        key=key,
        instance=_id(name, place),
        instance_name=name,
        status=status,
        sent_at=sent_at,
        queue_item_id=_text(found, "queueItemId", place, _LONGEST_ID),
        provider_message_id=_text(found, "providerMessageId", place, _LONGEST_ID),
    )


def _id(name: str, place: str) -> InstanceId:
    try:
        return instance_id(name)
    except InvalidInstanceIdError:
        raise CommandError(f"{place}: instanceName is empty: nothing was imported") from None


def _text(found: dict[str, Any], name: str, place: str, limit: int) -> str | None:
    value = found.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > limit or not _storable(value):
        raise CommandError(f"{place}: {name} must be a string of at most {limit} characters: nothing was imported")
    return value


def _storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _time(value: Any, place: str) -> int | None:
    """Epoch milliseconds from such a number or from ISO 8601; without a zone it is UTC."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LATEST_MS:
        return int(value)
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            at = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return max(int(at.timestamp() * 1000), 0)
        except (ValueError, OverflowError):
            pass
    raise CommandError(f"{place} must be epoch milliseconds or ISO 8601: nothing was imported")


# --- importing --------------------------------------------------------------------------------------------------------


async def import_all(api: Api, records: Sequence[Record], only: str | None, *, queued_as_sent: bool) -> Report:
    """Take over the keys of all records that count, per instance."""
    wanted = None if only is None else _id(only, "--instance")
    chosen = [record for record in records if wanted is None or record.instance == wanted]
    taken = {Status.SENT, Status.QUEUED} if queued_as_sent else {Status.SENT}
    known = set(await instances(api))
    of_instance: dict[InstanceId, list[Record]] = {}
    unknown: Counter[str] = Counter()
    for record in chosen:
        if record.status in taken and record.instance not in known:
            unknown[record.instance_name] += 1
        elif record.status in taken:
            of_instance.setdefault(record.instance, []).append(record)
    imported = 0
    for owner, own in of_instance.items():
        for start in range(0, len(own), _AT_ONCE):
            body = {"records": [record.as_body() for record in own[start : start + _AT_ONCE]]}
            imported += (await api.call("POST", "instances", owner, "idempotency", "import", body=body))["imported"]
    return Report(
        imported=imported,
        ignored=sum(map(len, of_instance.values())) - imported,
        queued=0 if queued_as_sent else sum(record.status is Status.QUEUED for record in chosen),
        never_sent=sum(record.status in (Status.FAILED, Status.SKIPPED) for record in chosen),
        other_instances=len(records) - len(chosen),
        unknown_instances=unknown,
    )
