"""The settings of the operator as the settings of the parts: milliseconds become seconds here, secrets become text."""

from __future__ import annotations

import secrets
from typing import Any

from wahub import __version__
from wahub.adapters.engines.baileys.install import InstalledEngine
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.api.deps import ApiSettings
from wahub.config import Settings, is_loopback
from wahub.domain.idempotency import KeyPolicy
from wahub.domain.ids import WorkerId
from wahub.domain.lifecycle import QrPolicy
from wahub.domain.outbox import SendPolicy
from wahub.domain.pacing import Pace, TypingPolicy
from wahub.domain.reconnect import ReconnectPolicy
from wahub.domain.restore import RestorePolicy
from wahub.domain.retry import Backoff, ReconnectLadder
from wahub.domain.watchdog import Timers
from wahub.domain.webhook import WebhookSettings
from wahub.runtime.deps import RuntimeSettings
from wahub.runtime.media import MediaSettings
from wahub.services.outbox import QueueLimits, SendRules

_MINUTE, _HOUR, _DAY = 60.0, 3_600.0, 86_400.0
_MEGABYTE = 1024 * 1024
_LONGEST_RESTART_WAIT = 3_600.0
_LONGEST_RESTORE_WAIT = 120.0
"""Both by contract B.5 and B.8; a first wait that an operator made longer stands."""

_LOOK_EVERY, _LOOK_AT_LEAST = 10.0, 0.05


def runtime_settings(settings: Settings) -> RuntimeSettings:
    """What the loops go by, for a worker with a new name."""
    return RuntimeSettings(
        worker=WorkerId(f"worker-{secrets.token_hex(8)}"),
        lease_ttl=settings.lease_ms / 1000,
        lease_renew_every=settings.lease_renew_every_ms / 1000,
        events_kept=settings.events_retention_days * _DAY or None,
        messages_kept=settings.messages_retention_days * _DAY or None,
        eager_media=settings.media_download == "eager",
        rules=SendRules(
            policy=SendPolicy(
                retry=Backoff(settings.retry_base_ms / 1000, settings.retry_max_ms / 1000),
                evidence_wait=settings.unknown_evidence_ms / 1000,
            ),
            pace=_pace(settings),
            typing=_typing(settings),
        ),
        return_gap=settings.return_spacing_ms / 1000,
        reconnect=_reconnect(settings),
        timers=_timers(settings),
        restore=_restore(settings),
    )


def _reconnect(settings: Settings) -> ReconnectPolicy:
    base = settings.reconnect_base_ms / 1000
    cooldown = settings.disconnect_cooldown_ms
    return ReconnectPolicy(
        ladder=ReconnectLadder(base, settings.reconnect_max_ms / 1000, settings.max_reconnect_attempts),
        # Contract B.6: twice the base of the ladder, up to its first slow step.
        pairing=Backoff(base * 2, base * 30),
        pairing_attempts=settings.pairing_attempts,
        auto=not settings.disable_auto_reconnect,
        cooldown=None if cooldown is None else cooldown / 1000,
        restarts=settings.restarts_per_window,
        window=settings.restart_window_min * _MINUTE,
        limit_extra=settings.restart_limit_extra_hours * _HOUR,
        restricted=settings.restricted_hours * _HOUR,
        replaced_wait=settings.replaced_wait_ms / 1000,
        replaced_window=settings.replaced_window_ms / 1000,
        exhausted_needs_qr=settings.reconnect_exhausted == "needs_qr",
    )


def _timers(settings: Settings) -> Timers:
    soft, hard = settings.soft_restart_timeout_ms, settings.hard_restart_timeout_ms
    restart = settings.restart_backoff_ms / 1000
    stale, unhandled = settings.stale_link_ms / 1000, settings.mute_unhandled_ms / 1000
    return Timers(
        connect=settings.connect_timeout_ms / 1000,
        init=settings.init_timeout_ms / 1000,
        ready_watchdog=settings.ready_watchdog_ms / 1000,
        ready_pause=settings.ready_pause_min * _MINUTE,
        ready_poll=settings.ready_poll_ms / 1000,
        connecting_watchdog=settings.connecting_watchdog_ms / 1000,
        connecting_restarts=settings.connecting_restarts,
        soft_restart=(settings.ready_timeout_ms if soft is None else soft) / 1000,
        hard_restart=(settings.ready_timeout_ms if hard is None else hard) / 1000,
        restart_backoff=Backoff(restart, max(restart, _LONGEST_RESTART_WAIT)),
        restart_waits=tuple(wait / 1000 for wait in settings.restart_backoff_sequence_ms),
        health_every=settings.health_check_min * _MINUTE,
        inactive=settings.inactivity_min * _MINUTE,
        stale=stale,
        unhandled=unhandled,
        recycle_idle=settings.idle_recycle_hours * _HOUR,
        # Spans that were shortened are looked at more often, or they would end late.
        look_every=min(_LOOK_EVERY, max(min(stale, unhandled) / 3, _LOOK_AT_LEAST)),
        qr=QrPolicy(
            stale=settings.qr_stale_ms / 1000,
            ttl=settings.qr_ttl_ms / 1000,
            attempts=settings.qr_recovery_attempts,
            backoff=tuple(wait / 1000 for wait in settings.qr_recovery_backoff_ms),
            every=settings.qr_watchdog_ms / 1000,
        ),
    )


