"""The frames between the gateway and the Baileys side process.

A frame is a map whose `t` names it (how it becomes bytes: framing.py). The other end is node/wire.mjs; the frames in
tests/fixtures/frames are checked against both ends. Whoever changes a frame raises PROTOCOL_VERSION in both.

Times: `until`, `clock` and those in `vitals` are milliseconds of the side process's clock, `at` is Unix seconds. JIDs
are WhatsApp's own form.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

PROTOCOL_VERSION = 5

KeyRow: TypeAlias = tuple[str, str, bytes]
KeyChange: TypeAlias = tuple[str, str, bytes | None]
VitalsRow: TypeAlias = tuple[int, float | None, float | None, float | None]
"""A link, when the server was last heard, since when a ping is unanswered, since when a message is unhandled."""


class _Frame(msgspec.Struct, tag_field="t", kw_only=True):
    pass


class LinkFrame(_Frame):
    """About one link under one lease term; the other end ignores it if it knows no such link or another term."""

    link: int
    epoch: int


# --- gateway to side process --------------------------------------------------------------------------------------


class Hello(_Frame, tag="hello"):
    """The first frame. Secrets travel here, not on the command line."""

    v: int
    wa_url: str | None
    trust_root: str | None
    spool_dir: str
    spool_key: bytes | None
    spool_flush: bool
    ack_timeout_ms: int
    qr_first_ms: int
    qr_next_ms: int
    keep_alive_ms: int
    handshake_ms: int
    statuses: bool
    """Whether posts on the status list are reported."""
    fault: str | None


class Ping(_Frame, tag="ping"):
    n: int


class Open(LinkFrame, tag="open"):
    instance: str
    until: float
    creds: bytes | None
    proxy: str | None
    """With its password: a URL never appears in a log."""
    device_name: str | None
    mark_online: bool | None


class Extend(LinkFrame, tag="extend"):
    until: float


class SendContent(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What was or is to be sent. `kind` says which fields there are: `text` has `text`; `poll` has `caption`,
    `options`, `multiple` and `secret`; `poll_key`, the answer to `need_poll`, has `options`, `secret` and
    `creators` (JIDs under which the poll was made; none: it is ours).
    """

    kind: str
    text: str | None = None
    caption: str | None = None
    options: list[str] | None = None
    multiple: bool | None = None
    secret: bytes | None = None
    creators: list[str] | None = None


class Send(LinkFrame, tag="send"):
    id: str
    chat: str
    content: SendContent


class Typing(LinkFrame, tag="typing"):
    """Answered by `told`: true when the chat was told."""

    n: int
    chat: str
    typing: bool


class Exists(LinkFrame, tag="exists"):
    """Answered by `told`: whether WhatsApp knows the number, null when it did not say."""

    n: int
    chat: str


class ProbeLink(LinkFrame, tag="probe"):
    """Answered by `probed`."""

    n: int


class Pair(LinkFrame, tag="pair"):
    """Asks for a code to type into the phone with this number (digits); answered by `pairing`."""

    n: int
    phone: str


class InboundAck(LinkFrame, tag="inbound_ack"):
    """The messages of one commit are stored."""

    seqs: list[int]


class Watch(LinkFrame, tag="watch"):
    """Whether presence is asked for and reported."""

    presence: bool


class Fetch(LinkFrame, tag="fetch"):
    """Asks for the file of a message; answered by `fetched`. `path` is absolute, `limit` in bytes."""

    n: int
    kind: str
    direct_path: str
    media_key: bytes
    file_sha256: bytes | None
    file_enc_sha256: bytes | None
    path: str
    limit: int


class Logout(LinkFrame, tag="logout"):
    pass


class Close(LinkFrame, tag="close"):
    pass


class Answer(_Frame, tag="answer"):
    """To the question `q`: a value, or an error (`fenced`: the lease term is over)."""

    q: int
    error: str | None = None
    value: list[KeyRow] | SendContent | None = None


# --- side process to gateway --------------------------------------------------------------------------------------


class Ready(_Frame, tag="ready"):
    v: int
    pid: int
    node: str


class HelloOk(_Frame, tag="hello_ok"):
    v: int
    clock: float


