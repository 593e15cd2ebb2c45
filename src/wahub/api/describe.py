"""What the OpenAPI description says about each route: parameters, bodies and errors, for people who read `/docs`.

Nothing here is checked at run time; body.py and schemas.py do that.
"""

from __future__ import annotations

from typing import Any

HIDDEN: dict[str, Any] = {"include_in_schema": False}
"""A second spelling of a described route."""

_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_ERROR = {
    "type": "object",
    "required": ["error", "status"],
    "properties": {"error": _TEXT, "status": {"type": "integer"}},
}
_INSTANCE = {
    "name": "instance",
    "in": "path",
    "required": True,
    "description": "The id or the name of an instance; every character outside [A-Za-z0-9_-] counts as `_`.",
    "schema": _TEXT,
}
_QUEUE_ID = {"name": "queue_id", "in": "path", "required": True, "schema": _TEXT}
_KEY_HEADER = {"name": "Idempotency-Key", "in": "header", "required": False, "schema": _TEXT}
_PREFER_HEADER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`wait=N`: answer when it is sent, or after N seconds (at most 30)",
    "schema": _TEXT,
}

_TYPING = {
    "typingIndicatorEnabled": _FLAG,
    "applyTypingTo": {"type": "array", "items": {"type": "string", "enum": ["customer", "merchant"]}},
}
_WEBHOOK = {
    "type": "object",
    "properties": {
        "url": {
            "type": "string",
            "description": "http:// or https://, without user and password: the gateway sends WEBHOOK_AUTH_TOKEN",
        },
        "events": {"type": "array", "items": _TEXT, "description": "Empty: the ten of the standard; `*`: all"},
        "secret": {
            "type": "string",
            "description": "Signs instead of the gateway's; `whsec_…` or any text; never shown",
        },
    },
}
_ENGINE = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "deviceName": {
            "type": ["string", "null"],
            "minLength": 1,
            "maxLength": 50,
            "description": "What the phone's list of linked devices shows, from the next pairing on",
        },
        "markOnline": {
            "type": ["boolean", "null"],
            "description": "Whether the account appears online while it is linked",
        },
    },
}
_CONFIG = {
    "name": _TEXT,
    "webhook": _WEBHOOK,
    **_TYPING,
    "proxy": {
        "type": ["string", "null"],
        "description": "http://, https:// or socks5:// URL with a port, perhaps with user:password@; empty or null: "
        "none. Replies show it without user and password",
    },
    "engine": _ENGINE,
}
_CHAT = {"type": "string", "description": "A phone number, or an id that ends in @g.us or @lid"}
_OPTIONS = {
    "idempotencyKey": {"type": "string", "maxLength": 255},
    "shop": _TEXT,
    "orderId": _TEXT,
    "action": {"type": "string", "description": "Part of the order key; of polls it is always `confirmPoll`"},
    "uxTyping": {"type": "boolean", "default": True},
    "priority": {"type": "string", "enum": ["normal", "high"], "default": "normal"},
    "recipientType": {"type": "string", "enum": ["customer", "merchant"], "default": "customer"},
    "sendAt": {
        "oneOf": [{"type": "string", "format": "date-time"}, {"type": "integer", "description": "Epoch ms"}],
        "description": "When to send it, at most a year ahead; in the past: now",
    },
    "expiresIn": {"type": "number", "description": "Seconds after which it is not sent any more"},
}
_SEND = {"chatId": _CHAT, "message": {"type": "string", "minLength": 1, "maxLength": 65_536}, **_OPTIONS}
_POLL = {
    "chatId": _CHAT,
    "caption": {"type": "string", "minLength": 1},
    "options": {"type": "array", "items": _TEXT, "minItems": 2, "maxItems": 12, "uniqueItems": True},
    "multipleAnswers": _FLAG,
    **_OPTIONS,
}
_RECORDS = {"type": "array", "maxItems": 500, "items": {"type": "object"}}


def _route(
    summary: str,
    errors: dict[int, str],
    *,
    tag: str = "instances",
    parameters: tuple[dict[str, Any], ...] = (_INSTANCE,),
    body: dict[str, Any] | None = None,
    good: dict[int, str] | None = None,
) -> dict[str, Any]:
    responses: dict[str, Any] = {str(code): {"description": text} for code, text in (good or {200: "Done"}).items()}
    for code, text in errors.items():
        responses[str(code)] = {"description": text, "content": {"application/json": {"schema": _ERROR}}}
    extra: dict[str, Any] = {"parameters": list(parameters), "responses": responses}
    if body is not None:
        content = {"schema": {"type": "object", **body}}
        kinds = ("application/json", "application/x-www-form-urlencoded")
        extra["requestBody"] = {"content": dict.fromkeys(kinds, content)}
    return {"summary": summary, "tags": [tag], "openapi_extra": extra}


_UNKNOWN = {404: "No such instance"}

