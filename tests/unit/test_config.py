"""Settings: where they come from, what is refused, and that no secret is ever shown (contract 0.11, G.1)."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from wahub.adapters.system_clock import SystemClock
from wahub.config import Settings, SettingsError, load_settings, names_of

ROOT = Path(__file__).resolve().parents[2]
SECRET = "geheim-7c1f"
SECRETS = (
    "API_KEY",
    "ADMIN_DEBUG_SECRET",
    "WEBHOOK_SECRET",
    "WEBHOOK_AUTH_TOKEN",
    "WEBHOOK_PROTECTION_BYPASS",
    "WAHUB_ENCRYPTION_KEY",
)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No environment and no `.env` but what the test makes."""
    for name in [name for field in Settings.model_fields for name in names_of(field)]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], **flags: Any) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings(**flags)


def test_the_defaults_of_the_contract(clean: Path) -> None:
    settings = load_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 3000)
    assert (settings.data_dir, settings.database_url) == (Path("wahub-data"), f"sqlite:///{clean}/wahub-data/wahub.db")
    assert (settings.wa_url, settings.wa_trust_root, settings.wa_ca_file) == (None, None, None)
    assert settings.instances_per_engine == 100
    assert (settings.webhook_timeout_ms, settings.webhook_retry_base_ms) == (10_000, 1_000)
    assert (settings.webhook_retry_max_ms, settings.webhook_concurrency) == (3_600_000, 8)
    assert (settings.reconnect_base_ms, settings.reconnect_max_ms) == (1_000, 300_000)
    assert (settings.qr_first_ms, settings.qr_next_ms) == (60_000, 20_000)
    assert (settings.restore_jitter_ms, settings.send_spacing_ms) == ((2_000, 5_000), 500)
    assert (settings.send_ack_timeout_ms, settings.unknown_evidence_ms) == (20_000, 10_000)
    assert (settings.max_queue_size, settings.sends_per_minute, settings.sends_per_hour) == (200, 6, 60)
    assert (settings.retry_base_ms, settings.retry_max_ms, settings.idempotency_derived_ttl_sec) == (5000, 120_000, 600)
    assert (settings.queue_item_ttl_hours, settings.typing_enabled, settings.gateway_url) == (168, True, None)
    assert (settings.typing_min_ms, settings.typing_max_ms, settings.typing_max_total_ms) == (600, 1800, 2500)
    assert (settings.lease_ms, settings.lease_renew_every_ms, settings.ready_watchdog_ms) == (25_000, 15_000, 600_000)
    assert (settings.production, settings.fault, settings.log_level) == (False, None, "info")


LIFECYCLE = {
    "INIT_TIMEOUT_MS": ("init_timeout_ms", 120_000),
    "READY_WATCHDOG_MS": ("ready_watchdog_ms", 600_000),
    "READY_TIMEOUT_PAUSE_MIN": ("ready_pause_min", 10),
    "READY_POLL_INTERVAL_MS": ("ready_poll_ms", 15_000),
    "CONNECTING_WATCHDOG_MS": ("connecting_watchdog_ms", 600_000),
    "CONNECTING_WATCHDOG_MAX_RESTARTS": ("connecting_restarts", 2),
    "QR_STALE_MS": ("qr_stale_ms", 90_000),
    "QR_TTL_MS": ("qr_ttl_ms", 300_000),
    "QR_MAX_RECOVERY_ATTEMPTS": ("qr_recovery_attempts", 3),
    "QR_RECOVERY_WATCHDOG_INTERVAL_MS": ("qr_watchdog_ms", 10_000),
    "QR_RECOVERY_BACKOFF_MS": ("qr_recovery_backoff_ms", (10_000, 30_000, 60_000)),
    "MAX_PAIRING_RECONNECT_ATTEMPTS": ("pairing_attempts", 10),
    "WHATSAPP_CONNECT_TIMEOUT_MS": ("connect_timeout_ms", 60_000),
    "MIN_DISCONNECT_COOLDOWN_MS": ("disconnect_cooldown_ms", None),
    "MAX_RESTARTS_PER_WINDOW": ("restarts_per_window", 4),
    "RESTART_WINDOW_MINUTES": ("restart_window_min", 10),
    "RESTART_RATE_LIMIT_EXTRA_HOURS": ("restart_limit_extra_hours", 1),
    "EXTENDED_RESTRICTION_COOLDOWN_HOURS": ("restricted_hours", 72),
    "DISABLE_AUTO_RECONNECT": ("disable_auto_reconnect", False),
    "READY_TIMEOUT_MS": ("ready_timeout_ms", 180_000),
    "SOFT_RESTART_TIMEOUT_MS": ("soft_restart_timeout_ms", None),
    "HARD_RESTART_TIMEOUT_MS": ("hard_restart_timeout_ms", None),
    "RESTART_BACKOFF_MS": ("restart_backoff_ms", 2_000),
    "RESTART_BACKOFF_SEQUENCE_MS": ("restart_backoff_sequence_ms", ()),
    "DELETE_DESTROY_TIMEOUT_MS": ("delete_timeout_ms", 15_000),
    "HEALTH_CHECK_INTERVAL_MIN": ("health_check_min", 20),
    "ZOMBIE_INACTIVITY_THRESHOLD_MIN": ("inactivity_min", 30),
    "RESTORE_CONCURRENCY": ("restore_concurrency", 4),
    "RESTORE_COOLDOWN_MS": ("restore_cooldown_ms", None),
    "RESTORE_MIN_FREE_MEM_MB": ("restore_min_free_mb", 100),
    "RESTORE_MAX_ATTEMPTS": ("restore_attempts", 5),
    "RESTORE_BACKOFF_BASE_MS": ("restore_backoff_ms", 15_000),
}
"""Names of contract G.1."""

