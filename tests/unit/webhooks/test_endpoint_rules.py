"""When an endpoint is paused or disabled, and which secrets are live."""

from __future__ import annotations

import base64
import time
from dataclasses import replace

import pytest
from standardwebhooks.webhooks import Webhook
from tests.unit.webhooks.test_rules import DELIVERY, NOW, POLICY

from wahub.domain.endpoint import (
    FOREVER,
    OUTAGE,
    PAUSE_AFTER,
    PAUSE_AFTER_FAILURES,
    Held,
    Secrets,
    Trouble,
    after_failure,
    ends_outage,
)
from wahub.domain.webhook import Signer, WebhookSettings, aside, hub_signature, stands_aside

FRESH = Trouble(DELIVERY.instance, DELIVERY.url, 0, NOW, "")
MANY = PAUSE_AFTER_FAILURES - 1


def fail(before: Trouble, at: float, status: int | None = 500, *, probe: bool = False, unit: float = 0.5) -> Trouble:
    return after_failure(before, status=status, probe=probe, now=at, unit=unit, retry=POLICY)


@pytest.mark.parametrize(
    ("failures", "seconds", "held"),
    [
        (MANY - 1, PAUSE_AFTER * 10, None),
        (MANY, PAUSE_AFTER - 1, None),
        (MANY, PAUSE_AFTER, Held.PAUSED),
        (MANY * 10, PAUSE_AFTER - 1, None),
    ],
)
def test_both_many_failures_and_a_long_time_pause_it(failures: int, seconds: float, held: Held | None) -> None:
    after = fail(replace(FRESH, failures=failures), NOW + seconds)
    assert (after.failures, after.held) == (failures + 1, held)
    assert (after.held_until is None) == (held is None)


def test_probes_come_at_growing_intervals_up_to_the_longest_wait() -> None:
    now = NOW + PAUSE_AFTER
    trouble, waits = fail(replace(FRESH, failures=MANY), now), []
    for _ in range(12):
        assert trouble.held is Held.PAUSED
        assert trouble.held_until is not None
        waits.append(trouble.held_until - now)
        now = trouble.held_until
        trouble = fail(trouble, now, probe=True)
    assert waits == [30, 60, 120, 240, 480, 960, 1920, *[3600] * 5]
    assert trouble.held_at == NOW + PAUSE_AFTER


def test_what_was_under_way_when_it_was_paused_moves_no_probe() -> None:
    paused = fail(replace(FRESH, failures=MANY), NOW + PAUSE_AFTER)
    after = fail(paused, NOW + PAUSE_AFTER + 1)
    assert (after.held_until, after.probes, after.failures) == (paused.held_until, 0, paused.failures + 1)


def test_gone_disables_it_at_once() -> None:
    gone = fail(FRESH, NOW + 1, 410)
    assert (gone.held, gone.held_at, gone.held_until) == (Held.DISABLED, NOW + 1, FOREVER)
    assert fail(gone, NOW + PAUSE_AFTER * 2).held is Held.DISABLED
    assert fail(gone, NOW + 5, 410).held_at == NOW + 1
    paused = fail(replace(FRESH, failures=MANY), NOW + PAUSE_AFTER)
    assert fail(paused, NOW + PAUSE_AFTER + 30, 410, probe=True).held is Held.DISABLED


def test_one_refusal_is_no_outage() -> None:
    once = fail(FRESH, NOW)
    assert not ends_outage(once, NOW + OUTAGE - 1)
    assert ends_outage(once, NOW + OUTAGE)
    assert ends_outage(fail(once, NOW, 410), NOW)


def test_an_event_that_stands_aside_has_a_lane_of_its_own() -> None:
    alone = aside(DELIVERY)
    assert not stands_aside(DELIVERY)
    assert stands_aside(alone)
    assert alone.lane != aside(replace(DELIVERY, event_id="other")).lane


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_live_secrets() -> None:
    assert Secrets().live(None, NOW) == ()
    assert Secrets().live("common", NOW) == ("common",)
    assert Secrets("own").live("common", NOW) == ("own",)
    first = Secrets().rotated("own", NOW, 100)
    assert first.live("common", NOW + 99) == ("own", "common")
    assert first.live("common", NOW + 100) == ("own",)
    assert first.live(None, NOW) == ("own",)
    second = first.rotated("newer", NOW + 10, 100)
    assert second.live("common", NOW + 11) == ("newer", "own")
    assert second.rotated("newer", NOW + 50, 100) is second
    assert second.rotated(None, NOW + 50, 100).live("common", NOW + 51) == ("common", "newer")
    assert Secrets("own").rotated("newer", NOW, 0) == Secrets("newer")


def test_two_signatures_while_two_secrets_are_live_and_the_public_library_takes_both() -> None:
    own = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
    now = time.time()
    rotating = replace(DELIVERY, secrets=Secrets(own, None, now + 60))
    sent = Signer(WebhookSettings(secret="common")).headers(rotating, rotating.body.encode(), now)
    assert [signature.partition(",")[0] for signature in sent["webhook-signature"].split(" ")] == ["v1", "v1"]
    Webhook(own).verify(rotating.body, sent)
    Webhook(b"common").verify(rotating.body, sent)
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(b"other").verify(rotating.body, sent)
    assert sent["x-wa-hub-signature"] == hub_signature(own.encode(), rotating.body.encode())
    later = Signer(WebhookSettings(secret="common")).headers(rotating, rotating.body.encode(), now + 61)
    assert " " not in later["webhook-signature"]


def test_what_is_not_in_the_log_has_no_number() -> None:
    sent = Signer(WebhookSettings()).headers(replace(DELIVERY, sequence=0), b"{}", NOW)
    assert "x-wa-hub-sequence" not in sent


def test_secrets_are_not_shown() -> None:
    assert "hidden" not in repr(replace(DELIVERY, secrets=Secrets("hidden-1", "hidden-2", 1.0)))
    assert "hidden" not in repr(Secrets("hidden-1", "hidden-2", 1.0))
