"""Instances, as use cases: create, change, unlink, delete. What happens to them is in services/lifecycle."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from wahub.domain.errors import InstanceExistsError
from wahub.domain.ids import InstanceId, QueueId, instance_id
from wahub.domain.instance import Config, EngineOptions, Instance, Observed, State
from wahub.domain.lease import Lease
from wahub.domain.lifecycle import Lifecycle
from wahub.ports.store import Tx
from wahub.services import outbox
from wahub.services.known import known

SHED_AT_ONCE = 500
"""Rows."""


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """Which parts of the configuration a caller changes; None leaves a part as it is."""

    name: str | None = None
    webhook_url: str | None = None
    webhook_events: tuple[str, ...] | None = None
    typing_enabled: bool | None = None
    apply_typing_to: tuple[str, ...] | None = None
    proxy: str | None = field(default=None, repr=False)
    """An empty text takes the proxy away."""
    engine: EngineOptions | None = None

    def apply(self, config: Config) -> Config:
        """The configuration after the change."""
        given = {name: getattr(self, name) for name in self.__slots__ if getattr(self, name) is not None}
        if self.proxy is not None:
            given["proxy"] = self.proxy or None
        return replace(config, **given)


def create(tx: Tx, config: Config, now: float) -> Instance:
    """Add an instance in `connecting`.

    InstanceExistsError when the id is taken, InvalidInstanceIdError for an empty one.
    """
    wanted = instance_id(config.name)
    if tx.instances.get(wanted) is not None:
        raise InstanceExistsError(wanted)
    instance = Instance(wanted, config, Observed(state_at=now), created_at=now)
    tx.instances.add(instance)
    return instance


def get(tx: Tx, wanted: InstanceId) -> Instance:
    """The instance, or InstanceNotFoundError; one that is being deleted counts as gone."""
    return known(tx, wanted)


def update(tx: Tx, wanted: InstanceId, change: ConfigChange) -> Instance:
    """Change the configuration; the id never changes."""
    instance = known(tx, wanted, for_update=True)
    changed = replace(instance, config=change.apply(instance.config))
    tx.instances.save(changed)
    return changed


def ask_delete(tx: Tx, wanted: InstanceId) -> bool:
    """Mark for deletion.

    No new sends, no new links. The worker that holds it does the rest. False if it did not exist.
    """
    instance = tx.instances.get(wanted, for_update=True)
    if instance is None:
        return False
    if not instance.deleting:
        tx.instances.save(replace(instance, deleting=True))
    return True


def ask_unlink(tx: Tx, wanted: InstanceId) -> None:
    """Ask that the account is unlinked and may be paired anew, with its queue kept (contract 0.13, `keep=1`)."""
    instance = known(tx, wanted, for_update=True)
    if not instance.unlinking:
        tx.instances.save(replace(instance, unlinking=True))


def prepare_delete(tx: Tx, lease: Lease, now: float) -> tuple[Instance | None, tuple[QueueId, ...]]:
    """Cancel what waits; returns the instance and what was cancelled, for the farewell to its webhook."""
    tx.fence(lease)
    return tx.instances.get(lease.instance), outbox.cancel_waiting(tx, lease.instance, now)


def shed(tx: Tx, lease: Lease) -> int:
    """Remove a part of what is stored of an instance that is being deleted; returns how much, 0 when nothing is left.

    All at once would hold up every other writer: for seconds, when there are a hundred thousand events.
    """
    tx.fence(lease)
    return tx.instances.shed(lease.instance, SHED_AT_ONCE)


def finish_delete(tx: Tx, lease: Lease, now: float) -> None:
    """Remove everything that is left of it; of the audit only the hash of its id stays. Its links must be closed."""
    tx.fence(lease)
    tx.instances.delete(lease.instance)
    tx.tally.audit(now, "instance_deleted", lease.instance)


def boot(tx: Tx, now: float) -> list[Instance]:
    """At start no link is up.

    What was `ready` or connecting with credentials is listed as `disconnected` until it is. Timers that were waiting
    for a link begin anew: nobody could connect while we were down.
    """
    for record in tx.lifecycles.list():
        _begin_timers_anew(tx, record, now)
    instances = []
    for found in tx.instances.list():
        instance = found
        if found.observed.state in (State.READY, State.CONNECTING, State.DISCONNECTED) and found.observed.linked:
            observed = replace(found.observed, state=State.DISCONNECTED, state_at=now, ready_at=None)
            instance = replace(found, observed=replace(observed, qr=None, qr_expires_at=None))
            tx.instances.save(instance)
        elif found.observed.qr is not None:
            instance = replace(found, observed=replace(found.observed, qr=None, qr_expires_at=None))
            tx.instances.save(instance)
        instances.append(instance)
    return instances


def _begin_timers_anew(tx: Tx, record: Lifecycle, now: float) -> None:
    watched = None if record.ready_watchdog_at is None else now
    anew = replace(record, ready_watchdog_at=watched, connecting_watchdog_at=None, connecting_watchdog_restarts=0)
    if anew != record:
        tx.lifecycles.save(anew)
