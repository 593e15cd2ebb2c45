"""Linking a companion by QR: references, `pair-success`, the check of the device's signature, the 515 restart.

Order: the server sends six references; the client shows them one after the other (the first for 60 s, the others for
20 s each, or as `PairingTimes` say); a phone scans one and calls `pair`; the server sends `pair-success` with the
phone's signature, sealed by the secret of the QR code; the client answers with its own signature; only when that
verifies is the device linked. Then the server ends the stream with 515 and the client logs in.
source: Baileys src/Utils/validate-connection.ts, src/Socket/socket.ts (pair-device, pair-success); whatsmeow pair.go
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from wahub.sandbox.model import LID_SERVER, AccountSigner, PairingRequest, RefusedError
from wahub.sandbox.network import companions, persist
from wahub.sandbox.network.accounts import MAX_DEVICE_ID, Account, Device, SignedPreKey
from wahub.sandbox.network.core import SERVER, Core
from wahub.sandbox.network.session import Session
from wahub.sandbox.node import Node
from wahub.sandbox.proto.adv_pb2 import E2EE, AdvDeviceIdentity, AdvSignedDeviceIdentity, AdvSignedDeviceIdentityHmac
from wahub.sandbox.proto.payload_pb2 import DevicePairingData, DeviceProps
from wahub.sandbox.signal.curve import verify, with_type

REFERENCES = 6

ACCOUNT_SIGNATURE_PREFIX = b"\x06\x00"
DEVICE_SIGNATURE_PREFIX = b"\x06\x01"

_RESTART_REQUIRED = 515


@dataclass(frozen=True, slots=True)
class Registration:
    """The public keys a client registers with; raw keys."""

    noise_key: bytes
    identity: bytes
    registration_id: int
    signed_prekey: SignedPreKey
    platform: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a reference stands for."""

    session: Session
    expires_at: float


def register(core: Core, session: Session, noise_key: bytes, data: DevicePairingData) -> None:
    """A client without an account: check its keys, then offer references until they run out."""
    registration = _read_registration(noise_key, data)
    if registration is None:
        session.violation("registration", "signed prekey does not verify")
        session.fail(400)
        return
    references = [secrets.token_urlsafe(24) for _ in range(REFERENCES)]
    times = core.pairing_times
    grace = times.grace_seconds
    expires_at = time.monotonic() + times.first_seconds + grace
    for reference in references:
        core.tickets[reference] = Ticket(session, expires_at)
        session.pairing_until = expires_at
        expires_at += times.next_seconds
    session.registration = registration
    core.stats.qr_shown += 1
    lifetime = times.first_seconds + (REFERENCES - 1) * times.next_seconds + 2 * grace
    asyncio.get_running_loop().call_later(lifetime, _give_up, core, session)
    children = [Node("ref", {}, reference.encode()) for reference in references]
    session.send(_set(core, Node("pair-device", {}, list(children))))


def forget_references(core: Core, session: Session) -> None:
    """The references of a session are worth nothing any more."""
    for reference in [ref for ref, ticket in core.tickets.items() if ticket.session is session]:
        del core.tickets[reference]


def pair(core: Core, account: Account, request: PairingRequest, signer: AccountSigner) -> int:
    """The person scanned a code: sign for the companion and send `pair-success`. Returns the new device id."""
    ticket = core.tickets.get(request.ref)
    if ticket is None or ticket.session.closed or ticket.expires_at < time.monotonic():
        raise RefusedError(409, "the QR code is expired or was used; let the gateway show a new one")
    registration = ticket.session.registration
    assert registration is not None
    if request.noise_key != registration.noise_key or request.identity_key != registration.identity:
        raise RefusedError(400, "the QR code does not show the keys that this client registered")
    return link(core, account, ticket.session, request, signer)


def link(core: Core, account: Account, session: Session, request: PairingRequest, signer: AccountSigner) -> int:
    """Sign for the companion behind a registered session and send `pair-success`. Returns the new device id.

    A registration is good once: whatever else would link by it (other references, a code) is used up with it.
    """
    registration = session.registration
    assert registration is not None
    if account.next_device > MAX_DEVICE_ID:
        raise RefusedError(409, "the account has used up its device ids; create another phone")
    device_id = account.next_device
    account.next_device += 1
    persist.save_account(core.store, account)
    forget_references(core, session)
    session.registration = None
    signed = _sign(account, device_id, registration, signer)
    sealed = signed.SerializeToString()
    container = AdvSignedDeviceIdentityHmac(details=sealed, hmac=hmac.digest(request.adv_secret, sealed, "sha256"))
    stanza = _success(core, account, device_id, container)
    session.replies[stanza.attrs["id"]] = lambda reply: _finish(
        core, session, account, device_id, registration, signed, reply
    )
    session.send(stanza)
    return device_id


