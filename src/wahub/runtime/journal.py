"""The log lines that the contract asks for: machine events (G.3), one line each, `{"ts","instanceId","event",…}`; and
one for each received message (D.1) and each webhook that was taken (G.3), in words.
"""

from __future__ import annotations

import logging
import re

import structlog

from wahub.domain.ids import InstanceId, mask_chat
from wahub.domain.inbox import NOTICES, Received
from wahub.domain.webhook import Delivery
from wahub.services.lifecycle import Moved

_events = structlog.get_logger("wahub.events")
_messages = structlog.get_logger("wahub.messages")
_webhooks = structlog.get_logger("wahub.webhooks")
# Asked first, because words that nobody reads would be put together for each message.
_of_messages = logging.getLogger("wahub.messages")
_of_webhooks = logging.getLogger("wahub.webhooks")

_WORD = re.compile("[0-9A-Za-z_.-]{1,64}")


def note(instance: InstanceId, event: str, **fields: object) -> None:
    """Write an event down. No text, number, code or secret may be among the fields."""
    _events.info(event, instanceId=instance, **fields)


def alert(instance: InstanceId, event: str, **fields: object) -> None:
    """Write down what a person should look at."""
    _events.warning(event, instanceId=instance, **fields)


def received(message: Received) -> None:
    """A message of somebody else was stored for the first time."""
    if message.from_me or message.type in NOTICES or not _of_messages.isEnabledFor(logging.INFO):
        return
    # The sender chose the id, so it may be anything.
    name = message.message_id if _WORD.fullmatch(message.message_id) else "unusual"
    by = mask_chat(message.author.phone or message.author.lid)
    line = f"incoming message id={name} from={by} type={message.type}"
    _messages.info(line, instance=message.instance)


def forwarded(delivery: Delivery) -> None:
    """The receiver took it."""
    if not _of_webhooks.isEnabledFor(logging.INFO):
        return
    line = f"Webhook forwarded: {delivery.event}"
    _webhooks.info(line, instance=delivery.instance, event_id=delivery.event_id, attempt=delivery.attempts)


def moved(done: Moved) -> None:
    """The state changed, if it did."""
    before, after = done.before.observed.state, done.after.observed.state
    if before is not after:
        words = {"from": str(before), "to": str(after), "reason": done.reason or str(done.event)}
        _events.info("state_transition", instanceId=done.after.id, **words)
