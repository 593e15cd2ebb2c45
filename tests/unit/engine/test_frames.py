"""Both ends of the pipe read and write the shared example frames, and each frame type has one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from tests.unit.engine.frames import FIXTURES, load_all, to_plain

from wahub.adapters.engines.baileys import framing, wire
from wahub.adapters.engines.baileys.install import ensure_installed
from wahub.config import load_settings

EXAMPLES = load_all()
SENT_BY_US = {name: example for name, example in EXAMPLES.items() if example["from"] == "gateway"}
SENT_TO_US = {name: example for name, example in EXAMPLES.items() if example["from"] == "engine"}


def _as_frame(example: dict[str, Any]) -> wire.ToEngine:
    return msgspec.convert(to_plain(example["frame"]), wire.ToEngine)


@pytest.mark.parametrize("name", SENT_BY_US)
def test_what_we_send_is_byte_for_byte_the_example(name: str) -> None:
    body = bytes.fromhex(SENT_BY_US[name]["hex"])
    assert framing.encode(_as_frame(SENT_BY_US[name])) == len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize("name", SENT_TO_US)
def test_what_the_engine_sends_is_understood(name: str) -> None:
    body = bytes.fromhex(SENT_TO_US[name]["hex"])
    [frame] = framing.FrameReader().feed(len(body).to_bytes(4, "big") + body)
    assert frame == msgspec.convert(to_plain(SENT_TO_US[name]["frame"]), wire.FromEngine)


def test_every_frame_type_has_an_example() -> None:
    types = {struct.__struct_config__.tag for struct in (*get_args(wire.ToEngine), *get_args(wire.FromEngine))}
    assert {example["frame"]["t"] for example in EXAMPLES.values()} == types


def test_frames_are_cut_out_of_any_pieces() -> None:
    bodies = [bytes.fromhex(example["hex"]) for example in SENT_TO_US.values()]
    stream = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    whole = list(framing.FrameReader().feed(stream))
    for size in (1, 3, 7, 64):
        reader = framing.FrameReader()
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert [frame for piece in pieces for frame in reader.feed(piece)] == whole


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\x01", b"\x00\x00\x00\x04\x81\xa1t\xa1"])
def test_a_broken_stream_is_refused(data: bytes) -> None:
    with pytest.raises(framing.FrameError):
        list(framing.FrameReader().feed(data))


def test_the_engines_end_agrees() -> None:
    installed = ensure_installed(load_settings().cache_dir, print)
    done = subprocess.run(
        [installed.node, "--test", Path(__file__).with_name("frames.test.mjs")],
        env={"ENGINE_DIRECTORY": str(installed.directory), "FRAMES": str(FIXTURES), "RECORD": os.getenv("RECORD", "")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
