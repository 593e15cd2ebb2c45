"""What `GET …/diagnostics` and `GET …/client/info-raw` tell (contract A.1). No text, no code, no number but our own.

Some fields come from gateways that drive a browser. What an engine that opens sockets does not have is told as null, 0
or false: stacks of errors, a fallback poller. Its cache of seen messages is the store, which knows them all.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wahub.api import schemas
from wahub.api.endpoint import endpoint_of
from wahub.api.schemas import iso_or_none
from wahub.domain.ids import InstanceId
from wahub.domain.instance import Instance, State
from wahub.domain.lifecycle import Incident, Lifecycle
from wahub.domain.media import MediaState
from wahub.domain.outbox import ItemState
from wahub.domain.times import iso
from wahub.machine import own_memory, peak_memory
from wahub.ports.store import Attempted, Tx
from wahub.ports.threads import Unreadable
from wahub.services import instance

_LATEST = 20
"""Incidents shown."""

_LATEST_UNREADABLE = 10

_MOST_GUARDS = 2_000
"""What a cache of seen messages would hold (contract D.1); nobody waits while the store counts more."""

_HOLDS_A_LINK = (State.CONNECTING, State.NEEDS_QR, State.READY)


@dataclass(frozen=True, slots=True)
class View:
    """All that is known of an instance, as one transaction saw it."""

    instance: Instance
    record: Lifecycle
    incidents: Sequence[Incident]
    webhook: Attempted | None
    endpoint: dict[str, Any]
    last_received_at: float | None
    guards: int
    unreadable: Unreadable
    media: Mapping[MediaState, int]
    depth: int
    sending: bool


def look(tx: Tx, wanted: InstanceId) -> View:
    """Read it. Raises InstanceNotFoundError."""
    found = instance.get(tx, wanted)
    return View(
        instance=found,
        record=tx.lifecycles.get(wanted),
        incidents=tx.lifecycles.incidents(wanted, _LATEST),
        webhook=tx.webhooks.last_attempt(wanted),
        endpoint=endpoint_of(tx, found),
        last_received_at=tx.inbox.last_received_at(wanted),
        guards=tx.inbox.guards(wanted, _MOST_GUARDS),
        unreadable=tx.missed.unreadable(wanted, _LATEST_UNREADABLE),
        media=tx.media.count(wanted),
        depth=tx.line.depth(wanted),
        sending=any(entry.state is ItemState.SENDING for entry in tx.line.going_out(wanted)),
    )


def shown(view: View) -> dict[str, Any]:
    """The object, but for `process`. Times are ISO 8601 in UTC."""
    seen = view.instance.observed
    return {
        "instanceId": view.instance.id,
        "name": view.instance.config.name,
        "state": seen.state,
        "lastStateChangeAt": iso(seen.state_at),
        "lastLifecycleEvent": seen.last_event,
        "lastLifecycleEventAt": iso_or_none(seen.last_event_at),
        "lastEvent": seen.last_event,
        "lastEventTimestamp": iso_or_none(seen.last_event_at),
        **_webhook(view.webhook),
        "webhookEndpoint": view.endpoint,
        "lastError": seen.last_error,
        "lastErrorAt": iso_or_none(view.record.last_error_at),
        "lastErrorStack": None,
        **_getting_ready(view),
        **_endings(view.record),
        **_liveness(view),
        "inbound": _inbound(view),
        "media": _media(view.media),
        "dedupeCacheSize": view.guards,
        **_of_browsers(seen.state),
        **schemas.settings_of(view.instance),
        "incidents": [{"kind": found.kind, "details": found.details, "at": iso(found.at)} for found in view.incidents],
    }


def _webhook(last: Attempted | None) -> dict[str, Any]:
    if last is None:
        return dict.fromkeys(("lastWebhookEvent", "lastWebhookStatus", "lastWebhookAt", "lastWebhookError"))
    return {
        "lastWebhookEvent": last.event,
        "lastWebhookStatus": "ok" if last.error is None else "failed",
        "lastWebhookAt": iso(last.at),
        "lastWebhookError": last.error,
    }


def _getting_ready(view: View) -> dict[str, Any]:
    seen, record = view.instance.observed, view.record
    return {
        "readyWatchdogStartAt": iso_or_none(record.ready_watchdog_at),
        "connectingWatchdogStartAt": iso_or_none(record.connecting_watchdog_at),
        "connectingWatchdogRestartCount": record.connecting_watchdog_restarts,
        "qrReceivedDuringRestart": record.qr_received_during_restart,
        "needsQrSince": iso_or_none(record.needs_qr_since),
        "lastQrAt": iso_or_none(record.last_qr_at),
        "qrRecoveryAttempts": record.qr_recovery_attempts,
        "authenticatedAt": iso_or_none(seen.authenticated_at),
        "lastAuthFailureAt": iso_or_none(record.last_auth_failure_at),
        **schemas.readiness(view.instance, record),
    }


def _endings(record: Lifecycle) -> dict[str, Any]:
    return {
        "restartCount": record.restart_count,
        "restartHistory": [iso(at) for at in record.restarts],
        "lastRestartAt": iso_or_none(record.last_restart_at),
        "pausedUntil": iso_or_none(record.paused_until),
        "pauseReason": record.pause_reason,
        "restrictedUntil": iso_or_none(record.restricted_until),
    }


def _liveness(view: View) -> dict[str, Any]:
    seen, record = view.instance.observed, view.record
    mute = None
    if record.mute_since is not None:
        mute = {"since": iso(record.mute_since), "evidence": record.mute_evidence}
    return {
        "restartAttempts": seen.restart_attempts,
        "lastDisconnectReason": seen.last_disconnect_reason,
        "lastDisconnectAt": iso_or_none(seen.last_disconnect_at),
        "connectedMute": mute,
        "mutes": record.mutes,
        "reconnects": record.reconnects,
        "lastHealthCheckAt": iso_or_none(record.health_checked_at),
        "lastGapAt": iso_or_none(record.last_gap_at),
        "lastIncomingMessageAt": iso_or_none(view.last_received_at),
        "queueDepth": view.depth,
        "sendLoopRunning": schemas.loop_runs(seen.state, view.depth, sending=view.sending),
    }


def _inbound(view: View) -> dict[str, Any]:
    """Whether all that waited has come, and what is missing."""
    record, unreadable = view.record, view.unreadable
    return {
        "caughtUp": view.instance.observed.state is State.READY and record.caught_up_at is not None,
        "caughtUpAt": iso_or_none(record.caught_up_at),
        "lastGapAt": iso_or_none(record.last_gap_at),
        "unreadable": {
            "count": unreadable.count,
            "latestAt": iso_or_none(unreadable.latest_at),
            "ids": list(unreadable.ids),
        },
    }


def _media(files: Mapping[MediaState, int]) -> dict[str, int]:
    """How many files of messages wait to be fetched unasked, are here, and were given up."""
    return {
        "waiting": files.get(MediaState.WANTED, 0),
        "here": files.get(MediaState.HERE, 0),
        "failed": files.get(MediaState.FAILED, 0),
    }


def _of_browsers(state: State) -> dict[str, Any]:
    """Fields of other engines; the first two have a meaning here: a link exists, and its events are listened to."""
    holds_a_link = state in _HOLDS_A_LINK
    return {
        "activeForCleanup": holds_a_link,
        "listenersAttached": holds_a_link,
        "fallbackPollEnabled": False,
        "fallbackPollIntervalMs": None,
        "lastFallbackPollAt": None,
        "fallbackPollRuns": 0,
        "fallbackPollLastError": None,
    }


def process(uptime: float, loop_lag_ms: float) -> dict[str, Any]:
    """This process: memory in bytes, time since it began to serve, the lag of its event loop."""
    return {
        "memoryUsage": {"rss": own_memory(), "peakRss": peak_memory()},
        "uptimeSeconds": round(uptime, 1),
        "eventLoopLagMs": loop_lag_ms,
        "runtime": f"Python {sys.version.split()[0]}",
    }


def info_raw(found: Instance, record: Lifecycle) -> dict[str, Any]:
    """The object of `GET …/client/info-raw`."""
    seen = found.observed
    info = None
    if seen.phone is not None:
        wid = {"user": seen.phone, "_serialized": f"{seen.phone}@c.us"}
        info = {"pushname": seen.display_name, "wid": wid}
    return {
        "instanceState": seen.state,
        "clientExists": seen.state in _HOLDS_A_LINK,
        "clientInfoPresent": info is not None,
        "clientInfo": info,
        "error": seen.last_error,
        **schemas.readiness(found, record),
    }
