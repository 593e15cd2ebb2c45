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

_TYPING = {
    "typingIndicatorEnabled": _FLAG,
    "applyTypingTo": {"type": "array", "items": {"type": "string", "enum": ["customer", "merchant"]}},
}
_WEBHOOK = {
    "type": "object",
    "properties": {"url": _TEXT, "events": {"type": "array", "items": _TEXT, "description": "Empty: all of them"}},
}
_CONFIG = {"name": _TEXT, "webhook": _WEBHOOK, **_TYPING}
_SEND = {
    "chatId": {"type": "string", "description": "A phone number, or an id that ends in @g.us or @lid"},
    "message": {"type": "string", "minLength": 1, "maxLength": 65_536},
    "idempotencyKey": {"type": "string", "maxLength": 255},
    "shop": _TEXT,
    "orderId": _TEXT,
    "action": _TEXT,
    "uxTyping": _FLAG,
}


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
QR = _route("The QR code to scan, a PNG in base64", {404: "No such instance, or no code at this moment"})
STATUS = _route("What the link does", _UNKNOWN)
ME = _route("The linked account", {400: "The instance is not ready", **_UNKNOWN})
SEND = _route(
    "Send a text",
    {
        400: "A field is wrong, or the instance waits for a QR scan",
        **_UNKNOWN,
        409: "The idempotency key was used with another payload",
        429: "The queue is full",
    },
    tag="sending",
    parameters=(_INSTANCE, _KEY_HEADER),
    body={"required": ["chatId", "message"], "properties": _SEND},
    good={200: "It was sent before (replay)", 202: "Queued, or still queued (replay)"},
)
QUEUE = _route("What waits to be sent", _UNKNOWN, tag="sending")
ITEM = _route(
    "What became of one request",
    {404: "No such instance, or no such request"},
    tag="sending",
    parameters=(_INSTANCE, _QUEUE_ID),
)
HEALTH = _route("Health, without a key", {503: "Not healthy"}, tag="health", parameters=())
