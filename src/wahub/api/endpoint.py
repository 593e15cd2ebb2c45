"""What the routes of instances tell and take of their webhook: how its endpoint fares, and a secret of its own."""

from __future__ import annotations

from typing import Any

from wahub.api.body import Fields
from wahub.api.schemas import iso_or_none
from wahub.domain.endpoint import FOREVER, Trouble
from wahub.domain.errors import InvalidFieldError
from wahub.domain.instance import Instance
from wahub.domain.times import iso
from wahub.domain.webhook import standard_key
from wahub.ports.store import Tx

_LONGEST_SECRET = 512


def endpoint_of(tx: Tx, known: Instance) -> dict[str, Any]:
    """What is known of the instance's endpoint: `active`, `failing`, `paused` or `disabled`, since when, and why."""
    url = known.config.webhook_url
    trouble = tx.endpoints.trouble(known.id, url) if url else None
    own = tx.endpoints.secrets(known.id).current is not None
    return {**_state(trouble), "deadLetters": tx.dead.count(known.id), "ownSecret": own}


def _state(trouble: Trouble | None) -> dict[str, Any]:
    if trouble is None:
        return {"state": "active", "since": None, "failures": 0, "lastError": None, "nextProbeAt": None}
    probe = trouble.held_until
    return {
        "state": "failing" if trouble.held is None else str(trouble.held),
        "since": iso(trouble.failing_since if trouble.held_at is None else trouble.held_at),
        "failures": trouble.failures,
        "lastError": trouble.last_error,
        "nextProbeAt": iso_or_none(None if probe == FOREVER else probe),
    }


def read_secret(fields: Fields) -> str | None:
    """`webhook.secret`: None if it is not there, an empty text to go back to the gateway's own. Never shown again."""
    secret = fields.object("webhook").text("secret", _LONGEST_SECRET)
    if not secret:
        return secret
    try:
        standard_key(secret)
        secret.encode()
    except ValueError:
        raise InvalidFieldError(
            "webhook.secret cannot be used: after whsec_ it must be base64, and it must be valid text"
        ) from None
    return secret
