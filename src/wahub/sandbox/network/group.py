"""A group as the server keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field

from wahub.sandbox.model import GROUP_SERVER, GroupView, Jid

OWNER, ADMIN, MEMBER = "superadmin", "admin", ""


@dataclass(slots=True)
class Group:
    """A group. `members` has the rank of each number: `superadmin` (the owner), `admin` or nothing."""

    id: str
    subject: str
    owner: str
    server: str
    created: int
    members: dict[str, str] = field(default_factory=dict)

    @property
    def jid(self) -> Jid:
        """The group's address."""
        return Jid(self.id, GROUP_SERVER)

    def view(self) -> GroupView:
        """The group as phones see it."""
        return GroupView(self.jid, self.subject, self.server, tuple(self.members))

    def is_admin(self, number: str) -> bool:
        """Whether a member may change the group."""
        return bool(self.members.get(number))
