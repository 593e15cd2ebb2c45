"""Installs what the Baileys side process needs, once, into a cache directory.

wahub ships the side process's own JavaScript, its `package.json` and its lock file, but none of the libraries: Baileys
is MIT and its `libsignal` GPL-3, so the operator's machine fetches them (docs/adr/0004).

Layout under the cache directory:

    engines/baileys/<libraries>/node_modules/   <libraries>: hash of package.json, lock file and Node major
    engines/baileys/<libraries>/<code>/*.mjs    <code>: hash of the side process's own files

The JavaScript is copied beside the libraries because Node looks for packages from a file's own place upwards. A new
wahub with the same lock file copies its code again and does not install again.

Promised: a directory whose final name exists is complete. Both are made under another name and renamed, and one process
installs at a time (a file lock). A crash at any step leaves a `.partial-…` directory, which the next run removes, and a
lock that the operating system has already released. Not promised: repair of files that somebody deleted afterwards
(`remove the directory` is the remedy).
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wahub.adapters.engines.baileys.node_runtime import EngineMissingError, NodeRuntime, find_node

__all__ = ["EngineMissingError", "InstalledEngine", "NodeRuntime", "ensure_installed", "find_installed", "find_node"]

SOURCE = Path(__file__).parent / "node"
_MANIFESTS = ("package.json", "package-lock.json")
_CODE_SUFFIXES = (".mjs", ".js", ".json")
_NPM_ARGUMENTS = (
    "ci",
    "--ignore-scripts",
    "--omit=peer",
    "--omit=optional",
    "--no-audit",
    "--no-fund",
    "--no-progress",
    "--no-update-notifier",
)
_LAST_LINES = 12
_NETWORK_ERRORS = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "ERR_SOCKET")


@dataclass(frozen=True, slots=True)
class InstalledEngine:
    """Where the side process is: start `node directory/main.mjs`."""

    node: Path
    directory: Path


def ensure_installed(cache_dir: Path, say: Callable[[str], None], *, node: Path | None = None) -> InstalledEngine:
    """Install the engine into `cache_dir` unless it is there; return where it is.

    `say` gets one line per step that takes time and nothing when all is there. `node` is the operator's choice of Node.
    Raises EngineMissingError: no Node, no network, npm failed (with its last lines), or the directory is not writable.
    """
    runtime = find_node(node)
    libraries = _libraries_directory(cache_dir, runtime)
    code = libraries / _hash_of(_code_files())
    if not code.is_dir():
        try:
            with _one_at_a_time(libraries.parent):
                _remove_leftovers(libraries.parent)
                if not libraries.is_dir():
                    _install_libraries(runtime, libraries, say)
                if not code.is_dir():
                    _copy_code(code)
        except OSError as error:
            raise EngineMissingError(
                f"Cannot write the engine to {error.filename or libraries}: {error.strerror}. "
                "Make it writable, or set WAHUB_CACHE_DIR to a directory that is"
            ) from error
    return InstalledEngine(runtime.path, code)


def find_installed(cache_dir: Path, *, node: Path | None = None) -> InstalledEngine | None:
    """The engine if it is installed, and None if not. Changes nothing; raises EngineMissingError without a Node."""
    runtime = find_node(node)
    code = _libraries_directory(cache_dir, runtime) / _hash_of(_code_files())
    return InstalledEngine(runtime.path, code) if code.is_dir() else None


def _libraries_directory(cache_dir: Path, runtime: NodeRuntime) -> Path:
    manifests = _hash_of([SOURCE / name for name in _MANIFESTS])
    return cache_dir.expanduser().absolute() / "engines" / "baileys" / f"{manifests}-node{runtime.version[0]}"


def _code_files() -> list[Path]:
    return sorted(
        path
        for path in SOURCE.rglob("*")
        if path.suffix in _CODE_SUFFIXES and "node_modules" not in path.parts and path.name != "package-lock.json"
    )


def _hash_of(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.relative_to(SOURCE).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


@contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_leftovers(directory: Path) -> None:
    """Called under the lock, so whatever is partial belongs to a process that died."""
    for leftover in [*directory.glob(".partial-*"), *directory.glob("*/.partial-*")]:
        shutil.rmtree(leftover, ignore_errors=True)


def _copy_code(target: Path) -> None:
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=target.parent))
    for file in _code_files():
        copy = partial / file.relative_to(SOURCE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    partial.rename(target)


def _install_libraries(runtime: NodeRuntime, target: Path, say: Callable[[str], None]) -> None:
    say(f"Installing the Baileys engine's libraries with Node {runtime.version_text} into {target}")
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=target.parent))
    for name in _MANIFESTS:
        shutil.copyfile(SOURCE / name, partial / name)
    _run_npm(runtime, partial, say)
    partial.rename(target)
    say("Engine installed")


def _run_npm(runtime: NodeRuntime, directory: Path, say: Callable[[str], None]) -> None:
    last_lines: deque[str] = deque(maxlen=_LAST_LINES)
    with subprocess.Popen(
        [str(runtime.path), str(runtime.npm_cli), *_NPM_ARGUMENTS],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as npm:
        assert npm.stdout is not None
        for line in npm.stdout:
            text = line.rstrip()
            if text:
                last_lines.append(text)
                if not text.startswith("npm "):
                    say(f"  npm: {text}")
    if npm.returncode != 0:
        shutil.rmtree(directory, ignore_errors=True)
        raise EngineMissingError(_explain(last_lines, npm.returncode))


def _explain(last_lines: deque[str], exit_code: int) -> str:
    output = "\n".join(f"  {line}" for line in last_lines)
    if any(sign in output for sign in _NETWORK_ERRORS):
        first = (
            "The engine's libraries could not be fetched: the package registry was not reached. "
            "Check the network or npm's registry and proxy settings, then run `wahub engines install baileys`"
        )
    else:
        first = f"The engine's libraries could not be installed: npm ended with exit code {exit_code}"
    return f"{first}. npm said:\n{output}"