LIST = _route("All instances", {}, parameters=())
CREATE = _route(
    "Create an instance, or learn that it exists",
    {400: "Instance name is required; webhook.url is required, or may not be called"},
    parameters=(),
    body={"required": ["name", "webhook"], "properties": _CONFIG},
)
GET = _route("One instance", _UNKNOWN)
CHANGE = _route("Change what is supplied", {400: "A field is wrong", **_UNKNOWN}, body={"properties": _CONFIG})
DELETE = _route("Unlink it and remove everything of it", {})
QR = _route(
    "The QR code to scan: JSON with a PNG in base64, or what `format` names",
    {400: "format is none of the three words", 404: "No such instance, or no code at this moment"},
    parameters=(
        _INSTANCE,
        {"name": "format", "in": "query", "required": False, "schema": {"enum": ["png", "svg", "text"]}},
    ),
)
STATUS = _route("What the link does", _UNKNOWN)
ME = _route("The linked account", {400: "The instance is not ready", **_UNKNOWN})
LOGOUT = _route(
    "Log out and remove everything of it; with keep=1 its queue stays and it may be paired anew",
    {400: "keep is neither 1 nor 0"},
    body={"properties": {"keep": {"enum": [0, 1], "default": 0}}},
)
FIGURES = _route("State, counters and rate limits", _UNKNOWN)
RESTART = _route(
    "Open its link anew; `hard` with nothing left of the old one",
    {400: "type is neither soft nor hard, it waits for a QR scan, or it is restricted", **_UNKNOWN},
    body={"properties": {"type": {"enum": ["soft", "hard"], "default": "soft"}}},
    good={200: "It will be, in the background"},
)
RETRY_INSTANCE = _route(
    "Begin anew from `error` or `failed_qr_timeout`",
    {400: "It is in another state: restart it instead", **_UNKNOWN},
    good={200: "It will, in the background"},
)
DIAGNOSTICS = _route("All that is known of its life: timers, endings, incidents, mute links, this process", _UNKNOWN)
INFO_RAW = _route("The linked account in any state, for debugging", _UNKNOWN)
PAIRING_CODE = _route(
    "A code to type into the phone, instead of scanning a QR code",
    {
        400: "phone is no number, the instance is linked already, or WhatsApp refused the number",
        **_UNKNOWN,
        503: "No answer in 25 seconds",
    },
    body={"required": ["phone"], "properties": {"phone": {"type": "string", "description": "With the country code"}}},
    good={200: "The code, and until when it can be typed"},
)


def _accepts(summary: str, required: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    return _route(
        summary,
        {
            400: "A field is wrong, the instance waits for a QR scan, or WhatsApp refused for good while you waited",
            **_UNKNOWN,
            409: "The idempotency key was used with another payload",
            429: "The queue is full; Retry-After says when its first item leaves",
        },
        tag="sending",
        parameters=(_INSTANCE, _KEY_HEADER, _PREFER_HEADER),
        body={"required": required, "properties": properties},
        good={200: "It is sent (a replay, or you waited)", 202: "Queued, or still queued (replay)"},
    )


SEND = _accepts("Send a text", ["chatId", "message"], _SEND)
POLL = _accepts("Send a poll", ["chatId", "caption", "options"], _POLL)
QUEUE = _route("What waits to be sent, and when it will be", _UNKNOWN, tag="sending")
CLEAR = _route("Cancel what waits", _UNKNOWN, tag="sending")
TRIGGER = _route(
    "Let waiting retries go now, within the windows",
    {400: "The instance is not ready, or the queue is empty", **_UNKNOWN},
    tag="sending",
)
RELEASE = _route("Let held items go", _UNKNOWN, tag="sending")
ITEMS = _route(
    "The latest requests",
    {400: "state or limit is wrong", **_UNKNOWN},
    tag="sending",
    parameters=(
        _INSTANCE,
        {"name": "state", "in": "query", "required": False, "schema": _TEXT},
        {"name": "limit", "in": "query", "required": False, "schema": {"type": "integer", "maximum": 1000}},
    ),
)
_NO_REQUEST = {404: "No such instance, or no such request"}


def _one(summary: str, errors: dict[int, str], body: dict[str, Any] | None = None) -> dict[str, Any]:
    return _route(summary, {**errors, **_NO_REQUEST}, tag="sending", parameters=(_INSTANCE, _QUEUE_ID), body=body)


ITEM = _one("What became of one request", {})
CANCEL = _one("Take one request back", {409: "It was on the wire, or is settled"})
RETRY = _one("Try one request again now", {409: "It is sent, on the wire, or its fate is unknown"})
RESOLVE = _one(
    "Say what became of a request whose fate is unknown",
    {400: "as is not one of the three words", 409: "Its fate is known"},
    body={"required": ["as"], "properties": {"as": {"enum": ["resend", "sent", "failed"]}}},
)
IMPORT = _route(
    "Take over the idempotency keys of messages that an earlier gateway sent",
    {400: "A record is wrong", **_UNKNOWN},
    tag="sending",
    body={"required": ["records"], "properties": {"records": _RECORDS}},
)


def _query(name: str, description: str, kind: str = "integer") -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": {"type": kind}}


_LAST_EVENT = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The id of the last event that was seen; without it the stream begins with what happens next",
    "schema": _TEXT,
}
_STREAM_FILTER = (_query("event", "Only these events of the log", "string"), _LAST_EVENT)
_STREAM_ERRORS = {400: "Last-Event-ID, after, event or instance is wrong", 429: "Too many streams"}
EVENTS = _route(
    "What happened to it, oldest first, from the log",
    {400: "after or limit is wrong", **_UNKNOWN},
    tag="events",
    parameters=(
        _INSTANCE,
        _query("after", "Only events beyond this number; go on with `next`"),
        _query("limit", "At most so many: 1 to 1000, 100 by default"),
    ),
)
STREAM = _route(
    "Follow its events (server-sent events)",
    {**_STREAM_ERRORS, **_UNKNOWN},
    tag="events",
    parameters=(_INSTANCE, _query("after", "As Last-Event-ID, for clients that cannot send it"), *_STREAM_FILTER),
)
STREAM_ALL = _route(
    "Follow the events of all instances (server-sent events)",
    _STREAM_ERRORS,
    tag="events",
    parameters=(_query("instance", "Only these instances", "string"), *_STREAM_FILTER),
)
_NO_URL = {400: "It has no webhook.url", **_UNKNOWN}
WEBHOOK_TEST = _route("Post `webhook_test` to its URL now", {**_NO_URL, 409: "No gateway runs"}, tag="events")
DEAD = _route(
    "Webhooks that were given up, the latest first",
    {400: "limit is wrong", **_UNKNOWN},
    tag="events",
    parameters=(_INSTANCE, _query("limit", "At most so many: 1 to 1000, 50 by default")),
)
REPLAY_ALL = _route("Post all of them again", _NO_URL, tag="events", good={202: "Queued"})
REPLAY = _route(
    "Post one of them again",
    {**_NO_URL, 404: "No such instance or dead letter", 409: "It was a pairing code"},
    tag="events",
    parameters=(_INSTANCE, {"name": "event_id", "in": "path", "required": True, "schema": _TEXT}),
    good={202: "Queued"},
)

