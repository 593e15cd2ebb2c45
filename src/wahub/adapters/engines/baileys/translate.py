"""Between the frames of the pipe and the words of the port."""

from __future__ import annotations

from wahub.adapters.engines.baileys import wire
from wahub.adapters.engines.baileys.codes import disconnect_reason
from wahub.adapters.engines.baileys.framing import FrameError
from wahub.domain.ids import MessageId
from wahub.domain.inbox import PollKey
from wahub.domain.instance import Stage
from wahub.domain.message import Content, Poll, Text
from wahub.ports import engine as port


def to_wire(content: Content) -> wire.SendContent:
    """What is sent, as the side process reads it."""
    match content:
        case Text(text=text):
            return wire.SendContent(kind="text", text=text)
        case Poll(caption=caption, options=options, multiple=multiple, secret=secret):
            return wire.SendContent(
                kind="poll", caption=caption, options=list(options), multiple=multiple, secret=secret
            )


def to_poll_key(key: PollKey) -> wire.SendContent:
    """What reads the votes on a poll."""
    return wire.SendContent(kind="poll_key", options=list(key.options), secret=key.secret, creators=list(key.creators))


def to_result(frame: wire.Sent) -> port.SendResult:
    """What became of a send."""
    match frame.outcome:
        case "acked":
            return port.SendAcked()
        case "refused":
            return port.SendRefused(frame.code or 0)
        case "not_started":
            return port.SendNotStarted(frame.reason or "not_started", frame.permanent, frame.link_lost)
        case _:
            return port.SendUncertain(frame.reason or "uncertain")


def to_event(frame: wire.AboutLink) -> port.LinkEvent:
    """What a link reports. FrameError when the frame reports nothing."""
    match frame:
        case wire.Qr(text=text, ttl_ms=ttl_ms):
            return port.QrShown(text, ttl_ms / 1000)
        case wire.PairedNow(me=me):
            return port.Paired(_to_identity(me))
        case wire.OpenedNow(me=me, polled=polled):
            return port.Opened(_to_identity(me), polled)
        case wire.CaughtUpNow(offline_count=count, announced=announced, received=received):
            return port.CaughtUp(count, announced, received)
        case wire.MissedNow(id=message_id, chat=chat, sender=sender, why=why, at=at):
            return port.Missed(MessageId(message_id), chat, sender, why, at)
        case wire.Mapping(phone=phone, lid=lid):
            return port.Mapped(phone, lid)
        case wire.Presence():
            return port.PresenceSeen(
                frame.chat, frame.sender, frame.sender_phone, frame.sender_lid, frame.state, frame.last_seen
            )
        case wire.LateAck(id=message_id, error=error):
            return port.Acked(MessageId(message_id), error)
        case wire.Receipt(ids=ids, kind=kind, chat=chat, at=at):
            return port.Receipted(tuple(MessageId(item) for item in ids), kind, chat, at)
        case _:
            raise FrameError(f"{type(frame).__name__} is no event")


def to_closed(frame: wire.ClosedNow) -> port.Closed:
    """The end of a link."""
    return port.Closed(disconnect_reason(frame.cause, frame.code), frame.code, frame.detail, Stage(frame.stage))


def _to_identity(me: wire.Identity) -> port.OwnIdentity:
    return port.OwnIdentity(me.phone, me.lid, me.name)
