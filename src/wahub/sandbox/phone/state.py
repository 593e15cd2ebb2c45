"""Everything a phone remembers, and how it is stored row by row.

Rows (keys start with `phone/<number>/`): `profile`, `online`, `moved`, `identity`, `session/<address>`,
`senderkey/<group>/<address, empty for our own>`, `inbox/<seq>` and `kept/<id>`.
Presence, counters and retry counts are not stored: after a restart they start anew, as on a phone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from wahub.sandbox.model import PN_SERVER, Jid
from wahub.sandbox.phone.inbox import SeenLog
from wahub.sandbox.phone.journal import Journal, decode, encode
from wahub.sandbox.signal.cipher import SignalStore
from wahub.sandbox.signal.groups import SenderKeys
from wahub.sandbox.signal.identity import Identity

MAX_KEPT = 2000


@dataclass(frozen=True, slots=True)
class Profile:
    """Who the person is: digits of number and LID, push name, and whether it is a business account.

    `hidden`: others know the person by the LID alone. `lid_hidden`: they are not told that number and LID are one
    person.
    """

    number: str
    lid: str
    name: str
    business: bool = False
    hidden: bool = False
    lid_hidden: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """A message the phone can still quote, react to, vote on or send again.

    `author` is number digits, `chat` number digits or the address of a group. `server` is the address space it
    travelled in: `s.whatsapp.net` or `lid`. `at` is Unix seconds, 0 when not known.
    """

    message_id: str
    chat: str
    author: str
    from_me: bool
    sent_here: bool
    stanza_type: str
    edit: str | None
    message: bytes
    server: str = PN_SERVER
    at: int = 0


class PhoneState:
    """The memory of one phone; every change goes through here so that it reaches the journal."""

    def __init__(self, profile: Profile, identity: Identity, journal: Journal | None = None) -> None:
        self.profile = profile
        self.online = True
        self.jid = Jid(profile.number, PN_SERVER)
        self.identity = identity
        self.sessions = SignalStore(identity)
        self.inbox: SeenLog[dict[str, Any]] = SeenLog()
        self.presence: SeenLog[dict[str, Any]] = SeenLog()
        self.seen_ids: set[tuple[str, str]] = set()
        self.kept: dict[str, Kept] = {}
        self.sender_keys = SenderKeys()
        self.moved: set[str] = set()
        self._journal = journal
        self._prefix = f"phone/{profile.number}/"
        if journal is not None:
            for key, value in self.dump().items():
                journal.put(key, value)
            journal.commit()

    def set_online(self, online: bool) -> None:
        """Switch the phone on or off."""
        self.online = online
        if self._journal is not None:
            self._journal.put(f"{self._prefix}online", encode(online))
            self._journal.commit()

    def move_to_lid(self, peer: str) -> None:
        """Remember that the chat with a number is named by LID from now on, and that who is who is known."""
        self.moved.add(peer)
        self.profile = replace(self.profile, lid_hidden=False)
        if self._journal is not None:
            self._journal.put(f"{self._prefix}profile", encode(asdict(self.profile)))
            self._journal.put(f"{self._prefix}moved", encode(sorted(self.moved)))
            self._journal.commit()

    def add_to_inbox(self, entry: dict[str, Any]) -> bool:
        """Append a received message, fill in `seq` and `duplicate`, and say whether its id arrived before."""
        known = (entry["from"], entry["messageId"])
        duplicate = known in self.seen_ids
        entry = {"seq": self.inbox.next_seq, **entry, "duplicate": duplicate}
        self.seen_ids.add(known)
        seq = self.inbox.append(entry)
        if self._journal is not None:
            self._journal.put(f"{self._prefix}inbox/{seq}", encode(entry))
        return duplicate

    def keep(self, kept: Kept) -> None:
        """Remember a message for quotes and retries; the oldest beyond the limit is forgotten."""
        former = self.kept.pop(kept.message_id, None)
        if former is not None and former.sent_here and not kept.sent_here:
            kept = former  # a peer that reuses our id must not keep us from sending our message again
        self.kept[kept.message_id] = kept
        if self._journal is not None:
            self._journal.put(f"{self._prefix}kept/{kept.message_id}", encode(asdict(kept)))
        while len(self.kept) > MAX_KEPT:
            oldest = next(iter(self.kept))
            del self.kept[oldest]
            if self._journal is not None:
                self._journal.delete(f"{self._prefix}kept/{oldest}")

    def session_changed(self, address: str) -> None:
        """Note that the sessions with a device moved on."""
        if self._journal is not None:
            self._journal.put(f"{self._prefix}session/{address}", encode(self.sessions.dump(address)))

    def sender_key_changed(self, group: str, address: str | None = None) -> None:
        """Note that a sender key moved on: ours (no address), or the one that a device gave us."""
        if self._journal is not None:
            key = f"{self._prefix}senderkey/{group}/{address or ''}"
            self._journal.put(key, encode(self.sender_keys.dump(group, address)))

    def identity_changed(self) -> None:
        """Note that one-time prekeys were made or used up."""
        if self._journal is not None:
            self._journal.put(f"{self._prefix}identity", encode(self.identity.dump()))

    def commit(self) -> None:
        """Make the changes durable; called before anything that follows from them leaves the phone."""
        if self._journal is not None:
            self._journal.commit()

    def dump(self) -> dict[str, bytes]:
        """All rows, as the journal would hold them."""
        rows = {
            "profile": encode(asdict(self.profile)),
            "online": encode(self.online),
            "moved": encode(sorted(self.moved)),
            "identity": encode(self.identity.dump()),
        }
        rows |= {f"session/{name}": encode(self.sessions.dump(name)) for name in self.sessions.addresses()}
        for group, address in self.sender_keys.names():
            rows[f"senderkey/{group}/{address or ''}"] = encode(self.sender_keys.dump(group, address))
        rows |= {f"inbox/{entry['seq']}": encode(entry) for entry in self.inbox.after(0)}
        rows |= {f"kept/{kept.message_id}": encode(asdict(kept)) for kept in self.kept.values()}
        return {self._prefix + key: value for key, value in rows.items()}

    @classmethod
    def load(cls, number: str, rows: Mapping[str, bytes], journal: Journal | None = None) -> PhoneState:
        """Rebuild the state of `number` from the rows of `dump` or of a journal. KeyError when it is not in there."""
        prefix = f"phone/{number}/"
        own = {key.removeprefix(prefix): value for key, value in rows.items() if key.startswith(prefix)}
        state = cls(Profile(**decode(own["profile"])), Identity.load(decode(own["identity"])))
        state.online = decode(own["online"])
        state.moved = set(decode(own["moved"])) if "moved" in own else set()
        entries = [decode(value) for key, value in own.items() if key.startswith("inbox/")]
        entries.sort(key=lambda entry: int(entry["seq"]))
        state.inbox = SeenLog(entries)
        state.seen_ids = {(entry["from"], entry["messageId"]) for entry in entries}
        for key, value in own.items():
            if key.startswith("session/"):
                state.sessions.load(key.removeprefix("session/"), decode(value))
            elif key.startswith("senderkey/"):
                _, group, address = key.split("/")
                state.sender_keys.load(group, address or None, decode(value))
            elif key.startswith("kept/"):
                kept = Kept(**decode(value))
                state.kept[kept.message_id] = kept
        state._journal = journal
        return state


def stored_numbers(rows: Mapping[str, bytes]) -> list[str]:
    """The numbers of the phones in a set of rows."""
    return [key.split("/")[1] for key in rows if key.startswith("phone/") and key.endswith("/profile")]