LIFECYCLE_NEW = {
    "MAX_RECONNECT_ATTEMPTS": ("max_reconnect_attempts", 5),
    "RECONNECT_EXHAUSTED": ("reconnect_exhausted", ""),
    "REPLACED_WAIT_MS": ("replaced_wait_ms", 60_000),
    "REPLACED_WINDOW_MS": ("replaced_window_ms", 600_000),
    "STALE_LINK_MS": ("stale_link_ms", 300_000),
    "MUTE_UNHANDLED_MS": ("mute_unhandled_ms", 30_000),
    "LINK_IDLE_RECYCLE_HOURS": ("idle_recycle_hours", 24),
    "RESTORE_FLOOR_PATIENCE_MS": ("restore_floor_patience_ms", 300_000),
}
"""Names of this project."""


@pytest.mark.parametrize("name", [*LIFECYCLE, *LIFECYCLE_NEW])
def test_defaults_of_the_lifecycle(name: str) -> None:
    field, default = (LIFECYCLE | LIFECYCLE_NEW)[name]
    assert getattr(load_settings(), field) == default
    assert names_of(field) == (name,)


@pytest.mark.parametrize("name", LIFECYCLE)
@pytest.mark.parametrize("value", ["soon", "1 000", "nan"])
def test_names_of_the_lifecycle_fall_back_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    field, default = LIFECYCLE[name]
    settings = load(monkeypatch, {name: value})
    assert getattr(settings, field) == default
    (warning,) = [text for text in settings.warnings if text.startswith(name)]
    assert value not in warning and "None" not in warning


