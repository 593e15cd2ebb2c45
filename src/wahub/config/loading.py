"""Reading the settings, and what is done about values that cannot be read.

A number that does not parse: the names that older systems used (`_OLD`, contract G.1) fall back to their default with
one warning, because their operators rely on it; newer names raise SettingsError. Names of parts that were left out
(contract 0.10) are ignored with one warning; names of parts still to come are ignored silently.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError

from wahub.config.fields import ENV_FILE, SettingsError, is_loopback
from wahub.config.settings import Settings, names_of

_DOCUMENTED = """
    PORT LOG_LEVEL MAX_QUEUE_SIZE MAX_SENDS_PER_MINUTE_PER_INSTANCE MAX_SENDS_PER_HOUR_PER_INSTANCE
    RETRY_BASE_BACKOFF_MS RETRY_MAX_BACKOFF_MS
    TYPING_INDICATOR_MIN_MS TYPING_INDICATOR_MAX_MS TYPING_INDICATOR_MAX_TOTAL_MS
    READY_TIMEOUT_MS SOFT_RESTART_TIMEOUT_MS HARD_RESTART_TIMEOUT_MS INIT_TIMEOUT_MS WHATSAPP_CONNECT_TIMEOUT_MS
    MAX_RESTARTS_PER_WINDOW RESTART_WINDOW_MINUTES RESTART_BACKOFF_MS RESTART_BACKOFF_SEQUENCE_MS
    RESTART_RATE_LIMIT_EXTRA_HOURS MIN_DISCONNECT_COOLDOWN_MS EXTENDED_RESTRICTION_COOLDOWN_HOURS
    DISABLE_AUTO_RECONNECT MAX_PAIRING_RECONNECT_ATTEMPTS
    READY_WATCHDOG_MS READY_TIMEOUT_PAUSE_MIN READY_POLL_INTERVAL_MS
    CONNECTING_WATCHDOG_MS CONNECTING_WATCHDOG_MAX_RESTARTS
    HEALTH_CHECK_INTERVAL_MIN ZOMBIE_INACTIVITY_THRESHOLD_MIN DELETE_DESTROY_TIMEOUT_MS
    QR_STALE_MS QR_TTL_MS QR_MAX_RECOVERY_ATTEMPTS QR_RECOVERY_WATCHDOG_INTERVAL_MS QR_RECOVERY_BACKOFF_MS
    RESTORE_CONCURRENCY RESTORE_COOLDOWN_MS RESTORE_MIN_FREE_MEM_MB RESTORE_MAX_ATTEMPTS RESTORE_BACKOFF_BASE_MS
    LEASE_MS LEASE_RENEW_EVERY_MS
"""
_OLD = frozenset(_DOCUMENTED.split())
"""Names of contract G.1: what does not parse falls back to the default."""

_LEFT_OUT = re.compile(
    r"MAX_OUTBOUND_QUEUE|OUTBOUND_QUEUE_TTL_MS|OUTBOUND_DRAIN_DELAY_MS"
    r"|INBOUND_(MAX_BUFFER|FLUSH_BATCH|FLUSH_INTERVAL_MS)"
    r"|SYNC_LITE_BLOCK_\w+|QR_SYNC_GRACE_MS|SYNCING_MAX_MS|FORCE_NORMAL_COOLDOWN_MS|LOW_POWER_MODE"
    r"|MARK_SEEN_\w+|READING_DELAY_(MIN|MAX)_MS|VIEW_SESSION_TIMEOUT_MIN|ONBOARDING_\w+"
    r"|CHROME_\w+|PUPPETEER_\w+|WAHUB_LOG_CHROME_ARGS"
)
"""Names of parts that are not part of this system (contract 0.10)."""

_FIELD_OF = {name: field for field in Settings.model_fields for name in names_of(field)}

_UNREADABLE = frozenset(
    {
        "bool_parsing",
        "finite_number",
        "float_parsing",
        "int_from_float",
        "int_parsing",
        "int_parsing_size",
        "int_type",
        "list_parsing",
        "literal_error",
    }
)
"""What pydantic and `Numbers` call a value that does not parse, as opposed to one that is out of bounds."""


def load_settings(**flags: object) -> Settings:
    """Read everything. `flags` are field names of Settings. SettingsError names what is wrong with which setting."""
    given: dict[str, Any] = {names_of(field)[0]: value for field, value in flags.items()}
    try:
        settings, doubtful = _parse(given)
    except UnicodeDecodeError:
        raise SettingsError(f"{ENV_FILE} is not UTF-8 text") from None
    settings._warnings = (*settings._warnings, *doubtful, *_advice(settings), *_about_left_out())
    return settings


def _parse(given: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """Validate; what the documents' names got wrong is replaced by the default, with a warning each."""
    replaced: dict[str, Any] = {}
    warnings: list[str] = []
    try:
        return Settings(**given), warnings
    except ValidationError as error:
        for found in error.errors(include_input=False, include_url=False):
            name = str(found["loc"][0]) if found["loc"] else ""
            if name in _OLD and name not in given and found["type"] in _UNREADABLE:
                default = Settings.model_fields[_FIELD_OF[name]].default
                replaced[name] = default
                warnings.append(f"{name} cannot be read: {_told(default)} is used")
        if not replaced:
            raise _explained(error) from None
    try:
        return Settings(**given, **replaced), warnings
    except ValidationError as error:
        raise _explained(error) from None


def _told(default: object) -> str:
    if default is None or default == ():
        return "its default"
    return f"its default {','.join(map(str, default)) if isinstance(default, tuple) else default}"


def _explained(error: ValidationError) -> SettingsError:
    lines = []
    for found in error.errors(include_input=False, include_url=False):
        text = found["msg"].removeprefix("Value error, ")
        name = str(found["loc"][0]) if found["loc"] else ""
        lines.append(text if not name or text.startswith(name) else f"{name}: {text}")
    return SettingsError("; ".join(lines))


def _advice(settings: Settings) -> list[str]:
    said = []
    if settings.api_key is None and is_loopback(settings.host):
        said.append("API_KEY is not set: no key is asked for, and only this machine is served")
    elif settings.api_key is None:
        said.append("API_KEY is not set and ALLOW_NO_AUTH is: whoever reaches this address controls every account")
    if settings.webhook_secret is None:
        said.append("WEBHOOK_SECRET is not set: webhooks are not signed")
    if settings.fault_wanted is not None and settings.fault is None:
        said.append("WAHUB_FAULT is ignored: it works only with WAHUB_ENV=test")
    if settings.clock_shift_ms and not settings.clock_shift:
        said.append("WAHUB_CLOCK_SHIFT_MS is ignored: it works only with WAHUB_ENV=test")
    return said


def _about_left_out() -> list[str]:
    names = {*os.environ, *dotenv_values(ENV_FILE)}
    found = sorted(name for name in names if _LEFT_OUT.fullmatch(name))
    return [f"ignored, since they belong to parts that wahub does not have: {', '.join(found)}"] if found else []
