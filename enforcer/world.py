"""The cluster as the enforcer sees it: objects in, per-sidecar snapshots and policy verdicts out. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from enforcer import peer_authentication, policy, select
from enforcer.destinations import FINISHED, Endpoint
from enforcer.directory import Directory
from enforcer.documents import quote
from enforcer.errors import PolicyError
from enforcer.inject import SIDECAR
from enforcer.kube import Json
from enforcer.mesh import MeshOptions
from enforcer.peer_authentication import Modes, PeerAuthentication
from enforcer.policy import Action, Policy
from enforcer.watch import (
    NAMESPACES,
    PEER_AUTHENTICATIONS,
    PODS,
    POLICIES,
    SERVICES,
    Change,
    Event,
    Key,
    Listed,
)
from enforcer.xds.snapshot import Snapshot, build

KINDS = frozenset(kind.name for kind in (POLICIES, PEER_AUTHENTICATIONS, PODS, SERVICES, NAMESPACES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A pod that has a sidecar. `ready`: it served already, so its sidecar had a configuration."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    ready: bool

    @property
    def node(self) -> str:
        return f"{self.namespace}/{self.name}"


class World:
    """Objects by key, and what follows from them. Not thread-safe: it belongs to the loop."""

    def __init__(self, options: MeshOptions) -> None:
        self._options = options
        self._objects: dict[Key, Json] = {}
        self._listed: set[str] = set()
        self._policies: dict[str, dict[Key, Policy]] = defaultdict(dict)
        self._peers: dict[str, dict[Key, PeerAuthentication]] = defaultdict(dict)
        self._epochs: dict[str, int] = defaultdict(int)
        self._directory = Directory(options, self._modes_of_endpoint)
        self._snapshots: dict[tuple[str, bool], tuple[object, Snapshot]] = {}
        self.workloads: dict[str, Workload] = {}
        self.rejected: dict[Key, str] = {}
        """Objects that are in the API but cannot be enforced, and why."""
        self.malformed: set[Key] = set()
        """Those of them that do not even read as what they claim to be."""

    @property
    def synced(self) -> bool:
        """Whether every kind has been listed once: before that, absence means nothing."""
        return self._listed >= KINDS

    @property
    def versions(self) -> dict[str, str]:
        """The resourceVersion processed of every object."""
        return {
            str(key): str(document["metadata"].get("resourceVersion", ""))
            for key, document in self._objects.items()
        }

    def documents(self, kind: str) -> dict[Key, Json]:
        return {key: document for key, document in self._objects.items() if key.kind == kind}

    def apply(self, event: Event) -> None:
        """Takes a change, or a whole list of a kind."""
        match event:
            case Change(key=key, document=document):
                self._set(key, document)
            case Listed(kind=kind, documents=documents):
                self._listed.add(kind)
                for key in [key for key in self._objects if key.kind == kind and key not in documents]:
                    self._set(key, None)
                for key, document in documents.items():
                    self._set(key, document)

    def _set(self, key: Key, document: Json | None) -> None:
        if document is None:
            self._objects.pop(key, None)
        else:
            self._objects[key] = document
        if key.kind == POLICIES.name:
            self._set_policy(key, document)
        elif key.kind == PEER_AUTHENTICATIONS.name:
            self._set_peer_authentication(key, document)
        elif key.kind == PODS.name:
            self._set_pod(key, document)
        elif key.kind == SERVICES.name:
            self._directory.set_service(key, document)

    def _set_policy(self, key: Key, document: Json | None) -> None:
        before = self._policies[key.namespace].pop(key, None)
        self.rejected.pop(key, None)
        self.malformed.discard(key)
        if document is not None:
            parsed = self._read_policy(key, document)
            self._policies[key.namespace][key] = parsed
            if parsed.unsupported and not parsed.targets_gateway:
                self.rejected[key] = "; ".join(parsed.unsupported)
        if _meaning(before) != _meaning(self._policies[key.namespace].get(key)):
            self._epochs[key.namespace] += 1

    def _read_policy(self, key: Key, document: Json) -> Policy:
        try:
            return policy.parse(document)
        except PolicyError:
            self.malformed.add(key)
            return policy.parse_or_refuse(document)

    def _set_peer_authentication(self, key: Key, document: Json | None) -> None:
        before = self._peers[key.namespace].pop(key, None)
        self.rejected.pop(key, None)
        self.malformed.discard(key)
        if document is not None:
            found = self._peers[key.namespace][key] = peer_authentication.read(document)
            if found.problems:
                self.rejected[key] = "; ".join(found.problems)
                self.malformed.add(key)
        if before != self._peers[key.namespace].get(key):
            self._epochs[key.namespace] += 1
            self._directory.modes_changed(key.namespace)

    def _set_pod(self, key: Key, document: Json | None) -> None:
        self._directory.set_pod(key, document)
        workload = None if document is None else read_workload(document)
        if workload is None:
            self.workloads.pop(f"{key.namespace}/{key.name}", None)
            for ipv6 in (False, True):
                self._snapshots.pop((f"{key.namespace}/{key.name}", ipv6), None)
        else:
            self.workloads[workload.node] = workload

    def _in_scope(self, namespace: str) -> Iterable[Policy]:
        for scope in {namespace, self._options.root_namespace}:
            yield from self._policies[scope].values()

    def governing(self, workload: Workload) -> tuple[Policy, ...]:
        """The policies of a workload."""
        return select.govern(
            self._in_scope(workload.namespace),
            namespace=workload.namespace,
            labels=workload.labels,
            root_namespace=self._options.root_namespace,
        )

    def modes(self, *, namespace: str, labels: Mapping[str, str]) -> Modes:
        """What the ports of a pod take."""
        scopes = dict.fromkeys((namespace, self._options.root_namespace))
        return peer_authentication.modes_for(
            [found for scope in scopes for found in self._peers[scope].values()],
            namespace=namespace,
            labels=labels,
            root_namespace=self._options.root_namespace,
        )

    def _modes_of_endpoint(self, endpoint: Endpoint) -> Modes:
        return self.modes(namespace=endpoint.identity.namespace, labels=endpoint.labels)

    def snapshot(self, node: str, *, ipv6: bool) -> Snapshot | None:
        """The configuration of a sidecar; None while its pod, or anything else, is not known yet."""
        workload = self.workloads.get(node)
        if workload is None or not self.synced:
            return None
        basis = (
            tuple(sorted(workload.labels.items())),
            self._epochs[workload.namespace],
            self._epochs[self._options.root_namespace],
            self._directory.generation,
        )
        known = self._snapshots.get((node, ipv6))
        if known is not None and known[0] == basis:
            return known[1]
        snapshot = build(
            self.governing(workload),
            modes=self.modes(namespace=workload.namespace, labels=workload.labels),
            outbound=self._directory.outbound(ipv6=ipv6),
            trust=self._options.trust,
            exempt=self._options.exempt,
            ipv6=ipv6,
            authorizers=self._directory.authorizers(),
        )
        self._snapshots[node, ipv6] = (basis, snapshot)
        return snapshot

    def selected(self, key: Key) -> list[Workload]:
        """The workloads that a policy or a PeerAuthentication governs."""
        return [
            workload
            for workload in self.workloads.values()
            # Cheaper than asking about every pair of a policy and a pod of two namespaces.
            if key.namespace in (workload.namespace, self._options.root_namespace)
            and self._governs(key, workload)
        ]

    def _governs(self, key: Key, workload: Workload) -> bool:
        peer = self._peers[key.namespace].get(key)
        if peer is not None:
            return (peer.selector or {}).items() <= workload.labels.items()
        found = self._policies[key.namespace].get(key)
        return found is not None and bool(
            select.govern(
                (found,),
                namespace=workload.namespace,
                labels=workload.labels,
                root_namespace=self._options.root_namespace,
            )
        )

    def asks_nobody(self, key: Key) -> str | None:
        """Why a CUSTOM policy's authorizer is not asked; None where it is, and for other policies."""
        found = self._policies[key.namespace].get(key)
        if found is None or found.action is not Action.CUSTOM or found.targets_gateway:
            return None
        others = {
            other.provider
            for workload in self.selected(key)
            for other in self.governing(workload)
            if other.action is Action.CUSTOM and not other.unsupported
        } - {found.provider}
        path, name, authorizers = "spec.provider.name", quote(found.provider), self._directory.authorizers()
        if others:
            names = ", ".join(map(quote, sorted(others)))
            return f"{path}: {name} stands beside {names} on one workload, {_DENIED}"
        if not any(provider.name == found.provider for provider in self._options.extension_providers):
            return f"{path}: the mesh configuration has no extension provider {name}, {_DENIED}"
        if found.provider not in authorizers:
            return f"{path}: the Service of {name} does not exist, {_DENIED}"
        if not authorizers[found.provider].provider.grpc:
            return f"{path}: {name} speaks HTTP, so on TCP the policy is ignored and denies nothing"
        return None

    def policy(self, key: Key) -> Policy | None:
        return self._policies[key.namespace].get(key)


_DENIED = "so what the rules match is denied"


def _meaning(parsed: Policy | None) -> Policy | None:
    """A policy without what changes each time its status is written."""
    return None if parsed is None else replace(parsed, resource_version="")


def read_workload(pod: Json) -> Workload | None:
    """The workload of a pod; None where it has no sidecar, or has ended."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    containers = (pod.get("spec") or {}).get("containers") or ()
    if status.get("phase") in FINISHED or not any(entry.get("name") == SIDECAR for entry in containers):
        return None
    ready = any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in status.get("conditions") or ()
    )
    return Workload(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        labels=metadata.get("labels") or {},
        ready=ready,
    )
