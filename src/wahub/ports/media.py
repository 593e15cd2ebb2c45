"""The parts of the store, and of the disk, that hold the files of messages.

A row is the truth about a file: a file without a row is a leftover, a row without its file is fetched again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wahub.domain.ids import InstanceId, MessageId
from wahub.domain.media import MediaFile, MediaState


class MediaFiles(Protocol):
    """Rows of files, one for each (instance, message id)."""

    def get(self, instance: InstanceId, message_id: MessageId) -> MediaFile | None: ...

    def want(self, instance: InstanceId, message_id: MessageId, now: float) -> None:
        """Insert one that is to be fetched, due now; nothing if there is a row already."""

    def save(self, file: MediaFile) -> None:
        """Insert or replace; InstanceNotFoundError when the instance is gone."""

    def due(self, now: float, limit: int, instances: Collection[InstanceId]) -> Sequence[MediaFile]:
        """Wanted files of these instances whose time has come, in the order of their times."""

    def stale(self, before: float, limit: int) -> Sequence[MediaFile]:
        """Files that were fetched before that, oldest first."""

    def page(self, after: tuple[str, str], limit: int) -> Sequence[tuple[MediaFile, bool]]:
        """Rows beyond (instance, message id), in that order, each with whether its message is still stored."""

    def drop(self, files: Iterable[MediaFile]) -> Sequence[MediaFile]:
        """Remove the rows, unless they were fetched anew since they were read; returns those that were removed."""

    def drop_wanted(self) -> int:
        """Nothing is to be fetched unasked any more; returns how many were."""

    def paths(self, instance: InstanceId) -> frozenset[str]:
        """Where the files of an instance are, below the media folder."""

    def count(self, instance: InstanceId) -> Mapping[MediaState, int]:
        """How many there are in each state in which there is any."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A file of the media folder. `path` is below it, `changed_at` in Unix seconds."""

    path: str
    changed_at: float


class Blobs(Protocol):
    """The media folder. Methods block on the disk: call them in a thread."""

    def place(self, instance: InstanceId, message_id: MessageId) -> tuple[str, Path]:
        """Where the file of a message goes: below the folder, and absolute. Makes the folders."""

    def find(self, path: str) -> Path | None:
        """The absolute path, if the file is there."""

    def types(self, path: str) -> frozenset[str]:
        """The MIME types that the first bytes may be; none when they are not known. OSError when it cannot be read."""

    def instances(self) -> Sequence[InstanceId]:
        """Which instances have a folder."""

    def files(self, instance: InstanceId) -> Sequence[Blob]:
        """What lies in the folder of an instance, parts of files too."""

    def remove(self, path: str) -> None:
        """Remove a file, and its folder when it was the last. Removing twice is fine."""

    def forget(self, instance: InstanceId) -> None:
        """Remove all files of an instance."""
