"""Groups: who is in them, what a client may ask and change, and who is told.

Members are named in the group's address space; the other address stands beside it (`phone_number` or `lid`). A change
is told to every device of every member, of those who were just added or removed too; who is added gets the whole
group in a `create` besides.
source: Baileys src/Socket/groups.ts (groupMetadata, groupFetchAllParticipating, groupCreate, groupParticipantsUpdate,
extractGroupMetadata), src/Socket/messages-recv.ts (handleGroupNotification); whatsmeow group.go (parseGroupNode,
parseGroupCreate, parseGroupChange), errors.go (403 not in the group, 404 no such group)
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence

from wahub.sandbox.model import LID_SERVER, PN_SERVER, Jid, RefusedError
from wahub.sandbox.network import persist
from wahub.sandbox.network.accounts import Account
from wahub.sandbox.network.core import Core
from wahub.sandbox.network.group import ADMIN, MEMBER, OWNER, Group
from wahub.sandbox.network.session import Session
from wahub.sandbox.node import Node

_RANKS = {"promote": ADMIN, "demote": MEMBER}
CHANGES = ("add", "remove", "promote", "demote")


def create(core: Core, subject: str, owner: Account, members: Sequence[Account], server: str) -> Group:
    """A new group; everybody in it is told."""
    _may_be_named(server, [owner, *members])
    group = Group(f"120363{secrets.randbelow(10**12):012d}", subject, owner.number, server, int(time.time()))
    group.members = {owner.number: OWNER} | {
        member.number: MEMBER for member in members if member.number != owner.number
    }
    core.groups[str(group.jid)] = group
    persist.save_group(core.store, group)
    tell(core, group, owner, Node("create", {"type": "new"}, [describe(core, group)]), group.members)
    return group


def change(core: Core, group: Group, actor: Account, action: str, members: Sequence[Account]) -> list[Account]:
    """Add, remove, promote or demote; those that it really changed. RefusedError 403 when the actor may not."""
    if not group.is_admin(actor.number) and not (action == "remove" and list(members) == [actor]):
        raise RefusedError(403, "by: only an admin of the group may do this")
    if action == "add":
        _may_be_named(group.server, members)
    changed = [member for member in members if (member.number in group.members) is (action != "add")]
    if not changed:
        return []
    told = list(dict.fromkeys([*group.members, *(member.number for member in changed)]))
    for member in changed:
        if action == "remove":
            del group.members[member.number]
        else:
            group.members[member.number] = _RANKS.get(action, MEMBER)
    persist.save_group(core.store, group)
    if action == "add":
        tell(core, group, actor, Node("create", {}, [describe(core, group)]), [one.number for one in changed])
    names = [_participant(group, member, group.members.get(member.number, MEMBER)) for member in changed]
    tell(core, group, actor, Node(action, {}, [*names]), told)
    return changed


def _may_be_named(server: str, members: Iterable[Account]) -> None:
    if server == PN_SERVER and any(member.hidden for member in members):
        raise RefusedError(409, "members: who is known by LID alone cannot be in a group that names numbers")


def rename(core: Core, group: Group, actor: Account, subject: str) -> None:
    """A new subject. RefusedError 403 when the actor is no admin."""
    if not group.is_admin(actor.number):
        raise RefusedError(403, "by: only an admin of the group may do this")
    group.subject = subject
    persist.save_group(core.store, group)
    attrs = {"subject": subject, "s_t": core.now(), "s_o": actor.jid(0, group.server)}
    tell(core, group, actor, Node("subject", attrs), group.members)


def tell(core: Core, group: Group, actor: Account, what: Node, numbers: Iterable[str]) -> None:
    """A `w:gp2` notification for every device of these accounts."""
    attrs = {
        "from": str(group.jid),
        "type": "w:gp2",
        "id": core.stanza_id(),
        "t": core.now(),
        "participant": actor.jid(0, group.server),
        "addressing_mode": "lid" if group.server == LID_SERVER else "pn",
        "notify": actor.push_name,
    }
    if (other := actor.other_jid(group.server)) is not None:
        attrs["participant_lid" if group.server == PN_SERVER else "participant_pn"] = other
    for number in list(numbers):
        account = core.registry.by_number.get(number)
        for device in (0, *account.devices) if account is not None else ():
            assert account is not None
            core.deliver(account, device, Node("notification", dict(attrs), [what]))


def describe(core: Core, group: Group) -> Node:
    """The `group` node: everything a client may know."""
    members = [
        _participant(group, core.registry.by_number[number], rank)
        for number, rank in group.members.items()
        if number in core.registry.by_number
    ]
    owner = core.registry.by_number[group.owner]
    creator = {"creator": owner.jid(0, group.server), "s_o": owner.jid(0, group.server)}
    attrs = {
        "id": group.id,
        "subject": group.subject,
        "creation": str(group.created),
        "s_t": str(group.created),
        "size": str(len(members)),
        "addressing_mode": "lid" if group.server == LID_SERVER else "pn",
    }
    return Node("group", attrs | creator, [*members])


def _participant(group: Group, member: Account, rank: str) -> Node:
    attrs = {"jid": member.jid(0, group.server)}
    if (other := member.other_jid(group.server)) is not None:
        attrs["lid" if group.server == PN_SERVER else "phone_number"] = other
    if rank:
        attrs["type"] = rank
    return Node("participant", attrs)


def get_query(core: Core, session: Session, query: Node) -> None:
    """`w:g2` get: one group (`query`), or all that the account is in (`participating`)."""
    assert session.account is not None
    number = session.account.number
    if query.child("participating") is not None:
        mine = [describe(core, group) for group in core.groups.values() if number in group.members]
        session.result(query, Node("groups", {}, [*mine]))
        return
    if query.child("query") is None:
        core.stats.unknown_query(f"w:g2 get {query.children[0].tag if query.children else ''}")
        session.error(query, 501, "feature-not-implemented")
        return
    group = _group_of(core, session, query)
    if group is not None:
        session.result(query, describe(core, group))


def set_query(core: Core, session: Session, query: Node) -> None:
    """`w:g2` set: create, add, remove, promote, demote, subject and leave."""
    account = session.account
    assert account is not None
    what = query.children[0] if query.children else Node("")
    try:
        if what.tag == "create":
            members = _named(core, what)
            group = create(core, what.attrs.get("subject", ""), account, members, LID_SERVER)
            session.result(query, describe(core, group))
        elif what.tag == "leave":
            _leave(core, session, query, account, what)
        elif what.tag in CHANGES or what.tag == "subject":
            _change_one(core, session, query, account, what)
        else:
            core.stats.unknown_query(f"w:g2 set {what.tag}")
            session.error(query, 501, "feature-not-implemented")
    except RefusedError as refused:
        session.error(query, refused.status, "forbidden")


def _change_one(core: Core, session: Session, query: Node, account: Account, what: Node) -> None:
    group = _group_of(core, session, query)
    if group is None:
        return
    if what.tag == "subject":
        rename(core, group, account, what.data.decode(errors="replace"))
        session.result(query)
        return
    asked = [node.attrs.get("jid", "") for node in what.find("participant")]
    found = {address: _account(core, address) for address in asked}
    changed = change(core, group, account, what.tag, [one for one in found.values() if one is not None])
    answers = []
    for address, one in found.items():
        code = "404" if one is None else "409" if one not in changed else None
        answers.append(Node("participant", {"jid": address} | ({} if code is None else {"error": code})))
    session.result(query, Node(what.tag, {}, [*answers]))


def _leave(core: Core, session: Session, query: Node, account: Account, what: Node) -> None:
    for named in what.find("group"):
        group = core.groups.get(named.attrs.get("id", ""))
        if group is not None and account.number in group.members:
            change(core, group, account, "remove", [account])
    session.result(query)


def _group_of(core: Core, session: Session, query: Node) -> Group | None:
    """The group that a query is sent to; None after refusing it."""
    assert session.account is not None
    group = core.groups.get(query.attrs.get("to", ""))
    if group is None:
        session.error(query, 404, "item-not-found")
        return None
    if session.account.number not in group.members:
        session.error(query, 403, "forbidden")
        return None
    return group


def _named(core: Core, parent: Node) -> list[Account]:
    found: Callable[[Node], Account | None] = lambda node: _account(core, node.attrs.get("jid", ""))  # noqa: E731
    return [account for account in map(found, parent.find("participant")) if account is not None]


def _account(core: Core, address: str) -> Account | None:
    try:
        return core.account_of(Jid.parse(address))
    except ValueError:
        return None


def as_json(core: Core, group: Group) -> dict[str, object]:
    """The shape of `GET /control/groups`."""
    members = [
        {"number": number, "lid": f"{core.registry.by_number[number].lid}@lid", "admin": bool(rank)}
        for number, rank in group.members.items()
    ]
    mode = "lid" if group.server == LID_SERVER else "pn"
    described = {"id": str(group.jid), "subject": group.subject, "owner": group.owner, "addressing": mode}
    return {**described, "members": members}
