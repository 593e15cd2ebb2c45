"""What a phone sees and does at the moment: presence, typing and calls. None of it is stored.

Source: Baileys Socket/chats (`sendPresenceUpdate`, `handlePresenceUpdate`), Socket/messages-recv (`handleCall`,
`rejectCall`), Utils/generics (`getCallStatusFromNode`); whatsmeow call.go, presence.go.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from wahub.sandbox.model import LID_SERVER, Jid, NetworkPort, RefusedError, is_shared
from wahub.sandbox.node import Node
from wahub.sandbox.phone.directory import Directory
from wahub.sandbox.phone.inbox import SeenLog
from wahub.sandbox.phone.incoming import iso_time
from wahub.sandbox.phone.state import PhoneState

STATES = ("available", "unavailable", "composing", "recording", "paused")
ENDINGS: dict[str, dict[str, str]] = {"terminate": {}, "timeout": {"reason": "timeout"}}


class Live:
    """Presence and calls of one phone."""

    def __init__(self, state: PhoneState, network: NetworkPort, directory: Directory) -> None:
        self._state = state
        self._network = network
        self._directory = directory
        self.calls: SeenLog[dict[str, Any]] = SeenLog()
        self._ringing: dict[str, tuple[Jid, str]] = {}

    def take_presence(self, stanza: Node) -> None:
        """Somebody came or went."""
        self._seen(stanza, "unavailable" if stanza.attrs.get("type") == "unavailable" else "available")

    def take_chat_state(self, stanza: Node) -> None:
        """Somebody types, records, or stopped."""
        for child in stanza.children:
            if child.tag == "composing":
                self._seen(stanza, "recording" if child.attrs.get("media") == "audio" else "composing")
            elif child.tag in ("paused", "recording"):
                self._seen(stanza, child.tag)

    def _seen(self, stanza: Node, state: str) -> None:
        try:
            chat = Jid.parse(stanza.attrs["from"])
            author = Jid.parse(stanza.attrs["participant"]) if is_shared(chat) else chat
        except (KeyError, ValueError):
            return
        number = self._directory.number_of(author, stanza.attrs.get("sender_pn"))
        log: SeenLog[dict[str, object]] = self._state.presence
        shown = str(chat) if is_shared(chat) else number
        log.append({"seq": log.next_seq, "from": number, "chat": shown, "state": state, "at": iso_time()})

    def show(self, state: str, to: str | None, server: str) -> None:
        """Tell that the person is there or not, or types in the chat `to` (a number or a group)."""
        if state in ("available", "unavailable"):
            presence = Node("presence", {"type": state, "name": self._state.profile.name})
            self._network.submit(self._state.jid, presence)
            return
        if to is None:
            raise RefusedError(400, "to: expected the number or group in whose chat the person is")
        child = Node("composing", {"media": "audio"}) if state == "recording" else Node(state)
        attrs = {"to": str(self._directory.chat_jid(to, server))}
        self._network.submit(self._state.jid, Node("chatstate", attrs, [child]))

    def call(self, to: str, server: str, *, video: bool) -> str:
        """Ring somebody; returns the call's id."""
        call_id = secrets.token_hex(16).upper()
        callee = self._directory.jid_of(to, server)
        own = str(self._directory.jid_of(self._state.profile.number, server))
        attrs = {"call-id": call_id, "call-creator": own}
        profile = self._state.profile
        if server == LID_SERVER and not (profile.hidden or profile.lid_hidden):
            attrs["caller_pn"] = str(self._state.jid)
        media = [Node("audio", {"enc": "opus", "rate": "16000"})]
        if video:
            media.append(Node("video", {"enc": "vp8", "dec": "vp8"}))
        self._ringing[call_id] = (callee, own)
        self._submit(callee, Node("offer", attrs, media))
        return call_id

    def hang_up(self, call_id: str, how: str) -> None:
        """End a call that this phone began; `how` is `terminate` or `timeout` (nobody answered)."""
        ringing = self._ringing.pop(call_id, None)
        if ringing is None:
            raise RefusedError(404, "callId: this phone has no such call")
        callee, own = ringing
        self._submit(callee, Node("terminate", {"call-id": call_id, "call-creator": own, **ENDINGS[how]}))

    def _submit(self, to: Jid, what: Node) -> None:
        attrs = {"to": str(to), "id": secrets.token_hex(8).upper(), "t": str(int(time.time()))}
        self._network.submit(self._state.jid, Node("call", attrs, [what]))

    def take_call(self, stanza: Node) -> None:
        """A call from somebody, or what became of one of ours."""
        what = next(iter(stanza.children), None)
        try:
            author = Jid.parse(stanza.attrs["from"])
        except (KeyError, ValueError):
            return
        if what is None:
            return
        call_id = what.attrs.get("call-id", "")
        if what.tag in ("reject", "terminate"):
            self._ringing.pop(call_id, None)
        state = "timeout" if what.attrs.get("reason") == "timeout" else what.tag
        event = {
            "seq": self.calls.next_seq,
            "callId": call_id,
            "from": self._directory.number_of(author, what.attrs.get("caller_pn")),
            "state": state,
            "video": what.child("video") is not None,
            "at": iso_time(),
        }
        self.calls.append(event)
