"""Settings of the server, its storage, and of the engine that speaks WhatsApp."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr, field_validator

from wahub.config.fields import Group, is_loopback, setting

_SERVER = "Server and storage"
_WHATSAPP = "WhatsApp and its engine"


def _user_cache() -> Path:
    """Where this user's programs keep what can be fetched again."""
    if sys.platform == "darwin":
        return Path("~/Library/Caches/wahub").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "wahub"


class ServerSettings(Group):
    """Server and storage."""

    port: int = setting(3000, "PORT", _SERVER, "Port; 0 takes any free one", ge=0, le=65535)
    host: str = setting("", "HOST", _SERVER, "Address to listen on", shown="127.0.0.1 without API_KEY, 0.0.0.0 with it")
    api_key: SecretStr | None = setting(
        None, "API_KEY", _SERVER, "Callers send it as `Authorization: Bearer` or `X-API-Key`; without it: loopback only"
    )
    allow_no_auth: bool = setting(
        False,
        "ALLOW_NO_AUTH",
        _SERVER,
        "1 allows another address than loopback without API_KEY: anyone there has it all",
    )
    admin_debug_secret: SecretStr | None = setting(
        None,
        "ADMIN_DEBUG_SECRET",
        _SERVER,
        "Asked for in `X-Admin-Debug-Secret` by /system and /__debug, on top of API_KEY",
    )
    environment: str = setting("", "NODE_ENV|ENV", _SERVER, "`production` hides the text of internal errors")
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "LOG_LEVEL", _SERVER, "debug, info, warning or error"
    )
    data_dir: Path = setting(
        Path("wahub-data"), "WAHUB_DATA_DIR", _SERVER, "Where all state lives", shown="./wahub-data"
    )
    database: SecretStr | None = setting(
        None,
        "DATABASE_URL",
        _SERVER,
        "sqlite:///… serves one worker, postgresql://… many",
        shown="sqlite:///<data-dir>/wahub.db",
    )
    encryption_key: SecretStr | None = setting(
        None,
        "WAHUB_ENCRYPTION_KEY",
        _SERVER,
        "Encrypts the spool of received messages at rest; the database is not encrypted",
    )
    gateway_url: str | None = setting(
        None,
        "WAHUB_URL",
        _SERVER,
        "Where commands such as `wahub outbox` find the running gateway",
        shown="the one that uses the data directory",
    )
    ready_file: Path | None = setting(
        None, "WAHUB_READY_FILE", _SERVER, "Gets the first line of stdout, atomically, once the gateway listens"
    )

    @property
    def production(self) -> bool:
        return self.environment.lower() == "production"

    @property
    def database_url(self) -> str:
        """The URL of the store. It may hold a password: never log it."""
        if self.database is not None:
            return self.database.get_secret_value()
        return f"sqlite:///{self.data_dir.absolute()}/wahub.db"

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower_level(cls, given: object) -> object:
        return {"warn": "warning"}.get(given.lower(), given.lower()) if isinstance(given, str) else given

    @field_validator("api_key", "admin_debug_secret", mode="after")
    @classmethod
    def _trim_key(cls, given: SecretStr | None) -> SecretStr | None:
        # A header arrives without the white space around it, so a key that has some could never match.
        trimmed = given.get_secret_value().strip() if given else ""
        return SecretStr(trimmed) if trimmed else None

    @field_validator("data_dir", "ready_file", mode="after")
    @classmethod
    def _home(cls, given: Path | None) -> Path | None:
        return given.expanduser() if given else given

    @field_validator("gateway_url", mode="after")
    @classmethod
    def _http_url(cls, given: str | None) -> str | None:
        if given is not None and not re.fullmatch(r"https?://[^/?#@\s]+/?", given):
            raise ValueError("a URL such as http://127.0.0.1:3000 is needed")
        return given.rstrip("/") if given else given

    @field_validator("database", mode="after")
    @classmethod
    def _known_store(cls, given: SecretStr | None) -> SecretStr | None:
        if given is not None:
            scheme = given.get_secret_value().partition(":")[0].partition("+")[0]
            if scheme not in ("sqlite", "postgresql", "postgres"):
                raise ValueError("it must begin with sqlite:// or postgresql://")
        return given


class EngineSettings(Group):
    """WhatsApp and its engine."""

    wa_url: str | None = setting(
        None,
        "WAHUB_WA_URL",
        _WHATSAPP,
        "Which WhatsApp to talk to (wss://…; ws:// to loopback only)",
        shown="the real one",
    )
    wa_trust_root: str | None = setting(
        None,
        "WAHUB_WA_TRUST_ROOT",
        _WHATSAPP,
        "Its certificate root: a public key, 64 hex digits",
        shown="the real one's",
    )
    wa_ca_file: Path | None = setting(
        None, "WAHUB_WA_CA_FILE", _WHATSAPP, "PEM file trusted for its TLS as well", shown="the system's"
    )
    instances_per_engine: int = setting(
        100, "WAHUB_INSTANCES_PER_ENGINE", _WHATSAPP, "Links that one engine process holds", ge=1
    )
    cache_dir: Path = setting(
        None, "WAHUB_CACHE_DIR", _WHATSAPP, "Where engines are installed", shown="the user's cache directory"
    )
    node: Path | None = setting(
        None, "WAHUB_NODE", _WHATSAPP, "The Node that runs the engine (24 or newer)", shown="found by itself"
    )

    @field_validator("wa_ca_file", "node", mode="after")
    @classmethod
    def _home_of_engine(cls, given: Path | None) -> Path | None:
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

    @field_validator("wa_ca_file", mode="after")
    @classmethod
    def _file_there(cls, given: Path | None) -> Path | None:
        if given is not None and not given.is_file():
            raise ValueError("there is no such file: name a PEM file")
        return given


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
