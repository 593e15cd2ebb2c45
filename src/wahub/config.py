"""The settings: the only place that reads the environment.

A flag wins over the environment, the environment over `.env` in the working directory, that over the default
(contract 0.11). An empty value counts as not given. `.env.example` is made from this file by
`scripts/gen_env_example`.

A number that does not parse: the names that older systems used (`_OLD`, contract G.1) fall back to their default with
one warning, because their operators rely on it; newer names raise SettingsError. Names of parts that were left out
(contract 0.10) are ignored with one warning; names of parts still to come are ignored silently.
"""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, PrivateAttr, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from wahub import faults

ENV_FILE = ".env"


class SettingsError(Exception):
    """A setting is wrong. The text names it and the remedy, and never shows a value."""


_OLD = frozenset(
    {
        "PORT",
        "LOG_LEVEL",
        "MAX_QUEUE_SIZE",
        "MAX_SENDS_PER_MINUTE_PER_INSTANCE",
        "MAX_SENDS_PER_HOUR_PER_INSTANCE",
        "RETRY_BASE_BACKOFF_MS",
        "RETRY_MAX_BACKOFF_MS",
        "TYPING_INDICATOR_MIN_MS",
        "TYPING_INDICATOR_MAX_MS",
        "TYPING_INDICATOR_MAX_TOTAL_MS",
        "READY_WATCHDOG_MS",
        "RESTORE_CONCURRENCY",
        "LEASE_MS",
        "LEASE_RENEW_EVERY_MS",
    }
)
"""Names of contract G.1: what does not parse falls back to the default."""

_LEFT_OUT = re.compile(
    r"MAX_OUTBOUND_QUEUE|OUTBOUND_QUEUE_TTL_MS|OUTBOUND_DRAIN_DELAY_MS"
    r"|INBOUND_(MAX_BUFFER|FLUSH_BATCH|FLUSH_INTERVAL_MS)"
    r"|SYNC_LITE_BLOCK_\w+|QR_SYNC_GRACE_MS|SYNCING_MAX_MS|FORCE_NORMAL_COOLDOWN_MS"
    r"|MARK_SEEN_\w+|READING_DELAY_(MIN|MAX)_MS|VIEW_SESSION_TIMEOUT_MIN|ONBOARDING_\w+"
    r"|CHROME_\w+|PUPPETEER_\w+|WAHUB_LOG_CHROME_ARGS"
)
"""Names of parts that are not part of this system (contract 0.10)."""


def _setting(default: Any, name: str, group: str, meaning: str, **more: Any) -> Any:
    """A field with its environment names (alternates after a `|`), and what `.env.example` says about it."""
    shown = more.pop("shown", None)
    return Field(
        default,
        validation_alias=AliasChoices(*name.split("|")),
        description=meaning,
        json_schema_extra={"group": group, "shown": shown},
        **more,
    )


_SERVER, _WHATSAPP, _SENDING, _LINKS, _WEBHOOKS, _TESTS = (
    "Server and storage",
    "WhatsApp and its engine",
    "Sending (for rate limits 0 = unlimited)",
    "Links",
    "Webhooks",
    "Tests only",
)


def _user_cache() -> Path:
    """Where this user's programs keep what can be fetched again."""
    if sys.platform == "darwin":
        return Path("~/Library/Caches/wahub").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "wahub"


