"""`encrypt` queries: companions upload public keys, senders fetch bundles. A one-time prekey is handed out once.

source: Baileys src/Utils/signal.ts (getNextPreKeysNode, parseAndInjectE2ESessions), src/Socket/socket.ts (count,
digest, rotate), src/Socket/messages-recv.ts (handleEncryptNotification); whatsmeow prekeys.go
"""

from __future__ import annotations

from wahub.sandbox.model import Jid, KeyBundle, RefusedError
from wahub.sandbox.network import persist
from wahub.sandbox.network.accounts import Account, Device, SignedPreKey
from wahub.sandbox.network.core import SERVER, Core
from wahub.sandbox.network.session import Session
from wahub.sandbox.node import Node
from wahub.sandbox.signal.curve import KEY_TYPE, verify, with_type

LOW_PREKEYS = 5
"""Fewer than this: the server asks for more (clients answer below 5)."""


def get_query(core: Core, session: Session, query: Node) -> None:
    """`encrypt` get: `count`, `digest` or `key`."""
    assert session.device is not None
    if query.child("count") is not None:
        session.result(query, Node("count", {"value": str(len(session.device.prekeys))}))
    elif query.child("digest") is not None:
        _digest(session, query)
    else:
        _bundles(core, session, query)


def set_query(core: Core, session: Session, query: Node) -> None:
    """`encrypt` set: `rotate` or an upload."""
    rotate = query.child("rotate")
    if rotate is not None:
        _take_signed_prekey(core, session, query, rotate)
    else:
        _upload(core, session, query)


def take_bundle(core: Core, account: Account, device_id: int) -> KeyBundle:
    """Public keys of a device; uses up a one-time prekey. RefusedError 404 when the device is unknown."""
    if device_id == 0 and account.phone is not None:
        return account.phone.key_bundle()
    device = account.devices.get(device_id)
    if device is None:
        raise RefusedError(404, "no such device")
    prekey_id, prekey = _spend_prekey(core, account, device)
    signed = device.signed_prekey
    return KeyBundle(
        registration_id=device.registration_id,
        identity=device.identity,
        signed_prekey_id=signed.id,
        signed_prekey=signed.public,
        signed_prekey_signature=signed.signature,
        prekey_id=prekey_id,
        prekey=prekey,
    )


def _spend_prekey(core: Core, account: Account, device: Device) -> tuple[int | None, bytes | None]:
    if not device.prekeys:
        return None, None
    prekey_id = next(iter(device.prekeys))
    public = device.prekeys.pop(prekey_id)
    device.spent.add(prekey_id)
    persist.save_prekey(core.store, account, device, prekey_id, b"")
    if len(device.prekeys) < LOW_PREKEYS and not device.low_prekeys_told:
        device.low_prekeys_told = True
        attrs = {"from": SERVER, "type": "encrypt", "id": core.stanza_id(), "t": core.now()}
        count = Node("count", {"value": str(len(device.prekeys))})
        core.deliver(account, device.id, Node("notification", attrs, [count]))
    return prekey_id, public


def _bundles(core: Core, session: Session, query: Node) -> None:
    key = query.child("key")
    if key is None:
        session.error(query, 400, "bad-request")
        return
    users = [_user(core, session, user.attrs.get("jid", "")) for user in key.find("user")]
    session.result(query, Node("list", {}, users))


def _user(core: Core, session: Session, address: str) -> Node:
    account = None
    try:
        jid = Jid.parse(address)
        account = core.account_of(jid)
        if account is None:
            raise RefusedError(404, "no such account")
        bundle = take_bundle(core, account, jid.device)
    except (ValueError, RefusedError):
        if account is None or not account.was_device(jid.device):
            session.violation("recipient", "keys of an unknown device were asked for")
        return Node("user", {"jid": address}, [Node("error", {"code": "404", "text": "item-not-found"})])
    children = [
        Node("registration", {}, bundle.registration_id.to_bytes(4, "big")),
        Node("type", {}, KEY_TYPE),
        Node("identity", {}, bundle.identity),
        _signed_prekey(SignedPreKey(bundle.signed_prekey_id, bundle.signed_prekey, bundle.signed_prekey_signature)),
    ]
    if bundle.prekey_id is not None and bundle.prekey is not None:
        children.append(
            Node("key", {}, [Node("id", {}, bundle.prekey_id.to_bytes(3, "big")), Node("value", {}, bundle.prekey)])
        )
    if jid.device:
        children.append(Node("device-identity", {}, account.devices[jid.device].device_identity))
    return Node("user", {"jid": address, "t": core.now()}, children)


def _signed_prekey(key: SignedPreKey) -> Node:
    children = [
        Node("id", {}, key.id.to_bytes(3, "big")),
        Node("value", {}, key.public),
        Node("signature", {}, key.signature),
    ]
    return Node("skey", {}, children)


def _digest(session: Session, query: Node) -> None:
    device = session.device
    assert device is not None
    if not device.prekeys:
        session.error(query, 404, "item-not-found")
        return
    ids = [Node("id", {}, prekey_id.to_bytes(3, "big")) for prekey_id in device.prekeys]
    children = [
        Node("registration", {}, device.registration_id.to_bytes(4, "big")),
        Node("type", {}, KEY_TYPE),
        Node("identity", {}, device.identity),
        _signed_prekey(device.signed_prekey),
        Node("list", {}, ids),
    ]
    session.result(query, Node("digest", {}, children))


def _take_signed_prekey(core: Core, session: Session, query: Node, parent: Node) -> bool:
    """Store the `skey` below `parent` and answer; on a bad one refuse and answer False."""
    account, device = session.account, session.device
    assert account is not None and device is not None
    skey = parent.child("skey")
    parts = {child.tag: child.data for child in skey.children} if skey is not None else {}
    public, signature = parts.get("value", b""), parts.get("signature", b"")
    if len(public) != 32 or not verify(device.identity, with_type(public), signature):
        session.violation("prekeys", "signed prekey does not verify")
        session.error(query, 400, "bad-request")
        return False
    device.signed_prekey = SignedPreKey(int.from_bytes(parts.get("id", b""), "big"), public, signature)
    persist.save_device(core.store, account, device)
    session.result(query)
    return True


def _upload(core: Core, session: Session, query: Node) -> None:
    account, device = session.account, session.device
    assert account is not None and device is not None
    identity, keys = query.child("identity"), query.child("list")
    if identity is None or identity.data != device.identity or keys is None:
        session.violation("prekeys", "upload with another identity key")
        session.error(query, 400, "bad-request")
        return
    fresh = {}
    for key in keys.find("key"):
        parts = {child.tag: child.data for child in key.children}
        prekey_id, public = int.from_bytes(parts.get("id", b""), "big"), parts.get("value", b"")
        if len(public) != 32 or prekey_id in device.spent:
            session.violation("prekeys", "a one-time prekey was uploaded again or is malformed")
            session.error(query, 406, "not-acceptable")
            return
        fresh[prekey_id] = public
    if not _take_signed_prekey(core, session, query, query):
        return
    device.prekeys.update(fresh)
    device.low_prekeys_told = False
    for prekey_id, public in fresh.items():
        persist.save_prekey(core.store, account, device, prekey_id, public)
