"""Linking a companion by a code: the server between a client that shows the code and a phone where it is typed.

Order: the client registers as for a QR code and sends `companion_hello` with its wrapped key for a number; the server
answers with a reference and tells the phone; the phone hands in its own wrapped key, which goes to the client as the
notification `primary_hello`; the client answers `companion_finish` with its key bundle, which the phone opens; then
`pair-success` as after a scan. The server never sees the code nor any secret.

The request ends with the references of its registration: 160 s after the client connected (source: whatsmeow
pair-code.go, PairPhone). A display name other than `Browser (OS)` of known names is refused with 400 (source: the same;
Baileys pull request 2769, measured against the real server). Inferred: which names are known, from those that were seen
to work; that the newest of several requests for one number counts, since a phone shows one.
source: Baileys src/Socket/socket.ts, messages-recv.ts; whatsmeow pair-code.go
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from dataclasses import dataclass

from wahub.sandbox.model import AccountSigner, CodeRequest, Jid, PairingRequest, RefusedError
from wahub.sandbox.network import pairing
from wahub.sandbox.network.accounts import Account
from wahub.sandbox.network.core import SERVER, Core
from wahub.sandbox.network.session import Session
from wahub.sandbox.node import Node

ANSWER_SECONDS = 15
"""How long a phone waits for the client's answer."""

_TAG = "link_code_companion_reg"
_WRAPPED_KEY_BYTES = 80
_KEY_BUNDLE_BYTES = 156
_PLATFORMS = frozenset("0123456789ce")
_DISPLAY_NAME = re.compile(r"(Chrome|Edge|Firefox|IE|Opera|Safari) \((Windows|Mac OS|Linux|Ubuntu)\)")


@dataclass(slots=True)
class CodeTicket:
    """A client that waits for its code to be typed. `bundle` is there while a phone waits for the client's answer."""

    session: Session
    ref: str
    jid: str
    wrapped_key: bytes
    expires_at: float
    bundle: asyncio.Future[bytes] | None = None

    @property
    def expired(self) -> bool:
        """Whether the registration behind it ended or was used."""
        session = self.session
        return session.closed or session.registration is None or self.expires_at < time.monotonic()


def take_query(core: Core, session: Session, query: Node) -> None:
    """`link_code_companion_reg` from a client that has no account: `companion_hello` or `companion_finish`."""
    body = query.child(_TAG)
    assert body is not None
    stage = body.attrs.get("stage", "")
    if session.registration is None or stage not in ("companion_hello", "companion_finish"):
        _refuse(session, query, "a stage that is not in order")
    elif stage == "companion_hello":
        _hello(core, session, query, body)
    else:
        _finish(core, session, query, body)


def request_for(core: Core, account: Account) -> CodeRequest:
    """What a phone needs to answer the newest request for its number. RefusedError 409 when none waits."""
    ticket = _waiting(core, account, None)
    return CodeRequest(ticket.ref, ticket.wrapped_key)


async def answer(core: Core, account: Account, ref: str, wrapped_key: bytes, identity: bytes) -> tuple[bytes, bytes]:
    """Hand a phone's wrapped key to the client; the client's key bundle and its identity key.

    RefusedError 409 when the request ended, another answer is under way, or the client does not answer.
    """
    ticket = _waiting(core, account, ref)
    if ticket.bundle is not None:
        raise RefusedError(409, "a code is being tried already; wait for its answer")
    registration = ticket.session.registration
    assert registration is not None
    ticket.bundle = asyncio.get_running_loop().create_future()
    ticket.session.send(_primary_hello(core, ticket, wrapped_key, identity))
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await ticket.bundle, registration.identity
    except TimeoutError as error:
        raise RefusedError(409, "the client did not answer; let it show a new code") from error
    finally:
        ticket.bundle = None


def pair(core: Core, account: Account, ref: str, adv_secret: bytes, signer: AccountSigner) -> int:
    """The code was right: link the client as after a scan; its device id. RefusedError 409 when it is gone."""
    ticket = _waiting(core, account, ref)
    registration = ticket.session.registration
    assert registration is not None
    request = PairingRequest(ref, registration.noise_key, registration.identity, adv_secret)
    return pairing.link(core, account, ticket.session, request, signer)