class Pong(_Frame, tag="pong"):
    """`rss` and `heap` in bytes; `handles`: timers, sockets and pipes that Node holds; `vitals`: of links whose
    signs of life changed since the last pong.
    """

    n: int
    rss: int
    heap: int
    handles: int
    links: int
    clock: float
    vitals: list[VitalsRow]


class Log(_Frame, tag="log"):
    """A line for the log: constant texts, masked on the other end."""

    level: str
    text: str


class Read(LinkFrame, tag="read"):
    q: int
    names: list[tuple[str, str]]


class Write(LinkFrame, tag="write"):
    q: int
    changes: list[KeyChange]


class NeedMessage(LinkFrame, tag="need_message"):
    """A device wants this message of ours again, and the side process no longer has it."""

    q: int
    id: str


class NeedPoll(LinkFrame, tag="need_poll"):
    """A vote came on the poll of that message id."""

    q: int
    id: str


class Sent(LinkFrame, tag="sent"):
    """What became of a send. `outcome`: acked, refused, not_started or uncertain."""

    id: str
    outcome: str
    code: int | None = None
    reason: str | None = None
    permanent: bool = False
    link_lost: bool = False


class Told(LinkFrame, tag="told"):
    """The answer to the `typing` or `exists` of that number."""

    n: int
    value: bool | None


class Probed(LinkFrame, tag="probed"):
    """The answer to the `probe` of that number."""

    n: int
    logged_in: bool
    answered: bool


class Pairing(LinkFrame, tag="pairing"):
    """The answer to the `pair` of that number: a code, or why there is none."""

    n: int
    code: str | None
    ttl_ms: float
    reason: str | None


class Fetched(LinkFrame, tag="fetched"):
    """The answer to the `fetch` of that number. `error` is null when the whole file lies at its path."""

    n: int
    error: str | None
    size: int
    sha256: str


class Presence(LinkFrame, tag="presence"):
    """Somebody is there, or types. `last_seen` in Unix seconds."""

    chat: str
    sender: str
    sender_phone: str | None
    sender_lid: str | None
    state: str
    last_seen: int | None


class MissedNow(LinkFrame, tag="missed"):
    """A message that could not be read. `at` in Unix seconds; `why` is a constant word."""

    id: str
    chat: str
    sender: str
    why: str
    at: int


class Mapping(LinkFrame, tag="mapping"):
    """The digits of a person's number and of their LID."""

    phone: str
    lid: str


class LateAck(LinkFrame, tag="acked"):
    """An ack that nobody waited for."""

    id: str
    error: int | None


class Receipt(LinkFrame, tag="receipt"):
    ids: list[str]
    kind: str
    chat: str
    at: int


class InboundMessage(LinkFrame, tag="inbound"):
    seq: int
    body: dict[str, Any]


class Identity(msgspec.Struct, kw_only=True):
    phone: str
    lid: str | None
    name: str | None


class Qr(LinkFrame, tag="qr"):
    text: str
    ttl_ms: float


class PairedNow(LinkFrame, tag="paired"):
    me: Identity


class OpenedNow(LinkFrame, tag="opened"):
    me: Identity
    polled: bool


class CaughtUpNow(LinkFrame, tag="caught_up"):
    """`announced` messages were to come out of the offline queue (null: the server did not say), `received` came."""

    offline_count: int
    announced: int | None
    received: int


class ClosedNow(LinkFrame, tag="closed"):
    """The last frame about a link. `stage`: unreached, reached or open."""

    cause: str | None
    code: int | None
    detail: str
    stage: str


ToEngine = (
    Hello
    | Ping
    | Open
    | Extend
    | Send
    | Typing
    | Exists
    | ProbeLink
    | Pair
    | InboundAck
    | Watch
    | Fetch
    | Logout
    | Close
    | Answer
)
AboutLink = (
    Read
    | Write
    | NeedMessage
    | NeedPoll
    | Sent
    | Told
    | Probed
    | Pairing
    | Fetched
    | LateAck
    | Receipt
    | InboundMessage
    | Presence
    | MissedNow
    | Mapping
    | Qr
    | PairedNow
    | OpenedNow
    | CaughtUpNow
    | ClosedNow
)
FromEngine = Ready | HelloOk | Pong | Log | AboutLink
