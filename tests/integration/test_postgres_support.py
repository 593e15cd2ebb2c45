"""The PostgreSQL of the test wheel: real, separate per test, and gone when the tests are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).resolve().parents[2]
HOLD_A_SERVER = """
import sys
from tests.support.postgres import running_postgres
with running_postgres() as server:
    status = (server.socket_dir / "data" / "postmaster.pid").read_text()
    print(status.splitlines()[0], server.socket_dir, flush=True)
    sys.stdin.read()
"""


@pytest.mark.postgres
def test_it_is_a_postgresql_that_skips_locked_rows(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as one, psycopg.connect(postgres_url) as other:
        one.execute("CREATE TABLE job (id int PRIMARY KEY)")
        one.execute("INSERT INTO job VALUES (1), (2)")
        one.commit()
        one.execute("SELECT id FROM job WHERE id = 1 FOR UPDATE")
        assert other.execute("SELECT id FROM job ORDER BY id FOR UPDATE SKIP LOCKED").fetchall() == [(2,)]


@pytest.mark.postgres
@pytest.mark.parametrize("_again", [1, 2])
def test_each_test_has_an_empty_database(postgres_url: str, _again: int) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE mine (id int)")


@pytest.mark.postgres
def test_killed_tests_leave_no_server_behind() -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_A_SERVER],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    pid, directory = holder.stdout.readline().split()
    assert is_running(int(pid))

    holder.send_signal(signal.SIGKILL)
    holder.communicate()

    deadline = time.monotonic() + 20
    while is_running(int(pid)):
        assert time.monotonic() < deadline, "PostgreSQL outlived the tests that started it"
        time.sleep(0.02)
    subprocess.run(["rm", "-rf", directory], check=True)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