def _read_registration(noise_key: bytes, data: DevicePairingData) -> Registration | None:
    signed_prekey = SignedPreKey(
        int.from_bytes(data.signed_prekey_id, "big"), data.signed_prekey, data.signed_prekey_signature
    )
    if len(data.identity_key) != 32 or len(signed_prekey.public) != 32:
        return None
    if not verify(data.identity_key, with_type(signed_prekey.public), signed_prekey.signature):
        return None
    try:
        props = DeviceProps.FromString(data.device_props)
        platform = DeviceProps.PlatformType.Name(props.platform_type).lower()
    except (DecodeError, ValueError):
        platform = "unknown"
    registration_id = int.from_bytes(data.registration_id, "big")
    return Registration(noise_key, data.identity_key, registration_id, signed_prekey, platform)


def _sign(
    account: Account, device_id: int, registration: Registration, signer: AccountSigner
) -> AdvSignedDeviceIdentity:
    details = AdvDeviceIdentity(
        raw_id=account.raw_id, timestamp=int(time.time()), key_index=device_id, account_type=E2EE, device_type=E2EE
    ).SerializeToString()
    signature = signer.sign(ACCOUNT_SIGNATURE_PREFIX + details + registration.identity)
    return AdvSignedDeviceIdentity(
        details=details, account_signature_key=signer.identity_public, account_signature=signature
    )


def _success(core: Core, account: Account, device_id: int, container: AdvSignedDeviceIdentityHmac) -> Node:
    addresses = {"jid": account.jid(device_id), "lid": account.jid(device_id, LID_SERVER)}
    children = [Node("device-identity", {}, container.SerializeToString()), Node("device", addresses)]
    if account.business:
        children.append(Node("biz", {"name": account.push_name}))
    children.append(Node("platform", {"name": "smba" if account.business else "android"}))
    return _set(core, Node("pair-success", {}, children))


def _finish(
    core: Core,
    session: Session,
    account: Account,
    device_id: int,
    registration: Registration,
    signed: AdvSignedDeviceIdentity,
    reply: Node,
) -> None:
    sign = reply.child("pair-device-sign")
    proof = sign.child("device-identity") if sign is not None else None
    signature = b"" if proof is None else _device_signature(proof.data)
    message = DEVICE_SIGNATURE_PREFIX + signed.details + registration.identity + signed.account_signature_key
    if not verify(registration.identity, message, signature):
        session.violation("pairing", "the companion's signature does not verify or it refused to pair")
        session.stream_error(401, Node("conflict", {"type": "device_removed"}))
        return
    device = Device(
        id=device_id,
        platform=registration.platform,
        noise_key=registration.noise_key,
        identity=registration.identity,
        registration_id=registration.registration_id,
        signed_prekey=registration.signed_prekey,
        device_identity=AdvSignedDeviceIdentity(
            details=signed.details,
            account_signature_key=signed.account_signature_key,
            account_signature=signed.account_signature,
            device_signature=signature,
        ).SerializeToString(),
        paired_at=time.time(),
    )
    account.devices[device_id] = device
    core.registry.revoked.discard(device.noise_key)
    persist.save_device(core.store, account, device)
    companions.announce(core, account, "add", device_id)
    session.stream_error(_RESTART_REQUIRED)


def _device_signature(encoded: bytes) -> bytes:
    try:
        return AdvSignedDeviceIdentity.FromString(encoded).device_signature
    except DecodeError:
        return b""


def _set(core: Core, child: Node) -> Node:
    attrs = {"from": SERVER, "type": "set", "id": core.stanza_id(), "xmlns": "md", "t": core.now()}
    return Node("iq", attrs, [child])


def _give_up(core: Core, session: Session) -> None:
    forget_references(core, session)
    if session.device is None and not session.replies:
        session.close()
