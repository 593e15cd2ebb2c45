"""Key bundles as they travel in retry receipts.

Source: Baileys Socket/messages-recv (`sendRetryRequest`), Utils/signal (`extractE2ESessionFromRetryReceipt`);
ids are 3 bytes, the registration id 4, big endian; keys are raw 32 bytes.
"""

from __future__ import annotations

from wahub.sandbox.model import KeyBundle
from wahub.sandbox.node import Node
from wahub.sandbox.signal.curve import without_type
from wahub.sandbox.signal.errors import SignalError


def to_node(bundle: KeyBundle) -> Node:
    """The `keys` child of a retry receipt."""
    children = [Node("type", content=b"\x05"), Node("identity", content=bundle.identity)]
    if bundle.prekey is not None and bundle.prekey_id is not None:
        children.append(
            Node("key", content=[Node("id", content=_id(bundle.prekey_id)), Node("value", content=bundle.prekey)])
        )
    signed = [
        Node("id", content=_id(bundle.signed_prekey_id)),
        Node("value", content=bundle.signed_prekey),
        Node("signature", content=bundle.signed_prekey_signature),
    ]
    children.append(Node("skey", content=[*signed]))
    return Node("keys", content=[*children])


def from_receipt(receipt: Node) -> KeyBundle | None:
    """The bundle of a retry receipt; None when it has none or an incomplete one."""
    keys, registration = receipt.child("keys"), receipt.child("registration")
    if keys is None or registration is None:
        return None
    identity, signed, prekey = keys.child("identity"), keys.child("skey"), keys.child("key")
    if identity is None or signed is None:
        return None
    try:
        return KeyBundle(
            registration_id=int.from_bytes(registration.data, "big"),
            identity=without_type(identity.data),
            signed_prekey_id=int.from_bytes(_part(signed, "id"), "big"),
            signed_prekey=without_type(_part(signed, "value")),
            signed_prekey_signature=_part(signed, "signature"),
            prekey_id=None if prekey is None else int.from_bytes(_part(prekey, "id"), "big"),
            prekey=None if prekey is None else without_type(_part(prekey, "value")),
        )
    except (LookupError, SignalError):
        return None


def registration(number: int) -> Node:
    """The `registration` child of a retry receipt."""
    return Node("registration", content=number.to_bytes(4, "big"))


def _id(number: int) -> bytes:
    return number.to_bytes(3, "big")


def _part(node: Node, tag: str) -> bytes:
    child = node.child(tag)
    if child is None:
        raise LookupError(tag)
    return child.data
