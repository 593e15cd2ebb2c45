"""The instance that a caller names."""

from __future__ import annotations

from wahub.domain.errors import InstanceNotFoundError
from wahub.domain.ids import InstanceId
from wahub.domain.instance import Instance
from wahub.ports.store import Tx


def known(tx: Tx, wanted: InstanceId, *, for_update: bool = False) -> Instance:
    """The instance, or InstanceNotFoundError; one that is being deleted counts as gone.

    `for_update` locks it against other writers until the commit.
    """
    instance = tx.instances.get(wanted, for_update=for_update)
    if instance is None or instance.deleting:
        raise InstanceNotFoundError(wanted)
    return instance
