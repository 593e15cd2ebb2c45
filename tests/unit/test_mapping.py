"""What an operator sets reaches the part that goes by it, in its unit."""

from __future__ import annotations

from pathlib import Path

import pytest

from wahub.config import Settings, load_settings, names_of
from wahub.domain.reconnect import ReconnectPolicy
from wahub.domain.restore import RestorePolicy
from wahub.domain.retry import Backoff, ReconnectLadder
from wahub.domain.watchdog import Timers
from wahub.mapping import api_settings, media_settings, runtime_settings
from wahub.runtime.media import MediaSettings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No environment and no `.env` but what the test makes."""
    for name in [name for field in Settings.model_fields for name in names_of(field)]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def load(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def test_nothing_set_means_the_defaults_of_the_parts() -> None:
    made = runtime_settings(load_settings())
    assert made.reconnect == ReconnectPolicy()
    assert made.timers == Timers()
    assert made.restore == RestorePolicy()


def test_files_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert media_settings(load_settings()) == MediaSettings()
    assert runtime_settings(load_settings()).eager_media is False
    given = {"MEDIA_DOWNLOAD": "eager", "MEDIA_MAX_MB": "3", "MEDIA_RETENTION_DAYS": "0.5"}
    settings = load(monkeypatch, given)
    assert media_settings(settings) == MediaSettings(eager=True, limit=3 * 1024 * 1024, kept=43_200.0)
    assert runtime_settings(settings).eager_media is True
    unlimited = load(monkeypatch, {"MEDIA_MAX_MB": "0", "MEDIA_RETENTION_DAYS": "0"})
    assert (media_settings(unlimited).limit, media_settings(unlimited).kept) == (0, None)


def test_the_ladder_of_lost_links(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "RECONNECT_BASE_MS": "100",
        "RECONNECT_MAX_MS": "9000",
        "MAX_RECONNECT_ATTEMPTS": "3",
        "MAX_PAIRING_RECONNECT_ATTEMPTS": "4",
        "DISABLE_AUTO_RECONNECT": "1",
        "MIN_DISCONNECT_COOLDOWN_MS": "2500",
        "MAX_RESTARTS_PER_WINDOW": "7",
        "RESTART_WINDOW_MINUTES": "0.5",
        "RESTART_RATE_LIMIT_EXTRA_HOURS": "0.25",
        "EXTENDED_RESTRICTION_COOLDOWN_HOURS": "2",
        "REPLACED_WAIT_MS": "1500",
        "REPLACED_WINDOW_MS": "2500",
        "RECONNECT_EXHAUSTED": "needs_qr",
    }
    settings = load(monkeypatch, environment)
    assert runtime_settings(settings).reconnect == ReconnectPolicy(
        ladder=ReconnectLadder(0.1, 9.0, 3),
        pairing=Backoff(0.2, 3.0),
        pairing_attempts=4,
        auto=False,
        cooldown=2.5,
        restarts=7,
        window=30.0,
        limit_extra=900.0,
        restricted=7200.0,
        replaced_wait=1.5,
        replaced_window=2.5,
        exhausted_needs_qr=True,
    )
    assert api_settings(settings).restart_window == 30.0


def test_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "WHATSAPP_CONNECT_TIMEOUT_MS": "1000",
        "INIT_TIMEOUT_MS": "2000",
        "READY_WATCHDOG_MS": "3000",
        "READY_TIMEOUT_PAUSE_MIN": "0.1",
        "READY_POLL_INTERVAL_MS": "4000",
        "CONNECTING_WATCHDOG_MS": "5000",
        "CONNECTING_WATCHDOG_MAX_RESTARTS": "6",
        "READY_TIMEOUT_MS": "7000",
        "HARD_RESTART_TIMEOUT_MS": "8000",
        "RESTART_BACKOFF_MS": "9000",
        "RESTART_BACKOFF_SEQUENCE_MS": "100,200",
        "HEALTH_CHECK_INTERVAL_MIN": "0.5",
        "ZOMBIE_INACTIVITY_THRESHOLD_MIN": "0.25",
        "STALE_LINK_MS": "600",
        "MUTE_UNHANDLED_MS": "900",
        "LINK_IDLE_RECYCLE_HOURS": "0",
    }
    made = runtime_settings(load(monkeypatch, environment)).timers
    assert (made.connect, made.init, made.ready_watchdog, made.ready_pause) == (1.0, 2.0, 3.0, 6.0)
    assert (made.ready_poll, made.connecting_watchdog, made.connecting_restarts) == (4.0, 5.0, 6)
    assert (made.soft_restart, made.hard_restart) == (7.0, 8.0)
    assert (made.restart_backoff, made.restart_waits) == (Backoff(9.0, 3600.0), (0.1, 0.2))
    assert (made.health_every, made.inactive, made.recycle_idle) == (30.0, 15.0, 0.0)
    assert (made.stale, made.unhandled) == (0.6, 0.9)
    # What was shortened is looked at in time.
    assert made.look_every == pytest.approx(0.2)


def test_the_wait_for_a_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "QR_STALE_MS": "100",
        "QR_TTL_MS": "200",
        "QR_MAX_RECOVERY_ATTEMPTS": "1",
        "QR_RECOVERY_BACKOFF_MS": "300,400",
        "QR_RECOVERY_WATCHDOG_INTERVAL_MS": "500",
    }
    made = runtime_settings(load(monkeypatch, environment)).timers.qr
    assert (made.stale, made.ttl, made.attempts, made.backoff, made.every) == (0.1, 0.2, 1, (0.3, 0.4), 0.5)


def test_restore(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "RESTORE_CONCURRENCY": "2",
        "RESTORE_JITTER_MS": "0,10",
        "RESTORE_COOLDOWN_MS": "30000",
        "RESTORE_MIN_FREE_MEM_MB": "800",
        "RESTORE_FLOOR_PATIENCE_MS": "1500",
        "RESTORE_MAX_ATTEMPTS": "1",
        "RESTORE_BACKOFF_BASE_MS": "300000",
    }
    made = runtime_settings(load(monkeypatch, environment)).restore
    assert (made.concurrency, made.jitter, made.cooldown) == (2, (0.0, 0.01), 30.0)
    assert (made.min_free_mb, made.floor_patience, made.max_attempts) == (800.0, 1.5, 1)
    # A first wait that is longer than the usual longest one stands.
    assert made.backoff == Backoff(300.0, 300.0)


def test_the_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"ADMIN_DEBUG_SECRET": " s ", "DELETE_DESTROY_TIMEOUT_MS": "250", "READY_WATCHDOG_MS": "5"}
    made = api_settings(load(monkeypatch, environment))
    assert (made.admin_secret, made.delete_wait, made.ready_watchdog_ms) == ("s", 0.25, 5)
    assert "admin_secret" not in repr(made)


@pytest.mark.parametrize(("days", "kept"), [(None, 30 * 86_400.0), ("1", 86_400.0), ("7.5", 648_000.0), ("0", None)])
def test_how_long_messages_are_kept(monkeypatch: pytest.MonkeyPatch, days: str | None, kept: float | None) -> None:
    settings = load(monkeypatch, {} if days is None else {"MESSAGES_RETENTION_DAYS": days})
    assert runtime_settings(settings).messages_kept == api_settings(settings).messages_kept == kept
