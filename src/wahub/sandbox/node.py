"""The stanza: WhatsApp's binary XML node, as both the wire codec and the network see it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Node:
    """One stanza or child: a tag, string attributes, and either children, bytes or nothing."""

    tag: str
    attrs: dict[str, str] = field(default_factory=dict)
    content: list[Node] | bytes | None = None

    @property
    def children(self) -> list[Node]:
        """The child nodes; empty when the content is bytes or nothing."""
        return self.content if isinstance(self.content, list) else []

    def child(self, tag: str) -> Node | None:
        """The first child with that tag, or None."""
        return next(self.find(tag), None)

    def find(self, tag: str) -> Iterator[Node]:
        """Every direct child with that tag, in order."""
        return (node for node in self.children if node.tag == tag)

    @property
    def data(self) -> bytes:
        """The content as bytes; empty when there are children or nothing."""
        return self.content if isinstance(self.content, bytes) else b""
