"""The pods behind the topology's workloads, as the API tells of them: addresses, labels, processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conformance.cluster.kube import Kube, ObjectKey
from conformance.cluster.ready import has_sidecar, is_ready
from conformance.errors import SetupError
from conformance.profile import Profile
from conformance.topology import SERVICES, WORKLOADS, Names, Ref

__all__ = ["Pod", "Processes", "pod_key", "pods_by_workload", "processes_of", "read_pod", "service_addresses"]

# The pod's uid, and (containerID, restartCount) by container.
Processes = tuple[str, dict[str, tuple[str, int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A workload's pod. `address` is its IP, `address6` its IPv6 one or empty; `namespace` the real one."""

    name: str
    namespace: str
    address: str
    sidecar: bool
    labels: Mapping[str, str]
    address6: str = ""

    def address_of(self, via: str) -> str:
        """Its address on a path of that kind: a connection has one family at both ends."""
        return self.address6 if via == "pod6" else self.address

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


def pods_by_workload(names: Names, pods: list[dict[str, Any]], profile: Profile) -> dict[Ref, Pod]:
    """Ready pods of the topology's workloads, by the label `app`."""
    found: dict[Ref, Pod] = {}
    for pod in pods:
        metadata = pod["metadata"]
        labels = metadata.get("labels") or {}
        ref = Ref(name=str(labels.get("app", "")), namespace=names.logical(metadata["namespace"]))
        if ref in WORKLOADS and is_ready(pod):
            found[ref] = Pod(
                name=metadata["name"],
                namespace=metadata["namespace"],
                address=pod["status"]["podIP"],
                address6=next((ip for ip in pod_ips(pod) if ":" in ip), ""),
                sidecar=has_sidecar(pod, profile.sidecar_container),
                labels=labels,
            )
    return found


def pod_ips(pod: Mapping[str, Any]) -> list[str]:
    """All addresses of a pod, the primary one first."""
    status = pod["status"]
    return [str(entry["ip"]) for entry in status.get("podIPs") or [{"ip": status["podIP"]}]]


def pod_key(kube: Kube, pod: Pod) -> ObjectKey:
    """The pod as the API knows it."""
    metadata = {"name": pod.name, "namespace": pod.namespace}
    return kube.key({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})


def read_pod(kube: Kube, pod: Pod) -> Mapping[str, Any]:
    """The whole object. Raises SetupError where it cannot be read."""
    return kube.get(pod_key(kube, pod)).or_raise(f"read pod {pod.key}").body


def processes_of(kube: Kube, pod: Pod) -> Processes:
    """Which processes run in a pod now. Raises SetupError where it cannot be read."""
    body = read_pod(kube, pod)
    containers = {
        item["name"]: (item.get("containerID", ""), item.get("restartCount", 0))
        for part in ("initContainerStatuses", "containerStatuses")
        for item in body["status"].get(part) or []
    }
    return body["metadata"]["uid"], containers


def service_addresses(kube: Kube, names: Names, namespaces: tuple[str, ...]) -> dict[Ref, str]:
    """ClusterIPs of the topology's Services. Raises SetupError where one is missing."""
    found: dict[Ref, str] = {}
    for namespace in namespaces:
        services, _ = kube.list("v1", "Service", namespace=names.real(namespace))
        for service in services:
            name = service["metadata"]["name"]
            if name in SERVICES:
                found[Ref(name=name, namespace=namespace)] = str(service["spec"].get("clusterIP", ""))
        for name in SERVICES:
            if Ref(name=name, namespace=namespace) not in found:
                raise SetupError(f"the Service {name} is missing in {names.real(namespace)}")
    return found
