"""What a session may say and who answers: stanzas by tag, queries by namespace and type."""

from __future__ import annotations

from collections.abc import Callable

from wahub.sandbox.network import (
    calls,
    companions,
    groups,
    linkcode,
    login,
    pairing,
    prekeys,
    presence,
    routing,
    settings,
    usync,
)
from wahub.sandbox.network.core import Core
from wahub.sandbox.network.faults import INCOMING_FAULTS
from wahub.sandbox.network.origin import Origin
from wahub.sandbox.network.session import Phase, Session
from wahub.sandbox.node import Node
from wahub.sandbox.proto.payload_pb2 import ClientPayload
from wahub.sandbox.wire.noise import Established

Handler = Callable[[Core, Session, Node], None]

_QUERIES: dict[tuple[str, str], Handler] = {
    ("w:p", "get"): settings.done,
    ("passive", "set"): login.passive_query,
    ("encrypt", "get"): prekeys.get_query,
    ("encrypt", "set"): prekeys.set_query,
    ("usync", "get"): usync.query,
    ("abt", "get"): settings.props,
    ("privacy", "get"): settings.privacy,
    ("privacy", "set"): settings.privacy_set,
    ("blocklist", "get"): settings.blocklist,
    ("blocklist", "set"): settings.blocklist,
    ("w:sync:app:state", "set"): settings.app_state,
    ("w:m", "set"): settings.media_conn,
    ("w:g2", "get"): groups.get_query,
    ("w:g2", "set"): groups.set_query,
    ("w:profile:picture", "get"): settings.not_found,
    ("w:biz", "get"): settings.business,
    ("w:mex", "get"): settings.mex,
    ("bot", "get"): settings.bots,
    ("status", "set"): settings.done,
    ("disappearing_mode", "set"): settings.done,
    ("urn:xmpp:whatsapp:dirty", "set"): settings.done,
    ("urn:xmpp:whatsapp:push", "set"): settings.done,
    ("w:stats", "set"): settings.done,
    ("w:stats", "get"): settings.done,
}
_DROPPED = frozenset(("dropStanza",))
_BEFORE_LOGIN = frozenset((("w:p", "get"), ("w:stats", "set")))


def take_ready(core: Core, session: Session, link: Established, payload: ClientPayload) -> None:
    """The handshake is done: the client registers new keys, or logs in with known ones."""
    if payload.HasField("device_pairing_data"):
        session.phase = Phase.UNREGISTERED
        pairing.register(core, session, link.client_static, payload.device_pairing_data)
    elif payload.HasField("username"):
        login.log_in(core, session, link.client_static, payload)
    else:
        session.violation("login", "neither a registration nor a login")
        session.fail(400)


def take_closed(core: Core, session: Session) -> None:
    """A session ended, whoever ended it."""
    core.sessions.discard(session)
    pairing.forget_references(core, session)
    linkcode.forget(core, session)
    login.log_out(core, session)


def take_stanza(core: Core, session: Session, stanza: Node) -> None:
    """A stanza from a socket."""
    tag = stanza.tag
    account, device = session.account, session.device
    if account is None or device is None:
        _take_unregistered(core, session, stanza)
        return
    core.trace.record(account.number, device.id, "in", stanza)
    if session.muted and not _is_ping(stanza):
        return
    if core.faults.armed:
        action = core.faults.take(INCOMING_FAULTS, account.number, None, device.id, tag)
        if action is not None and session.apply(action):
            return
        # Messages meet their own faults in routing; here a dropped stanza is a query that nobody answers.
        if tag == "iq" and core.faults.take(_DROPPED, account.number, None, device.id, tag) is not None:
            return
    if tag == "message":
        routing.take_message(core, Origin(account, device.id, session), stanza)
    elif tag == "receipt":
        routing.take_receipt(core, Origin(account, device.id, session), stanza)
    elif tag == "ack":
        routing.take_ack(core, Origin(account, device.id, session), stanza)
    elif tag == "iq":
        _take_query(core, session, stanza)
    elif tag == "presence":
        presence.take_presence(core, account, device.id, session, stanza)
    elif tag == "chatstate":
        presence.take_chatstate(core, account, device.id, stanza)
    elif tag == "call":
        calls.take_call(core, Origin(account, device.id, session), stanza)
    elif tag != "ib":
        session.violation("stanza", f"unknown stanza {tag}")


def _take_unregistered(core: Core, session: Session, stanza: Node) -> None:
    """Before login only pings, answers and telemetry are in order."""
    kind = stanza.attrs.get("type", "")
    if stanza.tag == "iq" and kind in ("result", "error"):
        _take_reply(session, stanza)
    elif stanza.tag == "iq" and (stanza.attrs.get("xmlns", ""), kind) in _BEFORE_LOGIN:
        session.result(stanza)
    elif stanza.tag == "iq" and stanza.child("link_code_companion_reg") is not None:
        linkcode.take_query(core, session, stanza)
    elif stanza.tag == "iq" and stanza.attrs.get("xmlns") == "md":
        _take_query(core, session, stanza)
    elif stanza.tag == "ib" or (stanza.tag == "presence" and "type" not in stanza.attrs):
        return
    elif stanza.tag == "ack" and stanza.attrs.get("class") == "notification":
        return  # of `primary_hello`
    else:
        session.violation("before_login", f"{stanza.tag} before login")
        session.stream_error(401)


def _take_query(core: Core, session: Session, stanza: Node) -> None:
    kind = stanza.attrs.get("type", "")
    if kind in ("result", "error"):
        _take_reply(session, stanza)
        return
    namespace = stanza.attrs.get("xmlns", "")
    handler = _QUERIES.get((namespace, kind))
    if handler is None and session.device is not None and stanza.child("remove-companion-device") is not None:
        handler = companions.remove_query
    if handler is not None:
        handler(core, session, stanza)
        return
    child = stanza.children[0].tag if stanza.children else ""
    core.stats.unknown_query(f"{namespace} {kind} {child}".strip())
    session.error(stanza, 501, "feature-not-implemented")


def _take_reply(session: Session, stanza: Node) -> None:
    reply = session.replies.pop(stanza.attrs.get("id", ""), None)
    if reply is not None:
        reply(stanza)


def _is_ping(stanza: Node) -> bool:
    return stanza.tag == "iq" and stanza.attrs.get("xmlns") == "w:p"
