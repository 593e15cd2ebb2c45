"""Who gets what, with which headers, and when it is tried again."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from dataclasses import replace

import pytest
from standardwebhooks.webhooks import Webhook

from wahub.domain.ids import InstanceId
from wahub.domain.instance import Config
from wahub.domain.retry import Backoff
from wahub.domain.webhook import (
    RETRY_HORIZON,
    STANDARD_EVENTS,
    Delivery,
    DeliveryState,
    Signer,
    WebhookSettings,
    after_attempt,
    stale,
    standard_key,
    wants,
)
from wahub.ports.poster import PostResult

NOW = 1_700_000_000.0
POLICY = Backoff(1.0, 3600.0)
SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
DELIVERY = Delivery(
    event_id="e" * 32,
    instance=InstanceId("shop"),
    event="message",
    lane="chat",
    url="http://127.0.0.1/hook",
    body='{"event":"message","instanceId":"shop","data":{"t":"سلام"}}',
    sequence=7,
    created_at=NOW,
    expires_at=NOW + RETRY_HORIZON,
    next_attempt_at=NOW,
)


def config(*events: str, url: str | None = "http://x") -> Config:
    return Config("shop", url, events)


# --- matching ---------------------------------------------------------------------------------------------------------


def test_an_empty_list_means_the_ten_of_the_contract() -> None:
    assert len(STANDARD_EVENTS) == 10
    assert all(wants(config(), event) for event in STANDARD_EVENTS)
    assert not wants(config(), "message_unknown")


@pytest.mark.parametrize("event", ["authenticated", "ready", "ready_timeout"])
def test_three_events_come_whatever_the_list_says(event: str) -> None:
    assert wants(config("message"), event)


def test_others_only_by_name_or_star() -> None:
    assert not wants(config("message"), "qr")
    assert wants(config("qr"), "qr")
    assert wants(config("presence"), "presence")
    assert wants(config("*"), "presence")
    assert wants(config("*"), "qr")


def test_nobody_without_a_url() -> None:
    assert not wants(config("*", url=None), "ready")
    assert not wants(config(url=""), "ready")


# --- headers ----------------------------------------------------------------------------------------------------------


def headers(settings: WebhookSettings, now: float = NOW, delivery: Delivery = DELIVERY) -> dict[str, str]:
    return Signer(settings).headers(delivery, delivery.body.encode(), now)


def test_without_a_secret_nothing_is_signed() -> None:
    sent = headers(WebhookSettings())
    assert sent == {
        "content-type": "application/json",
        "user-agent": "wahub",
        "x-wa-hub-event-id": "e" * 32,
        "x-wa-hub-attempt": "1",
        "x-wa-hub-sequence": "7",
    }


@pytest.mark.parametrize("secret", [SECRET, SECRET.rstrip("="), "plain sécret"])
def test_standard_webhooks_library_accepts_it(secret: str) -> None:
    sent = headers(WebhookSettings(secret=secret), time.time())
    key = secret if secret.startswith("whsec_") else secret.encode()
    Webhook(key).verify(DELIVERY.body, sent)
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(key).verify(DELIVERY.body + " ", sent)


def test_hub_signature_uses_the_secret_as_text_even_with_prefix() -> None:
    expected = hmac.new(SECRET.encode(), DELIVERY.body.encode(), hashlib.sha256).hexdigest()
    assert headers(WebhookSettings(secret=SECRET))["x-wa-hub-signature"] == expected


def test_tokens_and_attempt() -> None:
    settings = WebhookSettings(protection_bypass="pass", auth_token="tok")
    sent = headers(settings, delivery=replace(DELIVERY, attempts=3))
    assert sent["x-vercel-protection-bypass"] == "pass"
    assert sent["authorization"] == "Bearer tok"
    assert sent["x-wa-hub-attempt"] == "4"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (WebhookSettings(secret="whsec_***"), "WEBHOOK_SECRET"),
        (WebhookSettings(secret="whsec_"), "WEBHOOK_SECRET"),
        (WebhookSettings(auth_token="hidden\nx: y"), "WEBHOOK_AUTH_TOKEN"),
        (WebhookSettings(protection_bypass="hidden\x00"), "WEBHOOK_PROTECTION_BYPASS"),
    ],
)
def test_unusable_settings_are_named_but_not_shown(settings: WebhookSettings, named: str) -> None:
    with pytest.raises(ValueError, match=named) as refused:
        Signer(settings)
    assert "hidden" not in str(refused.value)
    assert "***" not in str(refused.value)


def test_settings_hide_their_secrets() -> None:
    shown = repr(WebhookSettings(secret="aaa", protection_bypass="bbb", auth_token="ccc"))
    assert not any(secret in shown for secret in ("aaa", "bbb", "ccc"))


def test_standard_key() -> None:
    assert standard_key(SECRET) == b"0123456789abcdef01234567"
    assert standard_key("é") == "é".encode()


# --- retries ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_is_delivered(status: int) -> None:
    after = after_attempt(replace(DELIVERY, last_error="x"), PostResult(status), NOW, 0.5, POLICY)
    assert (after.state, after.attempts, after.last_error) == (DeliveryState.DELIVERED, 1, None)


@pytest.mark.parametrize(
    "answer", [PostResult(199), PostResult(302), PostResult(404), PostResult(500), PostResult(None, "no")]
)
def test_all_else_is_tried_again(answer: PostResult) -> None:
    after = after_attempt(DELIVERY, answer, NOW, 0.5, POLICY)
    assert (after.state, after.attempts, after.next_attempt_at) == (DeliveryState.PENDING, 1, NOW + 1.0)
    assert after.last_error == (answer.error or f"HTTP {answer.status}")


def test_waits_double_with_jitter_up_to_the_cap_until_72_hours_are_over() -> None:
    delivery, now, waits = DELIVERY, NOW, []
    while delivery.state is DeliveryState.PENDING:
        delivery = after_attempt(delivery, PostResult(500), now, 0.5, POLICY)
        if delivery.state is DeliveryState.PENDING:
            waits.append(delivery.next_attempt_at - now)
            now = delivery.next_attempt_at
    assert waits[:13] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600]
    assert delivery.state is DeliveryState.DEAD
    assert NOW + RETRY_HORIZON - 3600 <= now < NOW + RETRY_HORIZON


def test_jitter_spreads_by_a_quarter_and_respects_the_cap() -> None:
    def wait(unit: float, attempts: int = 0) -> float:
        failed = after_attempt(replace(DELIVERY, attempts=attempts), PostResult(500), NOW, unit, POLICY)
        return failed.next_attempt_at - NOW

    assert wait(0.0) == pytest.approx(0.75)
    assert wait(0.999999) == pytest.approx(1.25, abs=1e-3)
    assert wait(0.999999, attempts=30) == 3600


def test_a_qr_dies_with_its_code() -> None:
    code = replace(DELIVERY, event="qr", expires_at=NOW + 20)
    assert after_attempt(code, PostResult(500), NOW + 10, 0.5, POLICY).state is DeliveryState.PENDING
    assert after_attempt(code, PostResult(500), NOW + 19.5, 0.5, POLICY).state is DeliveryState.DEAD
    assert not stale(code, NOW + 19)
    assert stale(code, NOW + 20)


def test_other_events_get_an_attempt_even_after_a_long_outage() -> None:
    assert not stale(DELIVERY, NOW + 100 * 3600)
    late = after_attempt(DELIVERY, PostResult(500), NOW + 100 * 3600, 0.5, POLICY)
    assert late.state is DeliveryState.DEAD
    assert after_attempt(DELIVERY, PostResult(200), NOW + 100 * 3600, 0.5, POLICY).state is DeliveryState.DELIVERED


def test_presence_is_never_retried() -> None:
    once = replace(DELIVERY, event="presence")
    assert after_attempt(once, PostResult(500), NOW, 0.5, POLICY).state is DeliveryState.DEAD


def test_there_is_always_a_pause_between_attempts() -> None:
    policy = WebhookSettings(retry_base=0.0, retry_max=0.0).backoff
    assert after_attempt(DELIVERY, PostResult(500), NOW, 0.0, policy).next_attempt_at > NOW
