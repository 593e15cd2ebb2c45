"""The lock files: exact, with hashes, and tied to no registry."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from wahub.adapters.engines.baileys.install import SOURCE

ROOT = Path(__file__).resolve().parents[3]


def test_every_library_of_the_engine_has_a_hash_and_no_address() -> None:
    lock = json.loads((SOURCE / "package-lock.json").read_text())
    libraries = {name: entry for name, entry in lock["packages"].items() if name}

    assert len(libraries) > 50
    assert [name for name, entry in libraries.items() if not entry.get("integrity", "").startswith("sha512-")] == []
    assert [name for name, entry in libraries.items() if "resolved" in entry] == []


def test_the_engine_is_pinned_exactly() -> None:
    manifest = json.loads((SOURCE / "package.json").read_text())
    lock = json.loads((SOURCE / "package-lock.json").read_text())

    assert manifest["dependencies"]["baileys"] == "7.0.0-rc14"
    for name, version in manifest["dependencies"].items():
        assert re.fullmatch(r"\d+\.\d+\.\d+(-[\w.]+)?", version), f"{name} is not exact"
        assert lock["packages"][f"node_modules/{name}"]["version"] == version


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_python_packages_are_pinned_with_hashes_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    pins = re.findall(r"^[A-Za-z0-9._-]+==", text, re.MULTILINE)

    assert len(pins) > 20
    assert text.count("--hash=sha256:") >= len(pins)
    assert "://" not in text
    assert "--index-url" not in text
