"""The pool that generated sets are tried in: slots, each a namespace with a backend and clients of its own.

A slot stands for `foo`; the clients in `bar` and `legacy` are the run's own and shared by all slots. So
several sets stand side by side, and each means what it would mean in foo.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance import placeholders
from conformance.cluster.install import install_namespace
from conformance.cluster.kube import Kube, ObjectKey
from conformance.cluster.ready import Pods, has_sidecar
from conformance.errors import ConformanceError
from conformance.fuzz.cases import CLIENTS, SHARED, TARGET, placed
from conformance.pods import Pod, service_addresses
from conformance.rig import Rig
from conformance.topology import TAILS, WORKLOADS, Names, Ref, Workload

__all__ = ["Pool", "SlotNames", "open_pool", "slots_for"]

MOST_SLOTS, SETS_FOR_A_SLOT = 8, 10


def slots_for(count: int) -> tuple[str, ...]:
    """As many as are worth their start for so many sets: each has three pods with a sidecar."""
    number = min(max(count // SETS_FOR_A_SLOT, 2), MOST_SLOTS)
    return tuple(f"fuzz{index}" for index in range(number))


# What a slot has of its own.
OWN = (TARGET.name, *(client.name for client in CLIENTS if client.namespace not in SHARED))


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolNames(Names):
    """Names in which a slot is a logical namespace, too."""

    def real(self, namespace: str) -> str:
        if namespace in TAILS:
            return Names.real(self, namespace)
        return f"{namespace}-{self.run}{self.worker}-{TAILS['foo']}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotNames(Names):
    """Names in which foo is one slot."""

    slot: str

    def real(self, namespace: str) -> str:
        if namespace == "foo":
            return f"{self.slot}-{self.run}{self.worker}-{TAILS['foo']}"
        return Names.real(self, namespace)

    def head(self, namespace: str) -> str:
        return f"{self.slot}-{self.run}" if namespace == "foo" else Names.head(self, namespace)


class Pool:
    """An open pool. `standing`: what generated sets have left on the cluster until now."""

    def __init__(self, rig: Rig, slots: tuple[str, ...]) -> None:
        self.rig = rig
        self.slots = slots
        self.standing: dict[ObjectKey, None] = {}
        self.serial = 0  # of the sets placed so far, for names that no two of them share
        self.sidecars = [pod.key for pod in rig.pods.values() if pod.sidecar]
        self.environment = _environment(rig)

    def names(self, slot: str) -> SlotNames:
        names = self.rig.names
        given = {name: real for name, real in names.given.items() if name != "foo"}
        return SlotNames(run=names.run, worker=names.worker, root=names.root, given=given, slot=slot)

    def pod(self, ref: Ref, slot: str) -> Pod:
        """The pod that stands for a workload of the topology in a slot."""
        return self.rig.pods[placed(ref, slot)]

    def resolve(self, value: Any, slot: str) -> Any:
        """A value with its placeholders filled in, for a slot."""
        return placeholders.resolve(
            value,
            names=self.names(slot),
            pod_address=lambda ref: self.pod(ref, slot).address,
            pod_address6=lambda ref: self.pod(ref, slot).address6,
            service_address=lambda ref: self.rig.services[placed(ref, slot)],
        )

    def close(self) -> None:
        """Deletes what generated sets left, then ends what is open. Never raises for what is gone."""
        for key in list(self.standing):
            with suppress(ConformanceError):
                self.rig.kube.delete(key)
        self.standing.clear()
        self.rig.close_streams()


def _environment(rig: Rig) -> list[dict[str, Any]]:
    """Policies that stood there before, which the oracle must know as well: those of the root namespace."""
    found: list[dict[str, Any]] = []
    for kind in ("AuthorizationPolicy", "PeerAuthentication"):
        items, _ = rig.kube.list("security.istio.io/v1", kind, namespace=rig.profile.root_namespace)
        found += [{**item, "kind": kind} for item in items]
    return found


@contextmanager
def open_pool(main: Rig, *, manifests: Path, slots: tuple[str, ...], keep: bool = False) -> Iterator[Pool]:
    """Slots beside a worker's own namespaces; gone again on every way out. Raises SetupError."""
    kube, profile = main.kube, main.profile
    names = PoolNames(
        run=main.names.run, worker=main.names.worker, root=main.names.root, given=main.names.given
    )
    deadline = time.monotonic() + profile.deadlines.ready

    def one(slot: str) -> Pods:
        return install_namespace(
            kube, profile, names.real(slot), OWN, injected=True, manifests=manifests, deadline=deadline
        )

    try:
        executor = ThreadPoolExecutor(max_workers=len(slots))
        try:
            found = dict(zip(slots, executor.map(one, slots), strict=True))
        finally:
            # An interrupted run does not wait for what the others still wait for.
            executor.shutdown(wait=False, cancel_futures=True)
        pool = Pool(_rig(main, names, found), slots)
        try:
            yield pool
        finally:
            pool.close()
    finally:
        if not keep:
            _remove(kube, [names.real(slot) for slot in slots])


def _rig(main: Rig, names: Names, found: dict[str, Pods]) -> Rig:
    pods = {client: main.pods[client] for client in CLIENTS if client.namespace in SHARED}
    for slot, group in found.items():
        for pod in group:
            metadata = pod["metadata"]
            labels = metadata.get("labels") or {}
            pods[Ref(name=str(labels["app"]), namespace=slot)] = Pod(
                name=metadata["name"],
                namespace=metadata["namespace"],
                address=pod["status"]["podIP"],
                sidecar=has_sidecar(pod, main.profile.sidecar_container),
                labels=labels,
            )
    ports = WORKLOADS[TARGET].ports
    backends = [Workload(name=TARGET.name, namespace=slot, ports=ports) for slot in found]
    return Rig(
        kube=main.kube,
        profile=main.profile,
        names=names,
        pods=pods,
        services=service_addresses(main.kube, names, tuple(found)),
        barrier=main.barrier,
        workloads={workload.ref: workload for workload in backends},
    )


def _remove(kube: Kube, namespaces: list[str]) -> None:
    for name in namespaces:
        with suppress(ConformanceError):
            kube.delete(kube.key({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
