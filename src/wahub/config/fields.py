"""How a setting is declared, and what the groups of settings share."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ENV_FILE = ".env"


class SettingsError(Exception):
    """A setting is wrong. The text names it and the remedy, and never shows a value."""


class Group(BaseSettings):
    """Settings of one topic."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        case_sensitive=True,
        extra="ignore",
        hide_input_in_errors=True,
    )


def setting(default: Any, name: str, group: str, meaning: str, **more: Any) -> Any:
    """A field with its environment names (alternates after a `|`), and what `.env.example` says about it.

    `shown` is written there instead of the default.
    """
    shown = more.pop("shown", None)
    return Field(
        default,
        validation_alias=AliasChoices(*name.split("|")),
        description=meaning,
        json_schema_extra={"group": group, "shown": shown},
        **more,
    )


LONGEST = 87_600
"""Hours: ten years. Longer spans are slips of the pen, and infinity is no number of hours."""


def _read_list(given: object) -> object:
    if not isinstance(given, str):
        return given
    parts = [part.strip() for part in given.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,12}", part) for part in parts):
        raise PydanticCustomError("list_parsing", "whole numbers are needed, with commas between them")
    return tuple(map(int, parts))


Numbers = Annotated[tuple[int, ...], NoDecode, BeforeValidator(_read_list)]
"""`10000,30000,60000`."""


def is_loopback(host: str) -> bool:
    """Whether a server bound to this host is reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
