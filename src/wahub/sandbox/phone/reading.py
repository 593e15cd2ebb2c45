"""What a received Message says, in the words of the control API.

Wrappers (ephemeral, view once, edited, document with caption) are opened first. A message that only moves keys or
settings between devices says nothing to a person and reads as None.
Source: Baileys Utils/messages (`normalizeMessageContent`, `getContentType`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wahub.sandbox.proto import e2e_pb2

_WRAPPERS = (
    "ephemeral_message",
    "view_once_message",
    "view_once_message_v2",
    "document_with_caption_message",
    "edited_message",
)
_MEDIA = {
    "image_message": "image",
    "video_message": "video",
    "ptv_message": "video",
    "audio_message": "audio",
    "document_message": "document",
    "sticker_message": "sticker",
}
POLLS = ("poll_creation_message", "poll_creation_message_v2", "poll_creation_message_v3")
_MAX_WRAPPERS = 5


@dataclass(frozen=True, slots=True)
class Said:
    """The content of a message: its type name, its text if it has one, and what else the type brings."""

    type: str
    text: str | None = None
    poll: dict[str, Any] | None = None
    media: dict[str, Any] | None = None
    more: dict[str, Any] | None = None


def opened(message: e2e_pb2.Message) -> e2e_pb2.Message:
    """The message inside its wrappers."""
    for _ in range(_MAX_WRAPPERS):
        wrapper = next((name for name in _WRAPPERS if message.HasField(name)), None)  # type: ignore[arg-type]
        if wrapper is None:
            break
        message = getattr(message, wrapper).message
    return message


def media_part(message: e2e_pb2.Message) -> tuple[str, Any] | None:
    """Kind and field of the file in an opened message; None when it has none."""
    fields = {descriptor.name: value for descriptor, value in message.ListFields()}
    return next(((kind, fields[field]) for field, kind in _MEDIA.items() if field in fields), None)


def read(message: e2e_pb2.Message) -> Said | None:
    """What the message says; None when it is not for a person's eyes."""
    if message.HasField("conversation"):
        return Said("text", message.conversation)
    message = opened(message)
    fields = {descriptor.name: value for descriptor, value in message.ListFields()}
    if "conversation" in fields:
        return Said("text", message.conversation)
    if "extended_text_message" in fields:
        return Said("text", message.extended_text_message.text, more=_quoted(message.extended_text_message))
    found = media_part(message)
    if found is not None:
        return _media(*found)
    for field in POLLS:
        if field in fields:
            return _poll(fields[field])
    return _other(message, fields)


def _other(message: e2e_pb2.Message, fields: dict[str, Any]) -> Said | None:
    if "reaction_message" in fields:
        reaction = message.reaction_message
        return Said("reaction", more={"reaction": {"messageId": reaction.key.id, "emoji": reaction.text}})
    if "protocol_message" in fields:
        return _protocol(message.protocol_message)
    if "location_message" in fields:
        return _location(message.location_message)
    if "live_location_message" in fields:
        return _location(message.live_location_message)
    if "contact_message" in fields:
        card = message.contact_message
        more = {"contact": {"name": card.display_name, "vcard": card.vcard}}
        return Said("contact", more=more | (_quoted(card) or {}))
    if "contacts_array_message" in fields:
        cards = [{"name": card.display_name, "vcard": card.vcard} for card in message.contacts_array_message.contacts]
        return Said("contacts", more={"contacts": cards})
    if "poll_update_message" in fields:
        poll_id = message.poll_update_message.poll_creation_message_key.id
        return Said("vote", more={"vote": {"pollId": poll_id}})
    for field, shown in _REPLIES.items():
        if field in fields:
            return _reply(*shown(fields[field]), fields[field])
    if fields.keys() <= {"message_context_info", "sender_key_distribution_message"} and message.ListFields():
        return None
    return Said("unknown")


def _reply(kind: str, chosen: str, text: str, part: Any) -> Said:
    return Said(kind, text, more={"reply": {"id": chosen, "text": text}} | (_quoted(part) or {}))


_REPLIES: dict[str, Callable[[Any], tuple[str, str, str]]] = {
    "buttons_response_message": lambda part: ("button_reply", part.selected_button_id, part.selected_display_text),
    "template_button_reply_message": lambda part: ("button_reply", part.selected_id, part.selected_display_text),
    "list_response_message": lambda part: ("list_reply", part.single_select_reply.selected_row_id, part.title),
}


def _protocol(protocol: e2e_pb2.ProtocolMessage) -> Said | None:
    if protocol.type == e2e_pb2.ProtocolMessage.REVOKE:
        return Said("delete", more={"delete": {"messageId": protocol.key.id}})
    if protocol.type == e2e_pb2.ProtocolMessage.MESSAGE_EDIT:
        new = read(protocol.edited_message)
        text = new.text if new is not None else None
        return Said("edit", text, more={"edit": {"messageId": protocol.key.id, "text": text}})
    return None


def _location(place: e2e_pb2.LocationMessage | e2e_pb2.LiveLocationMessage) -> Said:
    where: dict[str, Any] = {"latitude": place.degrees_latitude, "longitude": place.degrees_longitude}
    if isinstance(place, e2e_pb2.LocationMessage):
        where |= {"name": place.name or None, "address": place.address or None}
    return Said("location", more={"location": where} | (_quoted(place) or {}))


def _poll(poll: e2e_pb2.PollCreationMessage) -> Said:
    options = [option.option_name for option in poll.options]
    # 0 is how WhatsApp writes "any number of options".
    body = {"name": poll.name, "options": options, "selectable": poll.selectable_options_count}
    return Said("poll", poll.name, poll=body, more=_quoted(poll))


def _media(kind: str, part: Any) -> Said:
    caption = getattr(part, "caption", "") or None
    media: dict[str, Any] = {
        "kind": kind,
        "mime": part.mimetype or None,
        "fileName": getattr(part, "file_name", "") or None,
        "caption": caption,
        "size": part.file_length,
        "voice": bool(getattr(part, "ptt", False)),
    }
    return Said(kind, caption, media=media, more=_quoted(part))


def _quoted(part: Any) -> dict[str, Any] | None:
    if not part.HasField("context_info") or not part.context_info.stanza_id:
        return None
    info: e2e_pb2.ContextInfo = part.context_info
    said = read(info.quoted_message) if info.HasField("quoted_message") else None
    return {"quote": {"messageId": info.stanza_id, "text": said.text if said is not None else None}}