@pytest.mark.parametrize("name", LIFECYCLE_NEW)
def test_new_names_of_the_lifecycle_end_the_start(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: "):
        load(monkeypatch, {name: "soon"})


@pytest.mark.parametrize(
    "name", sorted(({*LIFECYCLE, *LIFECYCLE_NEW}) - {"DISABLE_AUTO_RECONNECT", "RECONNECT_EXHAUSTED"})
)
def test_nothing_of_the_lifecycle_is_negative(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    is_list = isinstance((LIFECYCLE | LIFECYCLE_NEW)[name][1], tuple)
    if is_list:
        settings = load(monkeypatch, {name: "-1,2"})
        assert getattr(settings, LIFECYCLE[name][0]) == LIFECYCLE[name][1]
        return
    with pytest.raises(SettingsError, match=f"^{name}: "):
        load(monkeypatch, {name: "-1"})


@pytest.mark.parametrize(
    "name",
    [name for name in (*LIFECYCLE, *LIFECYCLE_NEW) if name.endswith(("_MIN", "_MINUTES", "_HOURS", "_THRESHOLD_MIN"))],
)
def test_minutes_and_hours_take_fractions_but_no_eternity(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    field, _ = (LIFECYCLE | LIFECYCLE_NEW)[name]
    assert getattr(load(monkeypatch, {name: "0.005"}), field) == 0.005
    with pytest.raises(SettingsError, match=f"^{name}: "):
        load(monkeypatch, {name: "1e9"})


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [
        ("QR_RECOVERY_BACKOFF_MS", "1, 2 ,3", (1, 2, 3)),
        ("QR_RECOVERY_BACKOFF_MS", "7", (7,)),
        ("RESTART_BACKOFF_SEQUENCE_MS", "300000,900000,3600000", (300_000, 900_000, 3_600_000)),
        ("RESTORE_COOLDOWN_MS", "0", 0),
        ("MIN_DISCONNECT_COOLDOWN_MS", "0", 0),
        ("DISABLE_AUTO_RECONNECT", "true", True),
        ("RECONNECT_EXHAUSTED", "needs_qr", "needs_qr"),
    ],
)
def test_values_of_the_lifecycle(monkeypatch: pytest.MonkeyPatch, name: str, given: str, read: object) -> None:
    assert getattr(load(monkeypatch, {name: given}), (LIFECYCLE | LIFECYCLE_NEW)[name][0]) == read


def test_flag_over_environment_over_file_over_default(monkeypatch: pytest.MonkeyPatch, clean: Path) -> None:
    (clean / ".env").write_text("PORT=1\nQR_FIRST_MS=1\nQR_NEXT_MS=1\nUNKNOWN_NAME=1\n")
    settings = load(monkeypatch, {"PORT": "2", "QR_NEXT_MS": "2"}, port=3)
    assert (settings.qr_first_ms, settings.qr_next_ms, settings.port) == (1, 2, 3)


def test_an_empty_value_counts_as_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, {"PORT": "", "API_KEY": "", "WAHUB_WA_URL": ""})
    assert (settings.port, settings.api_key, settings.wa_url) == (3000, None, None)


@pytest.mark.parametrize("name", ["NODE_ENV", "ENV"])
def test_production_by_either_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert load(monkeypatch, {name: "production"}).production


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("webhook_secret", "MAIN_APP_WEBHOOK_SECRET"),
        ("webhook_protection_bypass", "VERCEL_AUTOMATION_BYPASS_SECRET"),
        ("webhook_auth_token", "WEBHOOK_BEARER_TOKEN"),
    ],
)
def test_alternate_names(monkeypatch: pytest.MonkeyPatch, field: str, name: str) -> None:
    found = getattr(load(monkeypatch, {name: "old"}), field)
    assert found.get_secret_value() == "old"
    preferred = names_of(field)[0]
    assert getattr(load(monkeypatch, {preferred: "new"}), field).get_secret_value() == "new"


# --- what does not parse ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "field", "default"),
    [
        ("PORT", "port", 3000),
        ("MAX_QUEUE_SIZE", "max_queue_size", 200),
        ("MAX_SENDS_PER_MINUTE_PER_INSTANCE", "sends_per_minute", 6),
        ("RETRY_BASE_BACKOFF_MS", "retry_base_ms", 5000),
        ("TYPING_INDICATOR_MIN_MS", "typing_min_ms", 600),
        ("TYPING_INDICATOR_MAX_MS", "typing_max_ms", 1800),
        ("TYPING_INDICATOR_MAX_TOTAL_MS", "typing_max_total_ms", 2500),
        ("LEASE_MS", "lease_ms", 25_000),
        ("LOG_LEVEL", "log_level", "info"),
    ],
)
@pytest.mark.parametrize("value", ["many", "1.5", "10s"])
def test_documented_names_fall_back_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, name: str, field: str, default: object, value: str
) -> None:
    settings = load(monkeypatch, {name: value})
    assert getattr(settings, field) == default
    assert len([text for text in settings.warnings if text.startswith(name)]) == 1