def _restore(settings: Settings) -> RestorePolicy:
    low, high = settings.restore_jitter_ms
    cooldown, backoff = settings.restore_cooldown_ms, settings.restore_backoff_ms / 1000
    return RestorePolicy(
        concurrency=settings.restore_concurrency,
        jitter=(low / 1000, high / 1000),
        cooldown=None if cooldown is None else cooldown / 1000,
        min_free_mb=float(settings.restore_min_free_mb),
        floor_patience=settings.restore_floor_patience_ms / 1000,
        max_attempts=settings.restore_attempts,
        backoff=Backoff(backoff, max(backoff, _LONGEST_RESTORE_WAIT)),
    )


def _pace(settings: Settings) -> Pace:
    return Pace(settings.sends_per_minute, settings.sends_per_hour, settings.send_spacing_ms / 1000)


def _typing(settings: Settings) -> TypingPolicy:
    return TypingPolicy(
        enabled=settings.typing_enabled,
        shortest=settings.typing_min_ms / 1000,
        longest=settings.typing_max_ms / 1000,
        cap=settings.typing_max_total_ms / 1000,
    )


def media_settings(settings: Settings) -> MediaSettings:
    """What the keeper of files goes by."""
    return MediaSettings(
        eager=settings.media_download == "eager",
        limit=settings.media_max_mb * _MEGABYTE,
        kept=settings.media_retention_days * _DAY or None,
    )


def webhook_settings(settings: Settings) -> WebhookSettings:
    """What the dispatcher goes by."""
    return WebhookSettings(
        secret=_secret(settings.webhook_secret),
        protection_bypass=_secret(settings.webhook_protection_bypass),
        auth_token=_secret(settings.webhook_auth_token),
        timeout=settings.webhook_timeout_ms / 1000,
        retry_base=settings.webhook_retry_base_ms / 1000,
        retry_max=settings.webhook_retry_max_ms / 1000,
        concurrency=settings.webhook_concurrency,
        block_private=settings.webhook_block_private,
    )


def api_settings(settings: Settings) -> ApiSettings:
    """What the edge goes by."""
    return ApiSettings(
        api_key=_secret(settings.api_key),
        admin_secret=_secret(settings.admin_debug_secret),
        open_to_network=settings.allow_no_auth and not is_loopback(settings.host),
        production=settings.production,
        block_private=settings.webhook_block_private,
        ready_watchdog_ms=settings.ready_watchdog_ms,
        restart_window=settings.restart_window_min * _MINUTE,
        delete_wait=settings.delete_timeout_ms / 1000,
        secret_overlap=settings.webhook_secret_overlap_hours * _HOUR,
        messages_kept=settings.messages_retention_days * _DAY or None,
        version=__version__,
        pace=_pace(settings),
        typing=_typing(settings),
        limits=QueueLimits(
            max_queue=settings.max_queue_size,
            item_ttl=settings.queue_item_ttl_hours * _HOUR,
            keys=KeyPolicy(derived=float(settings.idempotency_derived_ttl_sec)),
        ),
    )


def baileys_settings(settings: Settings, installed: InstalledEngine) -> BaileysSettings:
    """What the engine goes by."""
    return BaileysSettings(
        node=installed.node,
        directory=installed.directory,
        run_dir=settings.data_dir / "run",
        spool_dir=settings.data_dir / "spool",
        wa_url=settings.wa_url,
        trust_root=settings.wa_trust_root,
        ca_file=settings.wa_ca_file,
        instances_per_engine=settings.instances_per_engine,
        ack_timeout=settings.send_ack_timeout_ms / 1000,
        keep_alive=settings.keep_alive_ms / 1000,
        handshake_timeout=settings.handshake_timeout_ms / 1000,
        qr_first_ms=settings.qr_first_ms,
        qr_next_ms=settings.qr_next_ms,
        encryption_key=key.encode() if (key := _secret(settings.encryption_key)) else None,
        # As durable as the store: its commits survive the death of any process, not each loss of power.
        spool_flush=False,
        statuses=settings.receive_status_posts,
        fault=settings.fault,
    )


def _secret(value: Any) -> str | None:
    return None if value is None else str(value.get_secret_value())
