"""Small queries that a client makes at login or on the side, answered as for an account with nothing in it.

source: Baileys src/Socket/chats.ts, messages-send.ts (media_conn, privacy tokens), mex.ts, groups.ts, business.ts
"""

from __future__ import annotations

import json

from wahub.sandbox.network.core import Core
from wahub.sandbox.network.session import Session
from wahub.sandbox.node import Node

_PRIVACY = {
    "readreceipts": "all",
    "profile": "all",
    "status": "all",
    "online": "all",
    "last": "all",
    "groupadd": "all",
    "calladd": "all",
    "messages": "all",
}
_MEDIA_TTL_SECONDS = 3600
_MEDIA_MAX_BYTES = 100 * 1024 * 1024
_MEX_ANSWERS = {
    "23983697327930364": {"xwa2_fetch_account_reachout_timelock": {"is_active": False}},
    "24503548349331633": {"xwa2_message_capping_info": {"capping_status": "NONE"}},
}
"""By query id (source: Baileys src/Types/Mex.ts): no outreach lock, no cap on new chats."""


def done(_core: Core, session: Session, query: Node) -> None:
    """Accepted, nothing to say."""
    session.result(query)


def props(_core: Core, session: Session, query: Node) -> None:
    """`abt` props: no experiment is switched on."""
    session.result(query, Node("props", {"protocol": "1", "hash": "sandbox", "refresh": "86400", "refresh_id": "1"}))


def privacy(_core: Core, session: Session, query: Node) -> None:
    """`privacy` get: everything is open."""
    categories = [Node("category", {"name": name, "value": value}) for name, value in _PRIVACY.items()]
    session.result(query, Node("privacy", {}, list(categories)))


def privacy_set(_core: Core, session: Session, query: Node) -> None:
    """`privacy` set: settings and trusted-contact tokens are accepted and not used."""
    session.result(query, *(() if query.child("tokens") is None else (Node("tokens"),)))


def blocklist(_core: Core, session: Session, query: Node) -> None:
    """`blocklist`: nobody is blocked."""
    session.result(query, Node("list", {"dhash": "0"}))


def app_state(_core: Core, session: Session, query: Node) -> None:
    """`w:sync:app:state`: every collection is empty and up to date."""
    sync = query.child("sync")
    asked = list(sync.find("collection")) if sync is not None else []
    collections = [
        Node("collection", {"name": item.attrs.get("name", ""), "version": item.attrs.get("version", "0")})
        for item in asked
    ]
    session.result(query, Node("sync", {}, list(collections)))


def media_conn(core: Core, session: Session, query: Node) -> None:
    """`w:m`: where to upload media; the host is this sandbox's TLS port."""
    host = Node("host", {"hostname": core.media.host, "maxContentLengthBytes": str(_MEDIA_MAX_BYTES)})
    ttl = str(_MEDIA_TTL_SECONDS)
    attrs = {"auth": "sandbox", "ttl": ttl, "auth_ttl": ttl, "max_buckets": "12"}
    session.result(query, Node("media_conn", attrs, [host]))


def not_found(_core: Core, session: Session, query: Node) -> None:
    """There is no such thing (a profile picture)."""
    session.error(query, 404, "item-not-found")


def business(_core: Core, session: Session, query: Node) -> None:
    """`w:biz` get: no business profile."""
    session.result(query, Node("business_profile", {}, []))


def bots(_core: Core, session: Session, query: Node) -> None:
    """`bot`: none."""
    session.result(query, Node("bot", {}, []))


def mex(core: Core, session: Session, query: Node) -> None:
    """`w:mex`: GraphQL by query id; an id without an answer gets null data and is listed as unknown."""
    asked = query.child("query")
    query_id = asked.attrs.get("query_id", "") if asked is not None else ""
    if query_id not in _MEX_ANSWERS:
        core.stats.unknown_query(f"w:mex {query_id}")
    data = {"data": _MEX_ANSWERS.get(query_id)}
    session.result(query, Node("result", {}, json.dumps(data).encode()))