def test_several_fall_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, {"PORT": "x", "MAX_QUEUE_SIZE": "y"})
    assert (settings.port, settings.max_queue_size) == (3000, 200)
    assert [text.split()[0] for text in settings.warnings[:2]] == ["PORT", "MAX_QUEUE_SIZE"]


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"SEND_SPACING_MS": "soon"}, "SEND_SPACING_MS: "),
        ({"QR_FIRST_MS": "-1"}, "QR_FIRST_MS: "),
        ({"WEBHOOK_CONCURRENCY": "0"}, "WEBHOOK_CONCURRENCY: "),
        ({"QUEUE_ITEM_TTL_HOURS": "0"}, "QUEUE_ITEM_TTL_HOURS: "),
        ({"QUEUE_ITEM_TTL_HOURS": "nan"}, "QUEUE_ITEM_TTL_HOURS: "),
        ({"QUEUE_ITEM_TTL_HOURS": "inf"}, "QUEUE_ITEM_TTL_HOURS: "),
        ({"QUEUE_ITEM_TTL_HOURS": "a week"}, "QUEUE_ITEM_TTL_HOURS: "),
        ({"MESSAGES_RETENTION_DAYS": "0.5"}, "MESSAGES_RETENTION_DAYS: "),
        ({"MESSAGES_RETENTION_DAYS": "-1"}, "MESSAGES_RETENTION_DAYS: "),
        ({"TYPING_INDICATOR_MIN_MS": "-1"}, "TYPING_INDICATOR_MIN_MS: "),
        ({"WAHUB_URL": "127.0.0.1:3000"}, "WAHUB_URL: a URL such as http://"),
        ({"WAHUB_URL": f"http://me:{SECRET}@127.0.0.1:3000"}, "WAHUB_URL: a URL such as http://"),
        ({"WAHUB_URL": "http://127.0.0.1:3000/path"}, "WAHUB_URL: a URL such as http://"),
        ({"PORT": "70000"}, "PORT: "),
        ({"PORT": "-1"}, "PORT: "),
        ({"ALLOW_NO_AUTH": "perhaps"}, "ALLOW_NO_AUTH: "),
        ({"RESTORE_JITTER_MS": "5000"}, "RESTORE_JITTER_MS: two numbers"),
        ({"RESTORE_JITTER_MS": "5000,2000"}, "RESTORE_JITTER_MS: two numbers"),
        ({"WAHUB_WA_TRUST_ROOT": "ab"}, "WAHUB_WA_TRUST_ROOT: 64 hex digits"),
        ({"WAHUB_WA_TRUST_ROOT": "g" * 64}, "WAHUB_WA_TRUST_ROOT: 64 hex digits"),
        ({"WAHUB_WA_URL": "ws://example.com/ws"}, "WAHUB_WA_URL: ws:// is allowed to loopback only"),
        ({"WAHUB_WA_URL": "ws://127.0.0.1.example.com"}, "WAHUB_WA_URL: ws:// is allowed to loopback only"),
        ({"WAHUB_WA_URL": "https://example.com"}, "WAHUB_WA_URL: a URL such as wss://"),
        ({"WAHUB_WA_URL": "wss://[::1"}, "WAHUB_WA_URL: a URL such as wss://"),
        ({"WAHUB_WA_CA_FILE": "/no/such/file"}, "WAHUB_WA_CA_FILE: there is no such file"),
        ({"DATABASE_URL": f"mysql://root:{SECRET}@host/db"}, "DATABASE_URL: it must begin with"),
        ({"WAHUB_ENV": "test", "WAHUB_FAULT": "nowhere"}, "WAHUB_FAULT: unknown point"),
        ({"WAHUB_ENV": "test", "WAHUB_FAULT": "after_ack:0"}, "WAHUB_FAULT: the number"),
        ({"WAHUB_CLOCK_SHIFT_MS": "-1"}, "WAHUB_CLOCK_SHIFT_MS: "),
        ({"WEBHOOK_SECRET": "whsec_!!"}, "WEBHOOK_SECRET starts with whsec_ but the rest is not base64"),
        ({"HOST": "0.0.0.0"}, "HOST is not a loopback address and API_KEY is not set"),
        ({"HOST": "wa.example.com"}, "HOST is not a loopback address and API_KEY is not set"),
    ],
)
def test_what_is_refused_is_named(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(monkeypatch, environment)
    assert str(refused.value).startswith(text)
    assert SECRET not in str(refused.value)


def test_a_flag_never_falls_back() -> None:
    with pytest.raises(SettingsError, match="PORT"):
        load_settings(port="x")


# --- rules between settings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_loopback_needs_no_key(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    assert load(monkeypatch, {"HOST": host}).host == host


def test_a_key_opens_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, {"API_KEY": f" {SECRET} "})
    assert settings.host == "0.0.0.0"
    assert settings.api_key is not None and settings.api_key.get_secret_value() == SECRET
    assert not any("API_KEY" in text for text in settings.warnings)


def test_a_blank_key_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, {"API_KEY": "  "})
    assert (settings.api_key, settings.host) == (None, "127.0.0.1")


def test_no_key_on_the_network_only_if_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, {"HOST": "0.0.0.0", "ALLOW_NO_AUTH": "1"})
    assert settings.host == "0.0.0.0"
    assert any("ALLOW_NO_AUTH" in text for text in settings.warnings)
    assert load(monkeypatch, {"HOST": ""}).host == "127.0.0.1"


