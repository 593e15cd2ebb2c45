"""A place for sandboxes that follow each other: each is new, with the same addresses and the same keys.

So a process that was pointed at the first one can stay for all that follow: Node with Baileys takes more CPU time to
start than most tests take with it.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.ports import HeldPort

from wahub.sandbox.media import write_certificates
from wahub.sandbox.network.trust import keys_from_seed
from wahub.sandbox.serve import CHAT_PATH, SandboxOptions

_HOST = "127.0.0.1"
_SEED = "the ground of the tests"


@dataclass(frozen=True, slots=True)
class Ground:
    """What every sandbox here has in common, and what its clients have to know."""

    options: SandboxOptions
    trust_root: str
    ca_file: Path

    @property
    def ws_url(self) -> str:
        return f"ws://{_HOST}:{self.options.port}{CHAT_PATH}"

    def empty(self) -> SandboxOptions:
        """A sandbox without anybody."""
        return self.options

    def kept_in(self, state: Path) -> SandboxOptions:
        """A sandbox that writes down who is there."""
        return replace(self.options, state=state)

    def as_kept(self, state: Path, directory: Path) -> SandboxOptions:
        """A sandbox with those who were written down there; what becomes of them changes nothing there."""
        return self.kept_in(Path(shutil.copy(state, directory / "sandbox.db")))


@contextlib.contextmanager
def ground() -> Iterator[Ground]:
    """Ports and keys for sandboxes, one at a time."""
    with contextlib.ExitStack() as cleanup:
        held = [HeldPort(_HOST), HeldPort(_HOST)]
        for port in held:
            cleanup.callback(port.close)
        directory = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="wahub-ground-")))
        keys = keys_from_seed(_SEED)
        # The CA of every later sandbox has this name and key.
        ca_file = write_certificates(keys.media_ca, [_HOST], directory / "ca.pem", directory).ca
        port, tls_port = (one.number for one in held)
        yield Ground(SandboxOptions(port=port, tls_port=tls_port, seed=_SEED), keys.trust_root, ca_file)
