"""What a person may send, and how each becomes WhatsApp's Message.

Source: Baileys Utils/messages (`generateWAMessageContent`), whatsmeow send.go (`BuildEdit`, `BuildRevoke`,
`BuildReaction`), field names of sandbox/proto/e2e.proto.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from wahub.sandbox.model import Jid, is_shared
from wahub.sandbox.phone.reading import opened
from wahub.sandbox.proto import e2e_pb2


@dataclass(frozen=True, slots=True)
class Text:
    """A text."""

    text: str


@dataclass(frozen=True, slots=True)
class Location:
    """A place, in degrees."""

    latitude: float
    longitude: float
    name: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Contact:
    """A contact card; `vcard` is the card's text."""

    name: str
    vcard: str


@dataclass(frozen=True, slots=True)
class Reaction:
    """An emoji on a message; an empty one withdraws the reaction."""

    message_id: str
    emoji: str


@dataclass(frozen=True, slots=True)
class Edit:
    """A new text for one of the person's own messages."""

    message_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Delete:
    """One of the person's own messages is deleted for everyone."""

    message_id: str


@dataclass(frozen=True, slots=True)
class Poll:
    """A question with answers to choose from; `selectable` is how many one may choose, 0 for any number."""

    name: str
    options: tuple[str, ...]
    selectable: int = 1


@dataclass(frozen=True, slots=True)
class Media:
    """A file: `kind` is image, video, audio, document or sticker; `data` the bytes as they are."""

    kind: str
    mime: str
    data: bytes
    caption: str = ""
    file_name: str = ""
    voice: bool = False


@dataclass(frozen=True, slots=True)
class ButtonReply:
    """A button of a message was pressed."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class ListReply:
    """A row of a list was chosen."""

    id: str
    text: str


Content = Text | Location | Contact | Reaction | Edit | Delete | Poll | Media | ButtonReply | ListReply
"""What a person may send. (A vote is not sent but given: `polls.build_vote`.)"""


@dataclass(frozen=True, slots=True)
class Target:
    """The message that a quote, reaction, edit or deletion is about, as it stands in the sender's chat."""

    message_id: str
    chat_jid: str
    author_jid: str
    from_me: bool
    message: e2e_pb2.Message

    def key(self) -> e2e_pb2.MessageKey:
        """How other messages name this one; in a group the author is named too."""
        key = e2e_pb2.MessageKey(remote_jid=self.chat_jid, from_me=self.from_me, id=self.message_id)
        if not self.from_me and is_shared(Jid.parse(self.chat_jid)):
            key.participant = self.author_jid
        return key


def vcard_of(name: str, phone: str) -> str:
    """A minimal contact card for a name and the digits of a number."""
    number = f"TEL;type=CELL;type=VOICE;waid={phone}:+{phone}"
    return "\n".join(("BEGIN:VCARD", "VERSION:3.0", f"FN:{name}", number, "END:VCARD"))


def build(
    content: Text | Location | Contact | Reaction | Edit | Delete | ButtonReply | ListReply,
    target: Target | None,
    quoted: Target | None,
) -> e2e_pb2.Message:
    """The Message of a content. `target` is required for reactions, edits and deletions."""
    match content:
        case Text(text):
            if quoted is None:
                return e2e_pb2.Message(conversation=text)
            extended = e2e_pb2.ExtendedTextMessage(text=text, context_info=context_of(quoted))
            return e2e_pb2.Message(extended_text_message=extended)
        case Location(latitude, longitude, name, address):
            place = e2e_pb2.LocationMessage(degrees_latitude=latitude, degrees_longitude=longitude)
            if name:
                place.name = name
            if address:
                place.address = address
            _quote(place, quoted)
            return e2e_pb2.Message(location_message=place)
        case Contact(name, vcard):
            card = e2e_pb2.ContactMessage(display_name=name, vcard=vcard)
            _quote(card, quoted)
            return e2e_pb2.Message(contact_message=card)
        case ButtonReply() | ListReply():
            return _reply(content, quoted)
        case _:
            if target is None:
                raise ValueError("this content is about another message")
            return _about(content, target)


