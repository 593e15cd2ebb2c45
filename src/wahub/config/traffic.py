"""Settings of sending, and of webhooks."""

from __future__ import annotations

from pydantic import SecretStr, field_validator

from wahub.config.fields import LONGEST, Group, setting
from wahub.domain.webhook import standard_key

_SENDING = "Sending (for rate limits 0 = unlimited)"
_WEBHOOKS = "Webhooks"


class SendingSettings(Group):
    """Sending."""

    max_queue_size: int = setting(200, "MAX_QUEUE_SIZE", _SENDING, "Unsettled messages per instance", ge=0)
    sends_per_minute: int = setting(
        6, "MAX_SENDS_PER_MINUTE_PER_INSTANCE", _SENDING, "Sends per rolling minute and instance", ge=0
    )
    sends_per_hour: int = setting(
        60, "MAX_SENDS_PER_HOUR_PER_INSTANCE", _SENDING, "Sends per rolling hour and instance", ge=0
    )
    send_spacing_ms: int = setting(500, "SEND_SPACING_MS", _SENDING, "Shortest time between two sends", ge=0)
    send_ack_timeout_ms: int = setting(
        20_000, "SEND_ACK_TIMEOUT_MS", _SENDING, "How long a send waits for the server's answer", ge=1
    )
    unknown_evidence_ms: int = setting(
        10_000, "UNKNOWN_EVIDENCE_MS", _SENDING, "How long to wait for proof before an unknown send is repeated", ge=0
    )
    retry_base_ms: int = setting(5_000, "RETRY_BASE_BACKOFF_MS", _SENDING, "First wait after a failed send", ge=0)
    retry_max_ms: int = setting(120_000, "RETRY_MAX_BACKOFF_MS", _SENDING, "Longest wait after a failed send", ge=0)
    idempotency_derived_ttl_sec: int = setting(
        600, "IDEMPOTENCY_DERIVED_TTL_SEC", _SENDING, "Seconds for which the same text counts as a repeat", ge=0
    )
    queue_item_ttl_hours: float = setting(
        168, "QUEUE_ITEM_TTL_HOURS", _SENDING, "How long a message may wait before it expires", gt=0, le=LONGEST
    )
    typing_enabled: bool = setting(
        True,
        "TYPING_INDICATOR_ENABLED_DEFAULT",
        _SENDING,
        "Whether people see somebody type before a message; only `false` disables it",
        shown="true",
    )
    typing_min_ms: int = setting(600, "TYPING_INDICATOR_MIN_MS", _SENDING, "Shortest time of typing", ge=0)
    typing_max_ms: int = setting(1_800, "TYPING_INDICATOR_MAX_MS", _SENDING, "Longest time of typing", ge=0)
    typing_max_total_ms: int = setting(
        2_500, "TYPING_INDICATOR_MAX_TOTAL_MS", _SENDING, "Bounds typing and all that waits for it", ge=0
    )

    @field_validator("typing_enabled", mode="before")
    @classmethod
    def _only_literal_false(cls, given: object) -> object:
        return given is not False and not (isinstance(given, str) and given.strip() == "false")


class WebhookSettings(Group):
    """Webhooks."""

    webhook_secret: SecretStr | None = setting(
        None, "WEBHOOK_SECRET|MAIN_APP_WEBHOOK_SECRET", _WEBHOOKS, "Signs every webhook"
    )
    webhook_protection_bypass: SecretStr | None = setting(
        None,
        "WEBHOOK_PROTECTION_BYPASS|VERCEL_AUTOMATION_BYPASS_SECRET",
        _WEBHOOKS,
        "Sent as `x-vercel-protection-bypass`",
    )
    webhook_auth_token: SecretStr | None = setting(
        None, "WEBHOOK_AUTH_TOKEN|WEBHOOK_BEARER_TOKEN", _WEBHOOKS, "Sent as `Authorization: Bearer`"
    )
    webhook_timeout_ms: int = setting(10_000, "WEBHOOK_TIMEOUT_MS", _WEBHOOKS, "How long a receiver may take", ge=1)
    webhook_retry_base_ms: int = setting(1_000, "WEBHOOK_RETRY_BASE_MS", _WEBHOOKS, "First wait before a retry", ge=0)
    webhook_retry_max_ms: int = setting(
        3_600_000, "WEBHOOK_RETRY_MAX_MS", _WEBHOOKS, "Longest wait before a retry", ge=0
    )
    webhook_secret_overlap_hours: float = setting(
        24,
        "WEBHOOK_SECRET_OVERLAP_HOURS",
        _WEBHOOKS,
        "Hours for which the secret before stays live when an instance gets another",
        ge=0,
        le=LONGEST,
    )
    events_retention_days: float = setting(
        30, "EVENTS_RETENTION_DAYS", _WEBHOOKS, "Days for which events can be asked for; 0: for ever", ge=0, le=LONGEST
    )
    webhook_concurrency: int = setting(8, "WEBHOOK_CONCURRENCY", _WEBHOOKS, "Posts under way per endpoint", ge=1)
    webhook_block_private: bool = setting(
        False, "WEBHOOK_BLOCK_PRIVATE", _WEBHOOKS, "1 refuses targets on loopback and private addresses"
    )

    @field_validator("webhook_secret")
    @classmethod
    def _can_sign(cls, given: SecretStr | None) -> SecretStr | None:
        if given is not None and given.get_secret_value():
            standard_key(given.get_secret_value())
        return given