class Settings(BaseSettings):
    """Everything an operator can set. Times are milliseconds where the name says so. Made by `load_settings`."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        case_sensitive=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    # --- server and storage ---
    port: int = _setting(3000, "PORT", _SERVER, "Port; 0 takes any free one", ge=0, le=65535)
    host: str = _setting(
        "", "HOST", _SERVER, "Address to listen on", shown="127.0.0.1 without API_KEY, 0.0.0.0 with it"
    )
    api_key: SecretStr | None = _setting(
        None, "API_KEY", _SERVER, "Callers send it as `Authorization: Bearer` or `X-API-Key`; without it: loopback only"
    )
    allow_no_auth: bool = _setting(
        False,
        "ALLOW_NO_AUTH",
        _SERVER,
        "1 allows another address than loopback without API_KEY: anyone there has it all",
    )
    environment: str = _setting("", "NODE_ENV|ENV", _SERVER, "`production` hides the text of internal errors")
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "LOG_LEVEL", _SERVER, "debug, info, warning or error"
    )
    data_dir: Path = _setting(
        Path("wahub-data"), "WAHUB_DATA_DIR", _SERVER, "Where all state lives", shown="./wahub-data"
    )
    database: SecretStr | None = _setting(
        None,
        "DATABASE_URL",
        _SERVER,
        "sqlite:///… serves one worker, postgresql://… many",
        shown="sqlite:///<data-dir>/wahub.db",
    )
    encryption_key: SecretStr | None = _setting(
        None,
        "WAHUB_ENCRYPTION_KEY",
        _SERVER,
        "Encrypts the spool of received messages at rest; the database is not encrypted",
    )
    gateway_url: str | None = _setting(
        None,
        "WAHUB_URL",
        _SERVER,
        "Where commands such as `wahub outbox` find the running gateway",
        shown="the one that uses the data directory",
    )
    ready_file: Path | None = _setting(
        None, "WAHUB_READY_FILE", _SERVER, "Gets the first line of stdout, atomically, once the gateway listens"
    )

    # --- WhatsApp and its engine ---
    wa_url: str | None = _setting(
        None,
        "WAHUB_WA_URL",
        _WHATSAPP,
        "Which WhatsApp to talk to (wss://…; ws:// to loopback only)",
        shown="the real one",
    )
    wa_trust_root: str | None = _setting(
        None,
        "WAHUB_WA_TRUST_ROOT",
        _WHATSAPP,
        "Its certificate root: a public key, 64 hex digits",
        shown="the real one's",
    )
    wa_ca_file: Path | None = _setting(
        None, "WAHUB_WA_CA_FILE", _WHATSAPP, "PEM file trusted for its TLS as well", shown="the system's"
    )
    instances_per_engine: int = _setting(
        100, "WAHUB_INSTANCES_PER_ENGINE", _WHATSAPP, "Links that one engine process holds", ge=1
    )
    cache_dir: Path = _setting(
        None, "WAHUB_CACHE_DIR", _WHATSAPP, "Where engines are installed", shown="the user's cache directory"
    )
    node: Path | None = _setting(
        None, "WAHUB_NODE", _WHATSAPP, "The Node that runs the engine (24 or newer)", shown="found by itself"
    )

    # --- sending ---
    max_queue_size: int = _setting(200, "MAX_QUEUE_SIZE", _SENDING, "Unsettled messages per instance", ge=0)
    sends_per_minute: int = _setting(
        6, "MAX_SENDS_PER_MINUTE_PER_INSTANCE", _SENDING, "Sends per rolling minute and instance", ge=0
    )
    sends_per_hour: int = _setting(
        60, "MAX_SENDS_PER_HOUR_PER_INSTANCE", _SENDING, "Sends per rolling hour and instance", ge=0
    )
    send_spacing_ms: int = _setting(500, "SEND_SPACING_MS", _SENDING, "Shortest time between two sends", ge=0)
    send_ack_timeout_ms: int = _setting(
        20_000, "SEND_ACK_TIMEOUT_MS", _SENDING, "How long a send waits for the server's answer", ge=1
    )
    unknown_evidence_ms: int = _setting(
        10_000, "UNKNOWN_EVIDENCE_MS", _SENDING, "How long to wait for proof before an unknown send is repeated", ge=0
    )
    retry_base_ms: int = _setting(5_000, "RETRY_BASE_BACKOFF_MS", _SENDING, "First wait after a failed send", ge=0)
    retry_max_ms: int = _setting(120_000, "RETRY_MAX_BACKOFF_MS", _SENDING, "Longest wait after a failed send", ge=0)
    idempotency_derived_ttl_sec: int = _setting(
        600, "IDEMPOTENCY_DERIVED_TTL_SEC", _SENDING, "Seconds for which the same text counts as a repeat", ge=0
    )

    queue_item_ttl_hours: float = _setting(
        168, "QUEUE_ITEM_TTL_HOURS", _SENDING, "How long a message may wait before it expires", gt=0, le=87_600
    )
    typing_enabled: bool = _setting(
        True,
        "TYPING_INDICATOR_ENABLED_DEFAULT",
        _SENDING,
        "Whether people see somebody type before a message; only `false` disables it",
        shown="true",
    )
    typing_min_ms: int = _setting(600, "TYPING_INDICATOR_MIN_MS", _SENDING, "Shortest time of typing", ge=0)
    typing_max_ms: int = _setting(1_800, "TYPING_INDICATOR_MAX_MS", _SENDING, "Longest time of typing", ge=0)
    typing_max_total_ms: int = _setting(
        2_500, "TYPING_INDICATOR_MAX_TOTAL_MS", _SENDING, "Bounds typing and all that waits for it", ge=0
    )

    # --- links ---
    reconnect_base_ms: int = _setting(1_000, "RECONNECT_BASE_MS", _LINKS, "First wait before reconnecting", ge=0)
    reconnect_max_ms: int = _setting(300_000, "RECONNECT_MAX_MS", _LINKS, "Longest wait before reconnecting", ge=0)
    max_reconnect_attempts: int = _setting(
        5, "MAX_RECONNECT_ATTEMPTS", _LINKS, "Fast attempts before the slow ones begin", ge=0
    )
    qr_first_ms: int = _setting(60_000, "QR_FIRST_MS", _LINKS, "How long the first QR code is shown", ge=1)
    qr_next_ms: int = _setting(20_000, "QR_NEXT_MS", _LINKS, "How long each further QR code is shown", ge=1)
    restore_jitter_ms: Annotated[tuple[int, int], NoDecode] = _setting(
        (2_000, 5_000), "RESTORE_JITTER_MS", _LINKS, "Shortest and longest pause between two instances at start"
    )
    restore_concurrency: int = _setting(
        4, "RESTORE_CONCURRENCY", _LINKS, "How many instances come back at the same time at start", ge=1
    )
    lease_ms: int = _setting(25_000, "LEASE_MS", _LINKS, "How long a worker holds an instance without renewing", ge=1)
    lease_renew_every_ms: int = _setting(
        15_000, "LEASE_RENEW_EVERY_MS", _LINKS, "How often it renews; less than 80 % of LEASE_MS", ge=1
    )
    ready_watchdog_ms: int = _setting(
        600_000, "READY_WATCHDOG_MS", _LINKS, "How long pairing may take until `ready`, as the status shows it", ge=0
    )

    # --- webhooks ---
    webhook_secret: SecretStr | None = _setting(
        None, "WEBHOOK_SECRET|MAIN_APP_WEBHOOK_SECRET", _WEBHOOKS, "Signs every webhook"
    )
    webhook_protection_bypass: SecretStr | None = _setting(
        None,
        "WEBHOOK_PROTECTION_BYPASS|VERCEL_AUTOMATION_BYPASS_SECRET",
        _WEBHOOKS,
        "Sent as `x-vercel-protection-bypass`",
    )
    webhook_auth_token: SecretStr | None = _setting(
        None, "WEBHOOK_AUTH_TOKEN|WEBHOOK_BEARER_TOKEN", _WEBHOOKS, "Sent as `Authorization: Bearer`"
    )
    webhook_timeout_ms: int = _setting(10_000, "WEBHOOK_TIMEOUT_MS", _WEBHOOKS, "How long a receiver may take", ge=1)
    webhook_retry_base_ms: int = _setting(1_000, "WEBHOOK_RETRY_BASE_MS", _WEBHOOKS, "First wait before a retry", ge=0)
    webhook_retry_max_ms: int = _setting(
        3_600_000, "WEBHOOK_RETRY_MAX_MS", _WEBHOOKS, "Longest wait before a retry", ge=0
    )
    webhook_concurrency: int = _setting(8, "WEBHOOK_CONCURRENCY", _WEBHOOKS, "Posts under way per endpoint", ge=1)
    webhook_block_private: bool = _setting(
        False, "WEBHOOK_BLOCK_PRIVATE", _WEBHOOKS, "1 refuses targets on loopback and private addresses"
    )

    # --- tests only ---
    wahub_env: str = _setting("", "WAHUB_ENV", _TESTS, "`test` lets WAHUB_FAULT work")
    fault_wanted: str | None = _setting(
        None, "WAHUB_FAULT", _TESTS, "`<point>[:nth]`: the process that reaches the point kills itself"
    )

    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know; no value is shown."""
        return self._warnings

    @property
    def production(self) -> bool:
        return self.environment.lower() == "production"

    @property
    def database_url(self) -> str:
        """The URL of the store. It may hold a password: never log it."""
        if self.database is not None:
            return self.database.get_secret_value()
        return f"sqlite:///{self.data_dir.absolute()}/wahub.db"

    @property
    def fault(self) -> str | None:
        """The fault point that a test armed; None outside of tests."""
        return self.fault_wanted if self.wahub_env == "test" else None

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower_level(cls, given: object) -> object:
        return {"warn": "warning"}.get(given.lower(), given.lower()) if isinstance(given, str) else given

    @field_validator("api_key", mode="after")
    @classmethod
    def _trim_key(cls, given: SecretStr | None) -> SecretStr | None:
        # A header arrives without the white space around it, so a key that has some could never match.
        trimmed = given.get_secret_value().strip() if given else ""
        return SecretStr(trimmed) if trimmed else None

    @field_validator("typing_enabled", mode="before")
    @classmethod
    def _only_literal_false(cls, given: object) -> object:
        return given is not False and not (isinstance(given, str) and given.strip() == "false")

    @field_validator("restore_jitter_ms", mode="before")
    @classmethod
    def _two_numbers(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        match = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*", given)
        if not match or int(match[1]) > int(match[2]):
            raise ValueError("two numbers are needed, the smaller first, such as 2000,5000")
        return int(match[1]), int(match[2])

    @field_validator("data_dir", "ready_file", "wa_ca_file", "node", mode="after")
    @classmethod
    def _home(cls, given: Path | None) -> Path | None:
        return given.expanduser() if given else given

    @field_validator("cache_dir", mode="before")
    @classmethod
    def _cache(cls, given: object) -> object:
        return Path(given).expanduser() if isinstance(given, str | Path) else _user_cache()

    @field_validator("wa_trust_root", mode="after")
    @classmethod
    def _hex_root(cls, given: str | None) -> str | None:
        if given is not None and not re.fullmatch(r"[0-9A-Fa-f]{64}", given):
            raise ValueError("64 hex digits are needed: the trustRoot line that the sandbox prints")
        return given.lower() if given else given

    @field_validator("wa_url", mode="after")
    @classmethod
    def _safe_url(cls, given: str | None) -> str | None:
        if given is not None:
            _check_engine_url(given)
        return given

    @field_validator("gateway_url", mode="after")
    @classmethod
    def _http_url(cls, given: str | None) -> str | None:
        if given is not None and not re.fullmatch(r"https?://[^/?#@\s]+/?", given):
            raise ValueError("a URL such as http://127.0.0.1:3000 is needed")
        return given.rstrip("/") if given else given

    @field_validator("wa_ca_file", mode="after")
    @classmethod
    def _file_there(cls, given: Path | None) -> Path | None:
        if given is not None and not given.is_file():
            raise ValueError("there is no such file: name a PEM file")
        return given

    @field_validator("database", mode="after")
    @classmethod
    def _known_store(cls, given: SecretStr | None) -> SecretStr | None:
        if given is not None:
            scheme = given.get_secret_value().partition(":")[0].partition("+")[0]
            if scheme not in ("sqlite", "postgresql", "postgres"):
                raise ValueError("it must begin with sqlite:// or postgresql://")
        return given

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        self.host = self.host or ("0.0.0.0" if self.api_key else "127.0.0.1")  # noqa: S104 - a key guards it
        if not self.api_key and not self.allow_no_auth and not is_loopback(self.host):
            raise ValueError("HOST is not a loopback address and API_KEY is not set: set API_KEY, or ALLOW_NO_AUTH=1")
        if self.fault is not None:
            faults.parse(self.fault)
        if self.lease_renew_every_ms >= self.lease_ms * 0.8:
            # A term may be shortened alone (contract 0.11: all times may), so the renewals follow it.
            self.lease_renew_every_ms = max(self.lease_ms * 6 // 10, 1)
            self._warnings = (f"LEASE_RENEW_EVERY_MS does not fit LEASE_MS: {self.lease_renew_every_ms} is used",)
        if self.typing_min_ms > self.typing_max_ms:
            # Either may be shortened alone.
            self.typing_min_ms = self.typing_max_ms
            text = "TYPING_INDICATOR_MIN_MS is more than TYPING_INDICATOR_MAX_MS: the latter is used for both"
            self._warnings = (*self._warnings, text)
        return self


def names_of(field: str) -> tuple[str, ...]:
    """The environment names of a field, the preferred one first."""
    alias = Settings.model_fields[field].validation_alias
    assert isinstance(alias, AliasChoices)
    return tuple(str(choice) for choice in alias.choices)


_FIELD_OF = {name: field for field in Settings.model_fields for name in names_of(field)}


def is_loopback(host: str) -> bool:
    """Whether a server bound to this host is reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _check_engine_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        host = ""
        parts = urlsplit("")
    if parts.scheme not in ("ws", "wss") or not host:
        raise ValueError("a URL such as wss://host/path is needed")
    if parts.scheme == "ws" and not is_loopback(host):
        raise ValueError("ws:// is allowed to loopback only: use wss://")


# --- loading ----------------------------------------------------------------------------------------------------------


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
                warnings.append(f"{name} cannot be read: its default {default} is used")
        if not replaced:
            raise _explained(error) from None
    try:
        return Settings(**given, **replaced), warnings
    except ValidationError as error:
        raise _explained(error) from None


_UNREADABLE = frozenset({"int_parsing", "int_from_float", "int_parsing_size", "int_type", "literal_error"})


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
    return said


def _about_left_out() -> list[str]:
    names = {*os.environ, *dotenv_values(ENV_FILE)}
    found = sorted(name for name in names if _LEFT_OUT.fullmatch(name))
    return [f"ignored, since they belong to parts that wahub does not have: {', '.join(found)}"] if found else []