def _about(content: Reaction | Edit | Delete, target: Target) -> e2e_pb2.Message:
    key = target.key()
    now_ms = int(time.time() * 1000)
    if isinstance(content, Reaction):
        reaction = e2e_pb2.ReactionMessage(key=key, text=content.emoji, sender_timestamp_ms=now_ms)
        return e2e_pb2.Message(reaction_message=reaction)
    protocol = e2e_pb2.ProtocolMessage(key=key)
    if isinstance(content, Delete):
        protocol.type = e2e_pb2.ProtocolMessage.REVOKE
        return e2e_pb2.Message(protocol_message=protocol)
    protocol.type = e2e_pb2.ProtocolMessage.MESSAGE_EDIT
    protocol.edited_message.conversation = content.text
    protocol.timestamp_ms = now_ms
    inner = e2e_pb2.Message(protocol_message=protocol)
    return e2e_pb2.Message(edited_message=e2e_pb2.WrappedMessage(message=inner))


def _reply(content: ButtonReply | ListReply, quoted: Target | None) -> e2e_pb2.Message:
    context = None if quoted is None else context_of(quoted)
    if isinstance(content, ButtonReply):
        button = e2e_pb2.ButtonsResponseMessage(
            selected_button_id=content.id,
            selected_display_text=content.text,
            type=e2e_pb2.ButtonsResponseMessage.DISPLAY_TEXT,
            context_info=context,
        )
        return e2e_pb2.Message(buttons_response_message=button)
    row = e2e_pb2.ListResponseMessage(
        title=content.text,
        list_type=e2e_pb2.ListResponseMessage.SINGLE_SELECT,
        single_select_reply=e2e_pb2.ListResponseMessage.SingleSelectReply(selected_row_id=content.id),
        context_info=context,
    )
    return e2e_pb2.Message(list_response_message=row)


def context_of(quoted: Target) -> e2e_pb2.ContextInfo:
    """How a message names the one it answers to."""
    return e2e_pb2.ContextInfo(
        stanza_id=quoted.message_id, participant=quoted.author_jid, quoted_message=quoted.message
    )


def _quote(part: e2e_pb2.LocationMessage | e2e_pb2.ContactMessage, quoted: Target | None) -> None:
    if quoted is not None:
        part.context_info.CopyFrom(context_of(quoted))


def stanza_type(content: Content) -> str:
    """The `type` of the message stanza. Source: Baileys Socket/messages-send (`getMessageType`)."""
    match content:
        case Reaction():
            return "reaction"
        case Poll():
            return "poll"
        case Contact() | Location() | Media() | ButtonReply() | ListReply():
            return "media"
        case _:
            return "text"


def stanza_edit(content: Content) -> str | None:
    """The `edit` attribute of the message stanza. Source: Baileys Socket/messages-send (`sendMessage`)."""
    match content:
        case Edit():
            return "1"
        case Delete():
            return "7"
        case _:
            return None


_MEDIA_TYPES = {
    "image_message": "image",
    "video_message": "video",
    "document_message": "document",
    "sticker_message": "sticker",
    "contact_message": "vcard",
    "buttons_response_message": "buttons_response",
    "list_response_message": "list_response",
}


def enc_attrs(message: e2e_pb2.Message) -> dict[str, str]:
    """What the `enc` nodes say beside their type. Source: Baileys Socket/messages-send (`getMediaType`)."""
    message = opened(message)
    if message.HasField("reaction_message"):
        return {"decrypt-fail": "hide"}
    if message.HasField("audio_message"):
        return {"mediatype": "ptt" if message.audio_message.ptt else "audio"}
    names = (descriptor.name for descriptor, _ in message.ListFields())
    kind = next((_MEDIA_TYPES[name] for name in names if name in _MEDIA_TYPES), None)
    return {} if kind is None else {"mediatype": kind}
