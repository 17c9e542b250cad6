"""How far the world has come to the sidecars: which have it, in the status and in each policy's condition."""

from __future__ import annotations

from enforcer import conditions
from enforcer.conditions import Condition, Reach
from enforcer.kube import Json
from enforcer.status import SidecarStatus, Status
from enforcer.watch import PEER_AUTHENTICATIONS, POLICIES, Key
from enforcer.world import World
from enforcer.xds.server import Ads
from enforcer.xds.session import Session
from enforcer.xds.snapshot import Snapshot


def resolve(world: World, session: Session) -> Snapshot | None:
    """What the sidecar of that session must have; None for a pod that the world does not know."""
    workload = world.workloads.get(session.node)
    if workload is None or workload.uid != session.uid:
        # Another pod of the same name: what the one gets is not the other's.
        return None
    return world.snapshot(session.node, ipv6=session.ipv6)


class Rollout:
    """What the world wants against what the sidecars have accepted. `advance` begins a snapshot."""

    def __init__(self, world: World, ads: Ads) -> None:
        self._world = world
        self._ads = ads
        self._snapshot = 0
        self._reached: dict[str, int] = {}

    def advance(self) -> None:
        """After a batch of events: another number; sidecars whose pods are gone are forgotten."""
        self._snapshot += 1
        for node in self._ads.sessions.keys() - self._world.workloads.keys():
            self._ads.forget(node)
            self._reached.pop(node, None)

    def _in_sync(self, node: str) -> bool:
        session = self._ads.sessions.get(node)
        if session is None:
            return False
        snapshot = resolve(self._world, session)
        return snapshot is not None and session.in_sync(snapshot)

    def status(self) -> Status:
        """The status now."""
        sidecars = {}
        for node in self._world.workloads:
            session = self._ads.sessions.get(node)
            in_sync = self._in_sync(node)
            if in_sync:
                self._reached[node] = self._snapshot
            sidecars[node] = SidecarStatus(
                snapshot=self._reached.get(node, 0),
                in_sync=in_sync,
                nack=session.nack if session is not None else None,
                connected=self._ads.connected(node),
            )
        return Status(
            snapshot=self._snapshot,
            objects=self._world.versions,
            sidecars=sidecars,
            rejected={str(key): reason for key, reason in self._world.rejected.items()},
            nacks=self._ads.nacks,
        )

    def wanted(self) -> dict[Key, tuple[Json, Condition]]:
        """The condition that each policy and PeerAuthentication must have now, beside its document."""
        return {
            key: (document, self._condition(key, document))
            for kind in (POLICIES.name, PEER_AUTHENTICATIONS.name)
            for key, document in self._world.documents(kind).items()
        }

    def _condition(self, key: Key, document: Json) -> Condition:
        policy = self._world.policy(key)
        reaches = []
        for workload in self._world.selected(key):
            session = self._ads.sessions.get(workload.node)
            if session is None and not workload.ready:
                # It never had a configuration, so it accepts nothing: no policy waits for it.
                continue
            nack = session.nack if session is not None else None
            reaches.append(Reach(node=workload.node, in_sync=self._in_sync(workload.node), nack=nack))
        return conditions.judge(
            generation=int(document["metadata"].get("generation", 0)),
            problem=self._world.rejected.get(key) or self._world.asks_nobody(key),
            malformed=key in self._world.malformed,
            dry_run=policy is not None and policy.dry_run,
            reaches=reaches,
        )
