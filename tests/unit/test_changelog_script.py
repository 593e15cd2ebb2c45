"""scripts/changelog: fragments become a section, and a wrong one is named."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "changelog"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "changelog.d").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts" / "changelog")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n<!-- releases: newest first -->\n\n## 0.1.0 (2026-01-01)\n")
    return tmp_path


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = project / "scripts" / "changelog"
    return subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True)


def test_a_release_takes_the_fragments_in(project: Path) -> None:
    (project / "changelog.d" / "queue.fixed.md").write_text("- A fix.\n")
    (project / "changelog.d" / "api.added.md").write_text("- A route.\n")

    assert run(project, "0.2.0").returncode == 0

    text = (project / "CHANGELOG.md").read_text()
    order = ["## 0.2.0", "### Added", "- A route.", "### Fixed", "- A fix.", "## 0.1.0"]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    assert list((project / "changelog.d").iterdir()) == []


@pytest.mark.parametrize(("name", "text"), [("queue.md", "- x"), ("queue.mended.md", "- x"), ("queue.fixed.md", " \n")])
def test_a_wrong_fragment_is_named(project: Path, name: str, text: str) -> None:
    (project / "changelog.d" / name).write_text(text)

    said = run(project, "--check")

    assert said.returncode == 1
    assert name in said.stderr
