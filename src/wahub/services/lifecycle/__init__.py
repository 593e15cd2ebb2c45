"""The lifecycle of an instance, as use cases: what links report, what timers do, what callers ask for."""

from wahub.services.lifecycle.asks import (
    ask,
    ask_pairing_code,
    begin_pairing,
    drop_ask,
    pairing_code_given,
    pairing_code_refused,
    retry,
)
from wahub.services.lifecycle.links import Closing, attempt, closed, opened, paired, qr_shown, unlinked
from wahub.services.lifecycle.moves import Moved
from wahub.services.lifecycle.timers import (
    CONNECTED_MUTE,
    connecting_timed_out,
    cooldown_over,
    failed,
    health_checked,
    mute,
    polled,
    qr_given_up,
    qr_recovery,
    ready_timed_out,
    rearm_connecting,
    restart,
    stale,
)

__all__ = [
    "CONNECTED_MUTE",
    "Closing",
    "Moved",
    "ask",
    "ask_pairing_code",
    "attempt",
    "begin_pairing",
    "closed",
    "connecting_timed_out",
    "cooldown_over",
    "drop_ask",
    "failed",
    "health_checked",
    "mute",
    "opened",
    "paired",
    "pairing_code_given",
    "pairing_code_refused",
    "polled",
    "qr_given_up",
    "qr_recovery",
    "qr_shown",
    "ready_timed_out",
    "rearm_connecting",
    "restart",
    "retry",
    "stale",
    "unlinked",
]
