"""The command `wahub` as a person starts it: exit codes, what stands on stdout, and a quick start."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.commands import Run, command, started

from wahub import __version__

OFFLINE_NODE = """#!/bin/sh
if [ "$1" = --version ]; then echo v24.3.1; exit 0; fi
echo "npm error code ENOTFOUND" >&2
exit 1
"""


def wahub(*arguments: str, cwd: Path, run: Run = command, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in an empty environment and directory, so that no setting of this machine counts."""
    return run(cwd, *arguments, **environment)


@pytest.fixture
def offline_node(tmp_path: Path) -> Path:
    """A Node 24 whose npm reaches no registry."""
    node = tmp_path / "offline" / "bin" / "node"
    npm_cli = tmp_path / "offline" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    for file in (node, npm_cli):
        file.parent.mkdir(parents=True)
    npm_cli.touch()
    node.write_text(OFFLINE_NODE)
    node.chmod(0o755)
    return node


def test_version(tmp_path: Path) -> None:
    said = wahub("--version", cwd=tmp_path, run=started)
    assert (said.returncode, said.stdout) == (0, f"wahub {__version__}\n")


@pytest.mark.parametrize("asked", [["serve"], ["sandbox"], ["demo"], ["doctor"], ["engines", "install"]])
def test_each_command_explains_itself(asked: list[str], tmp_path: Path) -> None:
    said = wahub(*asked, "--help", cwd=tmp_path)
    assert said.returncode == 0
    assert "--help" in said.stdout


def test_an_unknown_flag_is_a_usage_error(tmp_path: Path) -> None:
    assert wahub("serve", "--no-such-flag", cwd=tmp_path).returncode == 2


def test_help_loads_no_server() -> None:
    heavy = {"fastapi", "sqlalchemy", "httpx", "uvicorn", "cryptography", "pydantic"}
    program = f"import sys, wahub.cli.app; print(*sorted({heavy!r} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == ""


def test_an_engine_that_cannot_be_fetched_ends_with_4_and_says_why(tmp_path: Path, offline_node: Path) -> None:
    cache = tmp_path / "cache"
    said = wahub(
        "engines",
        "install",
        "baileys",
        cwd=tmp_path,
        run=started,
        WAHUB_NODE=str(offline_node),
        WAHUB_CACHE_DIR=str(cache),
    )
    assert said.returncode == 4
    assert said.stdout == ""
    assert "registry was not reached" in said.stderr
    assert "Traceback" not in said.stderr


def test_serve_without_an_engine_ends_with_4(tmp_path: Path, offline_node: Path) -> None:
    said = wahub(
        "serve",
        "--port",
        "0",
        cwd=tmp_path,
        run=started,
        WAHUB_NODE=str(offline_node),
        WAHUB_CACHE_DIR=str(tmp_path / "cache"),
    )
    assert said.returncode == 4
    assert "registry was not reached" in said.stderr
    assert said.stdout == "", "nothing that a starter could take for a running gateway"


def test_a_bad_setting_ends_with_2(tmp_path: Path) -> None:
    said = wahub("serve", cwd=tmp_path, WAHUB_INSTANCES_PER_ENGINE="many")
    assert said.returncode == 2
    assert "WAHUB_INSTANCES_PER_ENGINE" in said.stderr
    assert "Traceback" not in said.stderr


def test_doctor_says_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = wahub(
            "doctor",
            "--json",
            cwd=tmp_path,
            run=started,
            PORT=str(taken.getsockname()[1]),
            WAHUB_CACHE_DIR=str(tmp_path / "cache"),
        )
    checks = {check["check"]: check for check in map(json.loads, said.stdout.splitlines())}

    assert said.returncode == 1
    assert {name for name, check in checks.items() if not check["ok"]} == {"engine", "port"}
    assert "wahub engines install baileys" in checks["engine"]["detail"]
    assert "one worker" in checks["database"]["detail"]
    assert list(tmp_path.iterdir()) == [], "doctor changes nothing"


def test_doctor_shows_no_password(tmp_path: Path) -> None:
    said = wahub("doctor", cwd=tmp_path, DATABASE_URL="postgresql://me:hunter2@db.example/wahub")
    assert "PostgreSQL" in said.stdout
    assert "hunter2" not in said.stdout + said.stderr
