"""Baileys' disconnect codes and the side process's own causes, mapped once to the domain's reasons.

Source of the codes: Baileys `DisconnectReason` and spec sandbox.md §2. A cause is given when the side process knows
more than the code says (node/ending.mjs): Baileys reports every conflict as 440, pairing codes that ran out as 408, and
a proxy that answers 403 as if WhatsApp had banned the account.
"""

from __future__ import annotations

from wahub.domain.instance import Disconnect

_BY_CAUSE = {
    "closed_by_us": Disconnect.CLOSED_BY_US,
    "logged_out_by_us": Disconnect.LOGGED_OUT,
    "device_removed": Disconnect.LOGGED_OUT,
    "replaced": Disconnect.REPLACED,
    "restart_required": Disconnect.RESTART_REQUIRED,
    "timed_out": Disconnect.TIMED_OUT,
    "socket_failed": Disconnect.CONNECTION_CLOSED,
    "upgrade_refused": Disconnect.UNAVAILABLE,
    "proxy_refused": Disconnect.UNAVAILABLE,
    "credentials_unreadable": Disconnect.CREDENTIALS_UNREADABLE,
    "qr_expired": Disconnect.QR_EXPIRED,
    "term_expired": Disconnect.TERM_EXPIRED,
    "keys_failed": Disconnect.UNKNOWN,
    "spool_failed": Disconnect.UNKNOWN,
    "open_failed": Disconnect.UNKNOWN,
    "proxy_unusable": Disconnect.UNKNOWN,
    "link_failed": Disconnect.UNKNOWN,
}

_BY_CODE = {
    401: Disconnect.LOGGED_OUT,
    403: Disconnect.BANNED,
    408: Disconnect.TIMED_OUT,
    411: Disconnect.MULTIDEVICE_MISMATCH,
    428: Disconnect.CONNECTION_CLOSED,
    440: Disconnect.REPLACED,
    500: Disconnect.BAD_SESSION,
    503: Disconnect.UNAVAILABLE,
    515: Disconnect.RESTART_REQUIRED,
}


def disconnect_reason(cause: str | None, code: int | None) -> Disconnect:
    """Why the link ended: what the side process knows for certain first, then the code."""
    if cause is not None and cause in _BY_CAUSE:
        return _BY_CAUSE[cause]
    return _BY_CODE.get(code, Disconnect.UNKNOWN) if code is not None else Disconnect.UNKNOWN
