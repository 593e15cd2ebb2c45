"""The checks of `wahub doctor`. Each looks at one thing, changes nothing, and says what to do when it fails."""

from __future__ import annotations

import errno
import os
import platform
import socket
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wahub.adapters.engines.baileys.install import EngineMissingError, find_installed, find_node
from wahub.config import Settings, SettingsError, load_settings

OLDEST_PYTHON = (3, 11)
OLDEST_SQLITE = (3, 35, 0)
"""The first SQLite with RETURNING, which claims rely on."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `detail` says what was seen and, if it is not `ok`, what to do."""

    name: str
    ok: bool
    detail: str


def all_checks() -> Iterator[Check]:
    yield _python()
    yield _sqlite()
    try:
        settings = load_settings()
    except SettingsError as error:
        yield Check("settings", False, str(error))
        return
    yield Check("settings", True, "read")
    yield _node(settings.node)
    yield _engine(settings.cache_dir, settings.node)
    yield _data_directory(settings.data_dir)
    yield _database(settings)
    yield _port(settings.host, settings.port)


def _python() -> Check:
    ok = sys.version_info[:2] >= OLDEST_PYTHON
    return Check("python", ok, platform.python_version() + ("" if ok else ": install Python 3.11 or newer"))


def _sqlite() -> Check:
    ok = sqlite3.sqlite_version_info >= OLDEST_SQLITE
    remedy = "" if ok else ": 3.35 or newer is needed; use a newer Python build, or PostgreSQL"
    return Check("sqlite", ok, sqlite3.sqlite_version + remedy)


def _node(wanted: Path | None) -> Check:
    try:
        runtime = find_node(wanted)
    except EngineMissingError as error:
        return Check("node", False, str(error))
    return Check("node", True, f"{runtime.version_text} at {runtime.path}")


def _engine(cache_dir: Path, node: Path | None) -> Check:
    try:
        installed = find_installed(cache_dir, node=node)
    except EngineMissingError as error:
        return Check("engine", False, str(error))
    if installed is None:
        return Check("engine", False, "baileys is not installed: run `wahub engines install baileys`")
    return Check("engine", True, f"baileys at {installed.directory}")


def _data_directory(data_dir: Path) -> Check:
    if data_dir.exists() and not data_dir.is_dir():
        return Check("data-dir", False, f"{data_dir} is not a directory: name another with --data-dir")
    nearest = next(path for path in [data_dir.absolute(), *data_dir.absolute().parents] if path.exists())
    if not os.access(nearest, os.W_OK | os.X_OK):
        return Check("data-dir", False, f"{nearest} is not writable: change its owner, or name another with --data-dir")
    return Check(
        "data-dir", True, f"{data_dir} " + ("is writable" if nearest == data_dir.absolute() else "can be made")
    )


def _database(settings: Settings) -> Check:
    # Only the scheme is shown: the rest of the URL holds a password.
    scheme = settings.database_url.partition(":")[0].partition("+")[0]
    if scheme == "sqlite":
        return Check("database", True, "SQLite, which serves one worker; more than one need PostgreSQL")
    if scheme in ("postgresql", "postgres"):
        return Check("database", True, "PostgreSQL")
    return Check("database", False, "DATABASE_URL must begin with sqlite:// or postgresql://")


def _port(host: str, port: int) -> Check:
    if port == 0:
        return Check("port", True, "any free port")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the server does it: a port that still has old connections closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return Check("port", False, f"{port} on {host} is in use: stop what uses it, or choose another --port")
            return Check("port", False, f"{host}:{port}: {error.strerror or error}")
    return Check("port", True, f"{port} on {host} is free")