def forget(core: Core, session: Session) -> None:
    """The request of a session is worth nothing any more."""
    for number in [number for number, ticket in core.codes.items() if ticket.session is session]:
        _drop(core.codes.pop(number))


def _hello(core: Core, session: Session, query: Node, body: Node) -> None:
    problem = _problem(session, body)
    if problem is not None:
        _refuse(session, query, problem)
        return
    try:
        account = core.account_of(Jid.parse(body.attrs.get("jid", "")))
    except ValueError:
        account = None
    if account is None:
        session.error(query, 404, "item-not-found")
        return
    forget(core, session)
    former = core.codes.pop(account.number, None)
    if former is not None:
        _drop(former)
    ref = secrets.token_urlsafe(24)
    wrapped_key = _data(body, "link_code_pairing_wrapped_companion_ephemeral_pub")
    core.codes[account.number] = CodeTicket(session, ref, body.attrs["jid"], wrapped_key, session.pairing_until)
    core.stats.codes_asked += 1
    session.result(query, Node(_TAG, {"stage": "companion_hello"}, [Node("link_code_pairing_ref", {}, ref.encode())]))


def _problem(session: Session, body: Node) -> str | None:
    """What the real server would refuse in a `companion_hello`; None when it is in order."""
    assert session.registration is not None
    if len(_data(body, "link_code_pairing_wrapped_companion_ephemeral_pub")) != _WRAPPED_KEY_BYTES:
        return "the wrapped key of a pairing code is not 80 bytes"
    if _data(body, "companion_server_auth_key_pub") != session.registration.noise_key:
        return "a pairing code for another Noise key"
    if _data(body, "companion_platform_id").decode(errors="replace") not in _PLATFORMS:
        return "a pairing code for an unknown platform"
    if not _DISPLAY_NAME.fullmatch(_data(body, "companion_platform_display").decode(errors="replace")):
        return "a pairing code whose display name is not `Browser (OS)` with known names"
    return None


def _finish(core: Core, session: Session, query: Node, body: Node) -> None:
    ticket = next((ticket for ticket in core.codes.values() if ticket.session is session), None)
    ref = _data(body, "link_code_pairing_ref").decode(errors="replace")
    if ticket is None or ref != ticket.ref or body.attrs.get("jid") != ticket.jid:
        _refuse(session, query, "companion_finish without its companion_hello")
        return
    assert session.registration is not None
    bundle = _data(body, "link_code_pairing_wrapped_key_bundle")
    if len(bundle) != _KEY_BUNDLE_BYTES or _data(body, "companion_identity_public") != session.registration.identity:
        _refuse(session, query, "companion_finish with other keys than were registered")
        return
    if ticket.bundle is None or ticket.bundle.done():
        _refuse(session, query, "companion_finish that no phone waits for")
        return
    session.result(query)
    ticket.bundle.set_result(bundle)


def _primary_hello(core: Core, ticket: CodeTicket, wrapped_key: bytes, identity: bytes) -> Node:
    parts = {
        "link_code_pairing_wrapped_primary_ephemeral_pub": wrapped_key,
        "primary_identity_pub": identity,
        "link_code_pairing_ref": ticket.ref.encode(),
    }
    body = Node(_TAG, {"stage": "primary_hello"}, [Node(tag, {}, data) for tag, data in parts.items()])
    return Node("notification", {"from": SERVER, "type": _TAG, "id": core.stanza_id(), "t": core.now()}, [body])


def _waiting(core: Core, account: Account, ref: str | None) -> CodeTicket:
    ticket = core.codes.get(account.number)
    if ticket is None or ticket.expired or ref not in (None, ticket.ref):
        raise RefusedError(409, "code: no client waits for one with this number; it expired or was used, get a new one")
    return ticket


def _drop(ticket: CodeTicket) -> None:
    if ticket.bundle is not None and not ticket.bundle.done():
        ticket.bundle.set_exception(RefusedError(409, "the client went away or asked for a new code; get a new one"))


def _refuse(session: Session, query: Node, detail: str) -> None:
    session.violation("pairing_code", detail)
    session.error(query, 400, "bad-request")


def _data(body: Node, tag: str) -> bytes:
    child = body.child(tag)
    return child.data if child is not None else b""
