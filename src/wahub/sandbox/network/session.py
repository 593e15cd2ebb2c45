"""One socket, from the first byte to the last: handshake, then registration or login, then stanzas.

Phases: HELLO and FINISH are the Noise handshake; UNREGISTERED has shown keys for pairing and no account; PASSIVE is
logged in and not yet asked for its mail; ACTIVE gets mail. What does not verify ends the session and is listed as a
violation. The session only makes bytes; `asgi.py` moves them.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from wahub.sandbox.network.faults import HANDSHAKE, HANDSHAKE_FAULTS, Action
from wahub.sandbox.node import Node
from wahub.sandbox.proto.payload_pb2 import ClientPayload
from wahub.sandbox.wire.frames import FrameError, FrameReader, pack_frame
from wahub.sandbox.wire.nodes import NodeError, decode_node, encode_node
from wahub.sandbox.wire.noise import Established, NoiseError, ServerHandshake

if TYPE_CHECKING:
    from wahub.sandbox.network.accounts import Account, Device
    from wahub.sandbox.network.core import Core
    from wahub.sandbox.network.pairing import Registration

FAILURE_LOGGED_OUT = 401
_REPLACED = 440


class Phase(enum.Enum):
    """How far a session got."""

    HELLO = enum.auto()
    FINISH = enum.auto()
    UNREGISTERED = enum.auto()
    PASSIVE = enum.auto()
    ACTIVE = enum.auto()
    CLOSED = enum.auto()


class Session:
    """The server's end of one socket."""

    def __init__(
        self,
        core: Core,
        on_ready: Callable[[Session, Established, ClientPayload], None],
        on_stanza: Callable[[Session, Node], None],
        on_closed: Callable[[Session], None],
    ) -> None:
        self.core = core
        self.phase = Phase.HELLO
        self.account: Account | None = None
        self.device: Device | None = None
        self.registration: Registration | None = None
        self.pairing_until = 0.0
        self.available = False
        self.delay = 0.0
        self.silent = False
        self.muted = False
        self.aborted = False
        self.wake = asyncio.Event()
        self.on_deaf: Callable[[], None] = lambda: None
        self.held_back: list[Node] = []
        """Messages that `reorder` lets another one overtake."""
        self.replies: dict[str, Callable[[Node], None]] = {}
        self._on_ready = on_ready
        self._on_stanza = on_stanza
        self._on_closed = on_closed
        self._reader = FrameReader()
        self._handshake = ServerHandshake(core.keys.static, core.keys.cert_chain)
        self._link: Established | None = None
        self._outgoing: list[bytes] = []

    @property
    def active(self) -> bool:
        """Whether mail may be sent here."""
        return self.phase is Phase.ACTIVE

    @property
    def closed(self) -> bool:
        """Whether the session has ended; bytes may still wait to be written."""
        return self.phase is Phase.CLOSED

    def feed(self, data: bytes) -> None:
        """Take bytes from the socket."""
        if self.closed:
            return
        try:
            for frame in self._reader.feed(data):
                if self.closed:
                    return
                self._take_frame(frame)
        except (FrameError, NoiseError, NodeError) as error:
            self.violation("wire", str(error))
            self.close()

    def send(self, stanza: Node) -> None:
        """Encrypt and queue a stanza. Silently nothing when the session ended or plays dead."""
        if self._link is None or self.silent or self.phase is Phase.CLOSED:
            return
        if self.account is not None and self.device is not None:
            self.core.trace.record(self.account.number, self.device.id, "out", stanza)
        if self.muted and not _is_pong(stanza):
            return
        self._push(self._link.outgoing.encrypt(encode_node(stanza)))

    def take_output(self) -> list[bytes]:
        """The frames that wait to be written; they are the writer's from now on."""
        out, self._outgoing = self._outgoing, []
        return out

    def result(self, query: Node, *children: Node) -> None:
        """Answer an `iq`."""
        attrs = {"from": query.attrs.get("to", "@s.whatsapp.net"), "type": "result", "id": query.attrs.get("id", "")}
        self.send(Node("iq", attrs, list(children) or None))

    def error(self, query: Node, code: int, text: str) -> None:
        """Refuse an `iq`."""
        attrs = {"from": query.attrs.get("to", "@s.whatsapp.net"), "type": "error", "id": query.attrs.get("id", "")}
        self.send(Node("iq", attrs, [Node("error", {"code": str(code), "text": text})]))

    def stream_error(self, code: int | None, child: Node | None = None) -> None:
        """End the stream with an error, then close."""
        attrs = {} if code is None else {"code": str(code)}
        self.send(Node("stream:error", attrs, [child] if child is not None else None))
        self.close()

    def fail(self, reason: int) -> None:
        """Refuse the login, then close."""
        self.send(Node("failure", {"reason": str(reason), "location": "frc"}))
        self.close()

    def apply(self, action: Action) -> bool:
        """Do a socket fault; False when the stanza at hand should go on as usual."""
        name, arguments = action.name, action.arguments
        if name == "drop":
            self.abort()
        elif name == "silent":
            self.silent = True
            if arguments.get("deaf"):
                self.on_deaf()
        elif name == "mute":
            self.muted = True
        elif name == "slow":
            self.delay = arguments["ms"] / 1000
            return False
        elif name == "streamError":
            self.stream_error(*_stream_error(arguments))
        elif name == "failure":
            self.fail(arguments["reason"])
        elif name == "replaced":
            self.replaced()
        return True

    def replaced(self) -> None:
        """Another socket of the same device took over."""
        self.stream_error(None, Node("conflict", {"type": "replaced"}))

    def violation(self, kind: str, detail: str) -> None:
        """List what this session did wrong."""
        number = self.account.number if self.account else None
        self.core.stats.violation(kind, detail, number, self.device.id if self.device else None)

    def close(self) -> None:
        """End the session; what is queued is still written, then the WebSocket is closed."""
        if self.phase is not Phase.CLOSED:
            self.phase = Phase.CLOSED
            self._on_closed(self)
            self.wake.set()

    def abort(self) -> None:
        """End the session without a word: queued frames are dropped and TCP is closed."""
        self.aborted = True
        self.close()

    def _push(self, payload: bytes) -> None:
        if self.closed:
            return
        self._outgoing.append(pack_frame(payload))
        self.wake.set()

    def _answer_hello(self, hello: bytes) -> None:
        faults = self.core.faults
        action = faults.take(HANDSHAKE_FAULTS, "", None, 0, HANDSHAKE) if faults.armed else None
        if action is None:
            self._push(hello)
        elif action.name == "slow":
            self.core.call_later(action.arguments["ms"] / 1000, lambda: self._push(hello))
        elif action.name == "drop":
            self.abort()
        else:
            self.apply(Action("silent", action.arguments))

    def _take_frame(self, frame: bytes) -> None:
        if self.phase is Phase.HELLO:
            self.phase = Phase.FINISH
            self._answer_hello(self._handshake.hello(frame))
        elif self.phase is Phase.FINISH:
            self._link = link = self._handshake.finish(frame)
            try:
                payload = ClientPayload.FromString(link.payload)
            except DecodeError as error:
                raise NoiseError("not a client payload") from error
            self._on_ready(self, link, payload)
        else:
            assert self._link is not None
            stanza = decode_node(self._link.incoming.decrypt(frame))
            if not self.silent:
                self._on_stanza(self, stanza)


def _stream_error(arguments: Mapping[str, Any]) -> tuple[int | None, Node | None]:
    """Code and child; without a named child, 401 and 440 look as the real server sends them.

    source: whatsmeow connectionevents.go (handleStreamError): device_removed comes with 401, replaced with no code.
    """
    code, child = arguments["code"], arguments.get("child")
    if child is not None:
        kind = arguments.get("type")
        return code, Node(child, {} if kind is None else {"type": kind})
    if code == _REPLACED:
        return None, Node("conflict", {"type": "replaced"})
    if code == FAILURE_LOGGED_OUT:
        return code, Node("conflict", {"type": "device_removed"})
    return code, None


def _is_pong(stanza: Node) -> bool:
    return stanza.tag == "iq" and stanza.attrs.get("type") == "result" and stanza.content is None