_CURSOR = _query("cursor", "The `next` of the page before; without it the newest come", "string")
_PAGE = _query("limit", "At most so many: 1 to 200, 50 by default")
CHATS = _route(
    "Its chats, those with the latest activity first",
    {400: "limit or cursor is wrong", **_UNKNOWN},
    tag="chats",
    parameters=(_INSTANCE, _PAGE, _CURSOR),
)
MESSAGES = _route(
    "The messages of a chat, newest first, each with its edits, reactions and votes",
    {400: "chatId, limit, cursor or after is wrong", 404: "No such instance or contact"},
    tag="chats",
    parameters=(
        _INSTANCE,
        {
            "name": "chat",
            "in": "path",
            "required": True,
            "description": "A number, an id that ends in @c.us, @g.us or @lid, or a contactId",
            "schema": _TEXT,
        },
        _PAGE,
        _CURSOR,
        _query("after", "Only messages that are later than this time (Unix seconds)"),
    ),
)

MEDIA = _route(
    "The file of a received message, fetched from WhatsApp if it is not here yet",
    {
        404: "No such instance or message, or it has no file",
        410: "WhatsApp no longer has it",
        413: "It is larger than MEDIA_MAX_MB",
        502: "WhatsApp's media servers refuse it, cannot be reached, or gave something else",
        503: "It is not here, and the account is not connected; Retry-After says when to ask again",
    },
    tag="chats",
    parameters=(
        _INSTANCE,
        {"name": "message", "in": "path", "required": True, "description": "Its WhatsApp id", "schema": _TEXT},
    ),
    good={200: "The file", 206: "The part that Range names", 304: "It is the one that If-None-Match names"},
)

_ADMIN_HEADER = {"name": "X-Admin-Debug-Secret", "in": "header", "required": False, "schema": _TEXT}
_FORBIDDEN = {403: "ADMIN_DEBUG_SECRET is set, and the header is not it"}


def _admin(
    summary: str,
    errors: dict[int, str] | None = None,
    *,
    parameters: tuple[dict[str, Any], ...] = (),
    good: dict[int, str] | None = None,
) -> dict[str, Any]:
    found = {**_FORBIDDEN, **(errors or {})}
    return _route(summary, found, tag="system", parameters=(*parameters, _ADMIN_HEADER), good=good)


SYSTEM = _admin("What the process does: all instances, and those that wait to come back")
FORCE_NORMAL = _admin("Nothing: the mode is always normal")
DEBUG_ENV = _admin("The machine as this process sees it")
DEBUG_RETRY = _admin(
    "Begin anew from `error` or `failed_qr_timeout`",
    {400: "It is in another state", **_UNKNOWN},
    parameters=(_INSTANCE,),
    good={202: "Queued"},
)
METRICS = _route("Prometheus text", {}, tag="system", parameters=())
HEALTH = _route("Health, without a key", {503: "Not healthy"}, tag="health", parameters=())
