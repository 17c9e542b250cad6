"""Mutants of which workloads, namespaces and ports a policy reaches, and when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener

from enforcer import rbac, select, world
from enforcer.mesh import Trust
from enforcer.policy import Policy
from enforcer.world import World
from enforcer.xds import inbound
from enforcer.xds.outbound import Outbound
from enforcer.xds.pack import pack
from tests.mutants.seams import around, mutant

UNDECLARED = 9002


@mutant
def one_workload_for_the_namespace() -> None:
    """A policy without a selector covers only pods that are labelled version=v2."""

    @around(select, "govern")
    def _govern(original: Any, policies: Iterable[Policy], **pod: Any) -> Any:
        return original([replace(p, selector=p.selector or {"version": "v2"}) for p in policies], **pod)


@mutant
def namespaces_ignored() -> None:
    """A policy reaches every namespace."""

    @around(World, "_in_scope")
    def _in_scope(_original: Any, cluster: Any, namespace: str) -> list[Policy]:
        every = [policy for policies in cluster._policies.values() for policy in policies.values()]
        return [replace(policy, namespace=namespace) for policy in every]

    @around(World, "snapshot")
    def _snapshot(original: Any, cluster: Any, node: str, **more: Any) -> Any:
        # What is remembered is told apart by the policies of the pod's own namespace.
        cluster._snapshots.clear()
        return original(cluster, node, **more)


@mutant
def any_label_is_enough() -> None:
    """A selector selects the pods that carry one of its labels."""

    @around(select, "govern")
    def _govern(original: Any, policies: Iterable[Policy], *, labels: Any, **pod: Any) -> Any:
        chosen = [
            replace(policy, selector=None) if (policy.selector or {}).items() & labels.items() else policy
            for policy in policies
        ]
        return original(chosen, labels=labels, **pod)


@mutant
def root_is_a_namespace() -> None:
    """A policy of the root namespace covers that namespace only."""

    @around(select, "govern")
    def _govern(original: Any, policies: Iterable[Policy], *, root_namespace: str, **pod: Any) -> Any:
        return original(policies, root_namespace="", **pod)


@mutant
def own_overrides_root() -> None:
    """Where a namespace has policies of its own, those of the root namespace do not count."""

    @around(select, "govern")
    def _govern(original: Any, policies: Iterable[Policy], *, namespace: str, **pod: Any) -> Any:
        found = original(policies, namespace=namespace, **pod)
        return tuple(policy for policy in found if policy.namespace == namespace) or found


@mutant
def labels_of_birth() -> None:
    """A pod is selected by the labels that it was created with."""

    @around(World, "_set_pod")
    def _set_pod(original: Any, cluster: Any, key: Any, document: Any) -> None:
        node = f"{key.namespace}/{key.name}"
        before = cluster.workloads.get(node)
        original(cluster, key, document)
        after = cluster.workloads.get(node)
        if before and after and before.uid == after.uid:
            cluster.workloads[node] = replace(after, labels=before.labels)


@mutant
def target_refs_ignored() -> None:
    """A policy for a gateway governs sidecars, too."""

    @around(select, "govern")
    def _govern(original: Any, policies: Iterable[Policy], **pod: Any) -> Any:
        return original([replace(policy, targets_gateway=False) for policy in policies], **pod)


@mutant
def outbound_governed() -> None:
    """The policies of a workload judge what it sends, too."""

    @around(world, "build")
    def _build(original: Any, policies: Sequence[Policy], *, outbound: Outbound, **more: Any) -> Any:
        trust: Trust = more["trust"]
        listener = Listener()
        outbound.listener.Unpack(listener)
        for chain in (*listener.filter_chains, listener.default_filter_chain):
            if not chain.filters:
                # A dead end.
                continue
            before = FilterChain()
            before.CopyFrom(chain)
            del chain.filters[:]
            chain.filters.extend([*rbac.network_filters(policies, trust=trust), *before.filters])
        return original(policies, outbound=replace(outbound, listener=pack(listener)), **more)


def open_way(chain: FilterChain, name: str, port: int | None = None) -> FilterChain:
    """The same way in, past all policies."""
    copied = FilterChain()
    copied.CopyFrom(chain)
    copied.name = name
    if port is not None:
        copied.filter_chain_match.destination_port.value = port
    last = chain.filters[-1]
    del copied.filters[:]
    copied.filters.append(last)
    return copied


def ways_in(listener: Listener) -> list[FilterChain]:
    return [chain for chain in listener.filter_chains if not chain.name.startswith("dead-end")]


@mutant
def undeclared_port_open() -> None:
    """A port that no Service declares is covered by no policy."""

    @around(inbound, "build")
    def _build(original: Any, *arguments: Any, **more: Any) -> Any:
        listener = original(*arguments, **more)
        listener.filter_chains.extend(
            open_way(chain, f"undeclared-{chain.name}", UNDECLARED) for chain in ways_in(listener)
        )
        return listener


@mutant
def mutual_tls_chain_open() -> None:
    """Policies stand in the way in for plaintext only: by Service address a sidecar passes."""

    @around(inbound, "build")
    def _build(original: Any, *arguments: Any, **more: Any) -> Any:
        listener = original(*arguments, **more)
        for chain in ways_in(listener):
            if chain.name.startswith(inbound.MUTUAL):
                chain.CopyFrom(open_way(chain, chain.name))
        return listener


@mutant
def plaintext_chain_open() -> None:
    """Policies stand in the way in for mutual TLS only: by pod address everybody passes."""

    @around(inbound, "build")
    def _build(original: Any, *arguments: Any, **more: Any) -> Any:
        listener = original(*arguments, **more)
        for chain in ways_in(listener):
            if chain.name.startswith(inbound.PLAIN):
                chain.CopyFrom(open_way(chain, chain.name))
        return listener


@mutant
def new_pods_uncovered() -> None:
    """A policy covers the pods that were there before it."""
    first_seen: dict[str, frozenset[str]] = {}

    @around(World, "governing")
    def _governing(original: Any, cluster: Any, workload: Any) -> Any:
        found = original(cluster, workload)
        known = first_seen.setdefault(workload.uid, frozenset(policy.uid for policy in found))
        return tuple(policy for policy in found if policy.uid not in known)


@mutant
def deletion_ignored() -> None:
    """A deleted policy stays in force."""

    @around(World, "_set_policy")
    def _set_policy(original: Any, cluster: Any, key: Any, document: Any) -> None:
        if document is not None:
            original(cluster, key, document)


@mutant
def change_ignored() -> None:
    """A policy stays as it was created."""

    @around(World, "_set_policy")
    def _set_policy(original: Any, cluster: Any, key: Any, document: Any) -> None:
        if document is None or key not in cluster._policies[key.namespace]:
            original(cluster, key, document)


@mutant
def names_shared() -> None:
    """Deleting a policy takes those of the same name in other namespaces with it."""
    taken: set[Any] = set()

    @around(World, "_set_policy")
    def _set_policy(original: Any, cluster: Any, key: Any, document: Any) -> None:
        if document is not None and key in taken:
            # Its status was written: it stays away.
            return
        taken.discard(key)
        original(cluster, key, document)
        if document is not None:
            return
        for namespace, policies in list(cluster._policies.items()):
            for other in [other for other in policies if other.name == key.name]:
                taken.add(other)
                del policies[other]
                cluster._epochs[namespace] += 1
