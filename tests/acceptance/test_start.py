"""Starts that cannot work: the exit code says what kind of trouble it is, the text what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.processes import run_wahub

pytestmark = pytest.mark.acceptance

DEAD_REGISTRY = {"npm_config_registry": "http://127.0.0.1:9", "npm_config_fetch_retries": "0"}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("SEND_SPACING_MS", "soon"),
        ("WAHUB_WA_TRUST_ROOT", "abc"),
        ("WAHUB_WA_URL", "ws://192.0.2.1/ws/chat"),
        ("WAHUB_WA_CA_FILE", "/nowhere/ca.pem"),
        ("HOST", "0.0.0.0"),
        ("DATABASE_URL", "mysql://root:hunter2secret@db/wahub"),
    ],
)
def test_a_bad_setting_ends_with_2_and_is_named(setting: str, value: str, tmp_path: Path) -> None:
    ended = run_wahub(
        "serve", "--port", "0", "--data-dir", str(tmp_path / "data"), directory=tmp_path, **{setting: value}
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    assert setting in ended.stderr and "Traceback" not in ended.stderr
    assert "hunter2secret" not in ended.stderr


def test_an_engine_that_cannot_be_installed_ends_with_4_and_says_why(tmp_path: Path) -> None:
    ended = run_wahub(
        *("serve", "--port", "0", "--data-dir", str(tmp_path / "data")),
        directory=tmp_path,
        WAHUB_CACHE_DIR=str(tmp_path / "empty-cache"),
        **DEAD_REGISTRY,
    )
    assert ended.returncode == 4, ended.stderr
    assert ended.stdout == ""
    assert "registry was not reached" in ended.stderr and "wahub engines install baileys" in ended.stderr
    assert "Traceback" not in ended.stderr
