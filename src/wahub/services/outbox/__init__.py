"""Sending, as use cases. Each function is one transaction's worth of work and never commits.

`accept` takes requests in, `attempt` serves the send loop, `manage` serves people, `view` shows, `record` writes an
entry together with the webhooks that its change calls for.
"""

from wahub.services.outbox.accept import Accepted, ImportedKey, QueueLimits, SendRequest, enqueue, import_keys
from wahub.services.outbox.attempt import (
    Claimed,
    Idle,
    Prepare,
    Prepared,
    SendRules,
    claim_next,
    expire_due,
    lapse_due,
    note_proof,
    recover,
    settle_attempt,
    start_evidence_wait,
)
from wahub.services.outbox.manage import (
    ACCOUNT_CHANGED,
    cancel,
    cancel_waiting,
    clear,
    hold_for_new_account,
    release,
    resolve,
    retry,
    trigger,
)
from wahub.services.outbox.view import QueueItem, QueueView, StatusView, overview, status

__all__ = [
    "ACCOUNT_CHANGED",
    "Accepted",
    "Claimed",
    "Idle",
    "ImportedKey",
    "Prepare",
    "Prepared",
    "QueueItem",
    "QueueLimits",
    "QueueView",
    "SendRequest",
    "SendRules",
    "StatusView",
    "cancel",
    "cancel_waiting",
    "claim_next",
    "clear",
    "enqueue",
    "expire_due",
    "hold_for_new_account",
    "import_keys",
    "lapse_due",
    "note_proof",
    "overview",
    "recover",
    "release",
    "resolve",
    "retry",
    "settle_attempt",
    "start_evidence_wait",
    "status",
    "trigger",
]
