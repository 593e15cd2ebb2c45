"""The example frames in tests/fixtures/frames: one file per frame, checked by both ends of the pipe.

`frame` is the frame as JSON ({"$bytes": "<hex>"} for bytes), `hex` its body as the sender (`from`) encodes it.
Run as a script, this writes `hex` anew for what the gateway sends; frames.test.mjs does it for the engine's (RECORD=1).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parents[2] / "fixtures" / "frames"


def load_all() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(FIXTURES.glob("*.json"))}


def to_plain(value: Any) -> Any:
    """JSON with its marked bytes as bytes."""
    if isinstance(value, dict):
        if set(value) == {"$bytes"}:
            return bytes.fromhex(value["$bytes"])
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    return value


def _record() -> None:
    import msgspec

    from wahub.adapters.engines.baileys import framing, wire

    for name, example in load_all().items():
        if example["from"] == "gateway":
            frame = msgspec.convert(to_plain(example["frame"]), wire.ToEngine)
            example["hex"] = framing.encode(frame)[4:].hex()
            (FIXTURES / f"{name}.json").write_text(json.dumps(example, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    _record()
