"""Settings of links: pairing, getting ready, coming back, being mute, restarts, restore, leases."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import field_validator
from pydantic_settings import NoDecode

from wahub.config.fields import LONGEST, Group, Numbers, setting

_PAIRING = "Pairing and getting ready"
_LOST = "Links that are lost"
_RESTARTS = "Restarts of an instance"
_MUTE = "Links that are mute or idle"
_RESTORE = "Restore when the gateway starts"
_LEASES = "Leases"


def _span(default: float, name: str, group: str, meaning: str, *, longest: float = LONGEST, **more: Any) -> Any:
    """Minutes or hours; fractions are fine."""
    return setting(default, name, group, meaning, le=longest, allow_inf_nan=False, **more)


class PairingSettings(Group):
    """Pairing and getting ready."""

    qr_first_ms: int = setting(60_000, "QR_FIRST_MS", _PAIRING, "How long the first QR code is shown", ge=1)
    qr_next_ms: int = setting(20_000, "QR_NEXT_MS", _PAIRING, "How long each further QR code is shown", ge=1)
    qr_stale_ms: int = setting(
        90_000, "QR_STALE_MS", _PAIRING, "No new QR code for this long: the wait for a scan is helped along", ge=1
    )
    qr_ttl_ms: int = setting(300_000, "QR_TTL_MS", _PAIRING, "An older wait for a scan is helped along, too", ge=1)
    qr_recovery_attempts: int = setting(
        3, "QR_MAX_RECOVERY_ATTEMPTS", _PAIRING, "New links tried for a QR code before `failed_qr_timeout`", ge=0
    )
    qr_watchdog_ms: int = setting(
        10_000, "QR_RECOVERY_WATCHDOG_INTERVAL_MS", _PAIRING, "How often waits for a scan are looked at", ge=1
    )
    qr_recovery_backoff_ms: Numbers = setting(
        (10_000, 30_000, 60_000), "QR_RECOVERY_BACKOFF_MS", _PAIRING, "Waits before these attempts"
    )
    pairing_attempts: int = setting(
        10, "MAX_PAIRING_RECONNECT_ATTEMPTS", _PAIRING, "Attempts to get a link back while nothing is linked yet", ge=0
    )
    init_timeout_ms: int = setting(
        120_000, "INIT_TIMEOUT_MS", _PAIRING, "How long a new instance may take to its first QR code, twice", ge=1
    )
    ready_watchdog_ms: int = setting(
        600_000, "READY_WATCHDOG_MS", _PAIRING, "How long pairing may take until `ready`", ge=1
    )
    ready_pause_min: float = _span(
        10, "READY_TIMEOUT_PAUSE_MIN", _PAIRING, "Minutes of pause after that, before one restart", ge=0
    )
    ready_poll_ms: int = setting(
        15_000, "READY_POLL_INTERVAL_MS", _PAIRING, "How often a link that never says `ready` is asked", ge=1
    )
    connecting_watchdog_ms: int = setting(
        600_000, "CONNECTING_WATCHDOG_MS", _PAIRING, "How long a restart or retry may lead nowhere", ge=1
    )
    connecting_restarts: int = setting(
        2, "CONNECTING_WATCHDOG_MAX_RESTARTS", _PAIRING, "Restarts by that watchdog before `error`", ge=0
    )


class LostLinkSettings(Group):
    """Links that are lost."""

    handshake_timeout_ms: int = setting(
        45_000, "HANDSHAKE_TIMEOUT_MS", _LOST, "How long the encrypted handshake may take", ge=1
    )
    connect_timeout_ms: int = setting(
        60_000, "WHATSAPP_CONNECT_TIMEOUT_MS", _LOST, "How long an attempt may take until it is logged in", ge=1
    )
    reconnect_base_ms: int = setting(1_000, "RECONNECT_BASE_MS", _LOST, "First wait before reconnecting", ge=0)
    reconnect_max_ms: int = setting(300_000, "RECONNECT_MAX_MS", _LOST, "Longest wait before reconnecting", ge=0)
    max_reconnect_attempts: int = setting(
        5, "MAX_RECONNECT_ATTEMPTS", _LOST, "Fast attempts before the slow ones begin", ge=0
    )
    reconnect_exhausted: Literal["", "needs_qr"] = setting(
        "", "RECONNECT_EXHAUSTED", _LOST, "`needs_qr` asks for a new scan when the fast attempts are used up"
    )
    disable_auto_reconnect: bool = setting(
        False, "DISABLE_AUTO_RECONNECT", _LOST, "1 leaves lost links lost until someone asks"
    )
    disconnect_cooldown_ms: int | None = setting(
        None,
        "MIN_DISCONNECT_COOLDOWN_MS",
        _LOST,
        "A pause before a lost link is tried again",
        shown="none",
        ge=0,
    )
    restarts_per_window: int = setting(
        4, "MAX_RESTARTS_PER_WINDOW", _LOST, "Links lost in the window before a long pause; 0: no limit", ge=0
    )
    restart_window_min: float = _span(
        10, "RESTART_WINDOW_MINUTES", _LOST, "That window, in minutes", gt=0, longest=LONGEST * 60
    )
    restart_limit_extra_hours: float = _span(
        1, "RESTART_RATE_LIMIT_EXTRA_HOURS", _LOST, "That pause lasts the window and these hours", ge=0
    )
    restricted_hours: float = _span(
        72, "EXTENDED_RESTRICTION_COOLDOWN_HOURS", _LOST, "Hours for which a refused account is left alone", ge=0
    )
    replaced_wait_ms: int = setting(
        60_000, "REPLACED_WAIT_MS", _LOST, "Wait after another client took the session over", ge=0
    )
    replaced_window_ms: int = setting(
        600_000, "REPLACED_WINDOW_MS", _LOST, "A second time within this: wait until someone asks", ge=0
    )


class RestartSettings(Group):
    """Restarts of an instance: soft first, then hard."""

    ready_timeout_ms: int = setting(
        180_000, "READY_TIMEOUT_MS", _RESTARTS, "How long a restart may take, if the next two do not say", ge=1
    )
    soft_restart_timeout_ms: int | None = setting(
        None, "SOFT_RESTART_TIMEOUT_MS", _RESTARTS, "For the soft restart", shown="READY_TIMEOUT_MS", ge=1
    )
    hard_restart_timeout_ms: int | None = setting(
        None, "HARD_RESTART_TIMEOUT_MS", _RESTARTS, "For the hard restart after it", shown="READY_TIMEOUT_MS", ge=1
    )
    restart_backoff_ms: int = setting(
        2_000, "RESTART_BACKOFF_MS", _RESTARTS, "Wait before a restart that a timer wants; it doubles", ge=0
    )
    restart_backoff_sequence_ms: Numbers = setting(
        (), "RESTART_BACKOFF_SEQUENCE_MS", _RESTARTS, "These waits instead, such as 5000,15000", shown="none"
    )
    delete_timeout_ms: int = setting(
        15_000, "DELETE_DESTROY_TIMEOUT_MS", _RESTARTS, "How long DELETE waits until everything is gone", ge=0
    )


class MuteSettings(Group):
    """Links that are mute or idle."""

    keep_alive_ms: int = setting(
        30_000, "LINK_KEEP_ALIVE_MS", _MUTE, "How often WhatsApp is asked for a sign of life", ge=50
    )
    stale_link_ms: int = setting(
        300_000, "STALE_LINK_MS", _MUTE, "A link without any frame for this long is opened anew", ge=1
    )
    mute_unhandled_ms: int = setting(
        30_000,
        "MUTE_UNHANDLED_MS",
        _MUTE,
        "A link that handles no received message for this long is mute",
        ge=1,
    )
    health_check_min: float = _span(
        20, "HEALTH_CHECK_INTERVAL_MIN", _MUTE, "Minutes between two health checks", gt=0, longest=LONGEST * 60
    )
    inactivity_min: float = _span(
        30,
        "ZOMBIE_INACTIVITY_THRESHOLD_MIN",
        _MUTE,
        "Minutes without a message after which a health check asks the server",
        ge=0,
        longest=LONGEST * 60,
    )
    idle_recycle_hours: float = _span(
        24,
        "LINK_IDLE_RECYCLE_HOURS",
        _MUTE,
        "Hours without a message until a link is opened anew; 0: never",
        ge=0,
    )


class RestoreSettings(Group):
    """Restore when the gateway starts."""

    restore_concurrency: int = setting(
        4, "RESTORE_CONCURRENCY", _RESTORE, "How many instances come back at the same time", ge=1
    )
    return_spacing_ms: int = setting(
        250, "RETURN_SPACING_MS", _RESTORE, "Pause between two links that return after all were cut off", ge=0
    )
    restore_jitter_ms: Annotated[tuple[int, int], NoDecode] = setting(
        (2_000, 5_000), "RESTORE_JITTER_MS", _RESTORE, "Shortest and longest pause between two starts in one place"
    )
    restore_cooldown_ms: int | None = setting(
        None, "RESTORE_COOLDOWN_MS", _RESTORE, "A fixed pause after each start instead", shown="none", ge=0
    )
    restore_min_free_mb: int = setting(
        100, "RESTORE_MIN_FREE_MEM_MB", _RESTORE, "Free memory below which no instance is started", ge=0
    )
    restore_floor_patience_ms: int = setting(
        300_000, "RESTORE_FLOOR_PATIENCE_MS", _RESTORE, "Go on below it after this long, with a warning", ge=0
    )
    restore_attempts: int = setting(
        5, "RESTORE_MAX_ATTEMPTS", _RESTORE, "Starts that may fail before the instance is in `error`", ge=1
    )
    restore_backoff_ms: int = setting(
        15_000, "RESTORE_BACKOFF_BASE_MS", _RESTORE, "Wait after a start that failed; it doubles, to 2 minutes", ge=0
    )

    @field_validator("restore_jitter_ms", mode="before")
    @classmethod
    def _two_numbers(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        match = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*", given)
        if not match or int(match[1]) > int(match[2]):
            raise ValueError("two numbers are needed, the smaller first, such as 2000,5000")
        return int(match[1]), int(match[2])


class LeaseSettings(Group):
    """Leases."""

    lease_ms: int = setting(25_000, "LEASE_MS", _LEASES, "How long a worker holds an instance without renewing", ge=1)
    lease_renew_every_ms: int = setting(
        15_000, "LEASE_RENEW_EVERY_MS", _LEASES, "How often it renews; less than 80 % of LEASE_MS", ge=1
    )
