"""Runs the tests of the side process's parts with Node's own test runner."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from wahub.adapters.engines.baileys.install import ensure_installed
from wahub.config import load_settings

PARTS = [
    "parts",
    "endings",
    "sessions",
    "vitals",
    "notices",
    "reading",
    "votes",
    "arrivals",
    "requests",
    "spool",
    "sockets",
]


@pytest.mark.parametrize("name", PARTS)
def test_the_parts_of_the_side_process(name: str) -> None:
    installed = ensure_installed(load_settings().cache_dir, print)
    done = subprocess.run(
        [installed.node, "--test", Path(__file__).with_name(f"{name}.test.mjs")],
        env={"ENGINE_DIRECTORY": str(installed.directory)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
