"""Runs the tests of the side process's downloader with Node's own test runner."""

from __future__ import annotations

import subprocess
from pathlib import Path

import trustme

from wahub.adapters.engines.baileys.install import ensure_installed
from wahub.config import load_settings


def test_the_downloader_of_the_side_process(tmp_path: Path) -> None:
    installed = ensure_installed(load_settings().cache_dir, print)
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    files = {"CA": tmp_path / "ca.pem", "CERTIFICATE": tmp_path / "certificate.pem", "KEY": tmp_path / "key.pem"}
    authority.cert_pem.write_to_path(files["CA"])
    certificate.cert_chain_pems[0].write_to_path(files["CERTIFICATE"])
    certificate.private_key_pem.write_to_path(files["KEY"])
    done = subprocess.run(
        [installed.node, "--test", Path(__file__).with_name("media.test.mjs")],
        env={"ENGINE_DIRECTORY": str(installed.directory), **{name: str(file) for name, file in files.items()}},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stdout + done.stderr
