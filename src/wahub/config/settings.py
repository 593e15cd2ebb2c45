"""All settings together, and the rules between them."""

from __future__ import annotations

from pydantic import AliasChoices, PrivateAttr, model_validator

from wahub import faults
from wahub.config.fields import LONGEST, Group, is_loopback, setting
from wahub.config.links import (
    LeaseSettings,
    LostLinkSettings,
    MuteSettings,
    PairingSettings,
    RestartSettings,
    RestoreSettings,
)
from wahub.config.media import MediaSettings
from wahub.config.receiving import ReceivingSettings
from wahub.config.server import EngineSettings, ServerSettings
from wahub.config.traffic import SendingSettings, WebhookSettings


class TestingSettings(Group):
    """Tests only."""

    wahub_env: str = setting("", "WAHUB_ENV", "Tests only", "`test` lets WAHUB_FAULT and WAHUB_CLOCK_SHIFT_MS work")
    fault_wanted: str | None = setting(
        None, "WAHUB_FAULT", "Tests only", "`<point>[:nth]`: the process that reaches the point kills itself"
    )
    clock_shift_ms: int = setting(
        0,
        "WAHUB_CLOCK_SHIFT_MS",
        "Tests only",
        "Puts the gateway's wall clock forward; a store that has seen it needs at least as much from then on",
        ge=0,
        le=LONGEST * 3_600_000,
    )

    @property
    def fault(self) -> str | None:
        """The fault point that a test armed; None outside of tests."""
        return self.fault_wanted if self.wahub_env == "test" else None

    @property
    def clock_shift(self) -> float:
        """Seconds by which a test put the wall clock forward; 0 outside of tests."""
        return self.clock_shift_ms / 1000 if self.wahub_env == "test" else 0.0


# Fields come in the order of the last base first; `.env.example` lists them so.
class Settings(
    TestingSettings,
    WebhookSettings,
    MediaSettings,
    ReceivingSettings,
    LeaseSettings,
    RestoreSettings,
    MuteSettings,
    RestartSettings,
    LostLinkSettings,
    PairingSettings,
    SendingSettings,
    EngineSettings,
    ServerSettings,
):
    """Everything an operator can set. Times are milliseconds where the name says so. Made by `load_settings`."""

    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know; no value is shown."""
        return self._warnings

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