@pytest.mark.parametrize("url", ["ws://localhost:4480/ws/chat", "ws://[::1]:1", "ws://127.0.0.2", "wss://example.com"])
def test_engine_urls(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert load(monkeypatch, {"WAHUB_WA_URL": url, "WAHUB_WA_TRUST_ROOT": "AB" * 32}).wa_url == url


def test_a_shortened_lease_takes_its_renewals_along(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, {"LEASE_MS": "3000", "RECONNECT_MAX_MS": "100", "WEBHOOK_RETRY_MAX_MS": "10"})
    assert settings.lease_renew_every_ms == 1800
    assert any(text.startswith("LEASE_RENEW_EVERY_MS") for text in settings.warnings)


@pytest.mark.parametrize(
    ("given", "enabled"),
    [("false", False), ("true", True), ("False", True), ("0", True), ("no", True), ("anything", True), ("", True)],
)
def test_only_a_literal_false_disables_typing(monkeypatch: pytest.MonkeyPatch, given: str, enabled: bool) -> None:
    assert load(monkeypatch, {"TYPING_INDICATOR_ENABLED_DEFAULT": given}).typing_enabled is enabled


def test_typing_may_be_shortened_by_one_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, {"TYPING_INDICATOR_MAX_MS": "100", "QUEUE_ITEM_TTL_HOURS": "0.5"})
    assert (settings.typing_min_ms, settings.typing_max_ms, settings.queue_item_ttl_hours) == (100, 100, 0.5)
    assert any(text.startswith("TYPING_INDICATOR_MIN_MS") for text in settings.warnings)


def test_faults_only_in_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    ignored = load(monkeypatch, {"WAHUB_FAULT": "after_ack:2"})
    assert ignored.fault is None
    assert any("WAHUB_FAULT is ignored" in text for text in ignored.warnings)
    assert load(monkeypatch, {"WAHUB_ENV": "test"}).fault == "after_ack:2"


def test_the_clock_is_put_forward_only_in_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    ignored = load(monkeypatch, {"WAHUB_CLOCK_SHIFT_MS": "1200000"})
    assert ignored.clock_shift == 0
    assert any("WAHUB_CLOCK_SHIFT_MS is ignored" in text for text in ignored.warnings)
    moved = load(monkeypatch, {"WAHUB_ENV": "test"})
    assert moved.clock_shift == 1200
    assert not any("WAHUB_CLOCK_SHIFT_MS" in text for text in moved.warnings)
    assert abs(SystemClock(1200).now() - time.time() - 1200) < 60


def test_names_of_other_systems(monkeypatch: pytest.MonkeyPatch, clean: Path) -> None:
    (clean / ".env").write_text("MARK_SEEN_AFTER_SEND=true\n")
    before = load_settings().warnings
    later = {"MESSAGE_FALLBACK_POLL_ENABLED": "x", "SHARD_COUNT": "x", "MAX_ACCOUNTS": "x"}
    assert load(monkeypatch, later).warnings == before
    left_out = {"CHROME_PATH": "/x", "INBOUND_MAX_BUFFER": "x", "SYNCING_MAX_MS": "x"}
    (warning,) = set(load(monkeypatch, left_out).warnings) - set(before)
    assert all(name in warning for name in (*left_out, "MARK_SEEN_AFTER_SEND"))


# --- secrets and the example file -------------------------------------------------------------------------------------


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = dict.fromkeys(SECRETS, SECRET) | {"DATABASE_URL": f"postgresql://wahub:{SECRET}@host/db"}
    settings = load(monkeypatch, environment)
    assert settings.database_url.endswith(f"{SECRET}@host/db")
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json() + str(settings.warnings)


def test_env_example_is_up_to_date() -> None:
    check = subprocess.run(
        [sys.executable, ROOT / "scripts" / "gen_env_example", "--check"], capture_output=True, text=True, cwd=ROOT
    )
    assert check.returncode == 0, check.stderr
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    for field in Settings.model_fields:
        assert f"\n# {names_of(field)[0]}=" in text


def test_the_uncommented_example_gives_the_defaults(clean: Path) -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    settings = [line[2:] for line in lines if line[2:].partition("=")[0].replace("_", "").isupper()]
    assert len(settings) == len(Settings.model_fields)
    plain = load_settings()
    (clean / ".env").write_text("\n".join(settings), encoding="utf-8")
    assert load_settings() == plain
