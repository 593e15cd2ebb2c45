"""How accounts, devices, keys and mail become rows of the state file, and come back."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from wahub.sandbox.network.accounts import Account, Device, SignedPreKey
from wahub.sandbox.network.group import Group
from wahub.sandbox.network.store import Store
from wahub.sandbox.wire.nodes import decode_node

if TYPE_CHECKING:
    from wahub.sandbox.network.core import Core

SEED = "server/seed"


def saved_seed(store: Store) -> str | None:
    """The seed of the file, if one was saved."""
    return next((value.decode() for _, value in store.rows(SEED)), None)


def save_seed(store: Store, seed: str) -> None:
    """Keep the seed, so that a restart has the same trust root."""
    store.put(SEED, seed.encode())


def save_account(store: Store, account: Account) -> None:
    """Write an account, without its devices."""
    if store.durable:
        values = [
            account.lid,
            account.push_name,
            account.business,
            account.raw_id,
            account.phone_online,
            account.next_device,
            sorted(account.peers),
            account.hidden,
            account.lid_hidden,
        ]
        store.put_values(f"account/{account.number}", values)


def save_group(store: Store, group: Group) -> None:
    """Write a group."""
    if store.durable:
        values = [group.subject, group.owner, group.server, group.created, list(group.members.items())]
        store.put_values(f"group/{group.id}", values)


def save_device(store: Store, account: Account, device: Device) -> None:
    """Write a device, without its one-time prekeys and mail."""
    if store.durable:
        values = [
            device.platform,
            device.noise_key,
            device.identity,
            device.registration_id,
            [device.signed_prekey.id, device.signed_prekey.public, device.signed_prekey.signature],
            device.device_identity,
            device.paired_at,
            device.last_seen_at,
        ]
        store.put_values(f"device/{account.number}/{device.id}", values)


def save_prekey(store: Store, account: Account, device: Device, prekey_id: int, public: bytes) -> None:
    """Write a one-time prekey; empty bytes mark one that was handed out."""
    if store.durable:
        store.put(f"prekey/{account.number}/{device.id}/{prekey_id:08d}", public)


def forget_device(store: Store, account: Account, device: Device) -> None:
    """Remove a device with all that belongs to it; its Noise key stays known as revoked."""
    if store.durable:
        store.delete(f"device/{account.number}/{device.id}")
        store.delete_below(f"prekey/{account.number}/{device.id}/")
        store.delete_below(f"mail/{account.number}/{device.id}/")
        store.put(f"revoked/{device.noise_key.hex()}", b"")


def forget_everything(store: Store) -> None:
    """Remove all rows but the seed."""
    if store.durable:
        for prefix in ("account/", "device/", "prekey/", "mail/", "revoked/", "group/"):
            store.delete_below(prefix)


def load(core: Core) -> None:
    """Fill the registry from the state file. Phones attach themselves later."""
    store = core.store
    for number, values in store.values("account/"):
        lid, push_name, business, raw_id, online, next_device, peers, *rest = values
        hidden, lid_hidden = [*map(bool, rest), False, False][:2]
        account = Account(number, lid, push_name, business, raw_id, hidden=hidden, lid_hidden=lid_hidden)
        account.phone_online, account.next_device, account.peers = online, next_device, set(peers)
        core.registry.add(account)
    for rest, values in store.values("device/"):
        number, device_id = rest.split("/")
        platform, noise_key, identity, registration_id, signed, device_identity, paired_at, last_seen = values
        device = Device(
            int(device_id),
            platform,
            noise_key,
            identity,
            registration_id,
            SignedPreKey(*signed),
            device_identity,
            paired_at,
            last_seen,
        )
        core.registry.by_number[number].devices[device.id] = device
    for group_id, (subject, owner, server, created, members) in store.values("group/"):
        group = Group(group_id, subject, owner, server, created, dict(members))
        core.groups[str(group.jid)] = group
    _load_prekeys(core)
    _load_mail(core)
    core.registry.revoked.update(bytes.fromhex(key) for key, _ in store.rows("revoked/"))


def _load_prekeys(core: Core) -> None:
    for rest, public in core.store.rows("prekey/"):
        number, device_id, prekey_id = rest.split("/")
        device = core.registry.by_number[number].devices[int(device_id)]
        if public:
            device.prekeys[int(prekey_id)] = public
        else:
            device.spent.add(int(prekey_id))


def _load_mail(core: Core) -> None:
    last = 0
    for rest, encoded in core.store.rows("mail/"):
        number, device_id, sequence = rest.split("/")
        account = core.registry.by_number[number]
        mailbox = account.phone_mailbox if device_id == "0" else account.devices[int(device_id)].mailbox
        mailbox.add(int(sequence), decode_node(encoded))
        last = max(last, int(sequence))
    core.mail_sequence = itertools.count(last + 1)
