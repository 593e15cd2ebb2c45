"""Gateways that lose what comes in, on purpose: the verdict must find them guilty.

`python -m tests.chaos.inbound.broken serve …` with WAHUB_BROKEN set to
- `spool`: the engine writes a received message into its spool when the receipt has left, as bots do that store what
  their library reports;
- `dedupe`: the key that makes a second arrival harmless is committed first, the event and its delivery after that.
Everything else is the shipped program.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from wahub import compose
from wahub.adapters.engines.baileys.install import InstalledEngine
from wahub.cli import main
from wahub.runtime.reports import ReportBatch
from wahub.services import inbox

LATE_SPOOL = {
    "repository.mjs": {
        "kept = await inbound.keep(arrival, decrypted, message);": "",
        "inbound.committed(arrival, kept);": "inbound.owed.push({ arrival, plaintext });",
    },
    "inbound.mjs": {
        "this.waiting = new Map();": "this.waiting = new Map();\n\t\tthis.owed = [];",
        "\tremember(key) {": """\tasync receiptLeft() {
\t\tfor (const { arrival, plaintext } of this.owed.splice(0)) {
\t\t\tthis.committed(arrival, await this.keep(arrival, plaintext, decodePlaintext(plaintext)));
\t\t}
\t}

\tremember(key) {""",
    },
    "config.mjs": {"if (isArmed('after_receipt')) {": "{"},
    "link.mjs": {
        "fault: 'after_receipt' }": "fault: 'after_receipt', then: () => this.inbound.receiptLeft() }",
    },
    "gate.mjs": {
        "\t\t\tcallback?.(error);": "\t\t\tmark?.then?.();\n\t\t\tcallback?.(error);",
    },
}
"""What is replaced in the engine's files. Each text must be there once, or the break would break nothing."""


def break_spool() -> None:
    """Run a changed copy of the engine, beside the libraries of the real one."""
    install = compose.ensure_installed

    def changed(*arguments: Any, **more: Any) -> InstalledEngine:
        real = install(*arguments, **more)
        copy = Path(tempfile.mkdtemp(prefix="engine-", dir=Path.cwd()))
        shutil.copytree(real.directory, copy, dirs_exist_ok=True)
        (copy / "node_modules").symlink_to(real.directory.parent / "node_modules")
        for name, changes in LATE_SPOOL.items():
            text = (copy / name).read_text()
            for old, new in changes.items():
                if text.count(old) != 1:
                    raise SystemExit(f"{name} does not have {old!r} once: the break must be written anew")
                text = text.replace(old, new)
            (copy / name).write_text(text)
        return replace(real, directory=copy)

    compose.ensure_installed = changed


def break_dedupe() -> None:
    """What the ingesting transaction would log and post is kept until its keys are committed and acknowledged."""
    emit_all = inbox.webhook.emit_all
    write = ReportBatch._write
    owed: dict[tuple[str, ...], Callable[[Any], Any]] = {}

    class Later:
        """Stands in for `services.webhook` in the ingesting transaction."""

        Emission = inbox.webhook.Emission

        @staticmethod
        def emit_all(_tx: Any, instance: Any, emissions: Any, *, now: float) -> int:
            owed[tuple(one.event_id for one in emissions)] = lambda tx: emit_all(tx, instance, emissions, now=now)
            return len(emissions)

    async def in_two(self: Any, *arguments: Any) -> None:
        await write(self, *arguments)
        calls = list(owed.values())
        owed.clear()
        if calls:
            await self._deps.database.write(lambda tx: [call(tx) for call in calls])

    inbox.webhook = Later  # type: ignore[assignment, misc]
    ReportBatch._write = in_two  # type: ignore[method-assign]


BREAKS = {"spool": break_spool, "dedupe": break_dedupe}

if __name__ == "__main__":
    BREAKS[os.environ["WAHUB_BROKEN"]]()
    main()
