"""Encrypted media by path: what clients and phones upload and download. Kept in memory, oldest first out."""

from __future__ import annotations

MAX_FILE_BYTES = 100 * 1024 * 1024
MAX_TOTAL_BYTES = 512 * 1024 * 1024


class MediaStore:
    """The files of the media server. `host` is its host and port, as told to clients. It is a `model.MediaPort`."""

    def __init__(self, host: str = "") -> None:
        self.host = host
        self._files: dict[str, bytes] = {}
        self._total = 0

    def put(self, path: str, body: bytes) -> str:
        """Keep a file and return its address."""
        self._total += len(body) - len(self._files.pop(path, b""))
        self._files[path] = body
        while self._total > MAX_TOTAL_BYTES:
            oldest = next(iter(self._files))
            self._total -= len(self._files.pop(oldest))
        return f"https://{self.host}{path}"

    def get(self, path: str) -> bytes | None:
        """A file; None when there is none (any more)."""
        return self._files.get(path)

    def clear(self) -> None:
        """Forget all files."""
        self._files.clear()
        self._total = 0
