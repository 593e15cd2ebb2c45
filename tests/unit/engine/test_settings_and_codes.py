"""What the engine refuses to start with, and how its disconnect codes are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wahub.adapters.engines.baileys.codes import disconnect_reason
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.domain.instance import Disconnect


def settings(**changes: Any) -> BaileysSettings:
    here = Path("/nowhere")
    return BaileysSettings(node=here, directory=here, run_dir=here, spool_dir=here, **changes)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"instances_per_engine": 0}, "instances_per_engine"),
        ({"trust_root": "ab" * 31}, "trust_root"),
        ({"trust_root": "zz" * 32}, "trust_root"),
        ({"wa_url": "http://127.0.0.1/"}, "wa_url"),
        ({"wa_url": "ws://example.org/ws/chat"}, "wa_url"),
        ({"wa_url": "ws://127.0.0.1.example.org/ws/chat"}, "wa_url"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        settings(**changes)


@pytest.mark.parametrize("url", ["ws://127.0.0.1:4480/ws/chat", "ws://[::1]:1/", "wss://example.org/ws/chat", None])
def test_good_addresses(url: str | None) -> None:
    assert settings(wa_url=url).wa_url == url


def test_the_spool_key_depends_on_the_secret_and_only_on_it() -> None:
    key = settings(encryption_key=b"secret").spool_key()
    assert key is not None
    assert len(key) == 32
    assert settings(encryption_key=b"secret").spool_key() == key
    assert settings(encryption_key=b"other").spool_key() != key
    assert settings().spool_key() is None


@pytest.mark.parametrize(
    ("cause", "code", "reason"),
    [
        (None, 401, Disconnect.LOGGED_OUT),
        (None, 403, Disconnect.BANNED),
        (None, 408, Disconnect.TIMED_OUT),
        ("qr_expired", 408, Disconnect.QR_EXPIRED),
        (None, 411, Disconnect.MULTIDEVICE_MISMATCH),
        (None, 428, Disconnect.CONNECTION_CLOSED),
        (None, 440, Disconnect.REPLACED),
        ("device_removed", 440, Disconnect.LOGGED_OUT),
        (None, 500, Disconnect.BAD_SESSION),
        (None, 503, Disconnect.UNAVAILABLE),
        (None, 515, Disconnect.RESTART_REQUIRED),
        (None, 516, Disconnect.UNKNOWN),
        (None, None, Disconnect.UNKNOWN),
        ("closed_by_us", None, Disconnect.CLOSED_BY_US),
        ("a later version's cause", 503, Disconnect.UNAVAILABLE),
    ],
)
def test_codes(cause: str | None, code: int | None, reason: Disconnect) -> None:
    assert disconnect_reason(cause, code) is reason
