"""The media folder: `<root>/<instance>/<SHA-256 of the message id>`, readable for this user only.

Files come in under another name (`….part`) and are renamed when they are whole; the engine does that.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import puremagic

from wahub.domain.ids import InstanceId, MessageId
from wahub.ports.media import Blob

_HEAD_BYTES = 8_192


class DiskBlobs:
    """ports.media.Blobs."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def place(self, instance: InstanceId, message_id: MessageId) -> tuple[str, Path]:
        (self._root / instance).mkdir(mode=0o700, parents=True, exist_ok=True)
        # A message id is the sender's choice: as a name it could lead anywhere.
        path = f"{instance}/{hashlib.sha256(message_id.encode('utf-8', 'surrogatepass')).hexdigest()}"
        return path, self._root / path

    def find(self, path: str) -> Path | None:
        found = self._root / path
        return found if found.is_file() else None

    def types(self, path: str) -> frozenset[str]:
        with (self._root / path).open("rb") as file:
            head = file.read(_HEAD_BYTES)
        try:
            named = [match for match in puremagic.magic_string(head) if match.mime_type]
        except (puremagic.PureError, ValueError):
            return frozenset()
        # The weaker ones share only a few bytes with it: a WebP picture "may be" a WAV sound.
        surest = max((match.confidence for match in named), default=0.0)
        return frozenset(match.mime_type.lower() for match in named if match.confidence == surest)

    def instances(self) -> Sequence[InstanceId]:
        if not self._root.is_dir():
            return ()
        return [InstanceId(folder.name) for folder in sorted(self._root.iterdir()) if folder.is_dir()]

    def files(self, instance: InstanceId) -> Sequence[Blob]:
        found = []
        with contextlib.suppress(FileNotFoundError):
            for file in sorted((self._root / instance).iterdir()):
                # One that is renamed or removed at this moment is looked at the next time.
                with contextlib.suppress(FileNotFoundError):
                    found.append(Blob(f"{instance}/{file.name}", file.stat().st_mtime))
        return found

    def remove(self, path: str) -> None:
        file = self._root / path
        file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            file.parent.rmdir()

    def forget(self, instance: InstanceId) -> None:
        shutil.rmtree(self._root / instance, ignore_errors=True)
