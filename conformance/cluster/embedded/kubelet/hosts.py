"""Names in the embedded cluster: each pod's own /etc/hosts, made from the Services. No DNS server."""

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Object = dict[str, Any]

CLUSTER_DOMAIN = "cluster.local"
# Only IPv4: a "::1 localhost" would be tried first and is nowhere listened on.
HEADER = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostsFile:
    """The hosts file of one pod, and what stands in it."""

    pod: Object
    ips: Sequence[str]
    path: Path
    text: str


class HostsFiles:
    """The hosts files of all pods, kept as the Services say. The mappings are the informers' live caches."""

    def __init__(self, services: Mapping[Any, Object], pods: Mapping[Any, Object]) -> None:
        self._services = services
        self._pods = pods
        self._files: dict[str, HostsFile] = {}
        self._dirty = asyncio.Event()

    def add(self, pod: Object, ips: Sequence[str], path: Path) -> None:
        """Write a pod's file and keep it true until it is removed."""
        text = hosts_text(pod, ips, self._addresses())
        write_hosts(path, text)
        self._files[pod["metadata"]["uid"]] = HostsFile(pod=pod, ips=ips, path=path, text=text)

    def remove(self, uid: str) -> None:
        """Forget a pod's file."""
        self._files.pop(uid, None)

    def services_changed(self) -> None:
        """A Service came, changed or went."""
        self._dirty.set()

    def pods_changed(self) -> None:
        """A pod changed: that matters to headless Services only."""
        if any((service.get("spec") or {}).get("clusterIP") == "None" for service in self._services.values()):
            self._dirty.set()

    async def run(self) -> None:
        """Rewrite what changed until cancelled."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            addresses = self._addresses()
            for uid, file in self._files.items():
                text = hosts_text(file.pod, file.ips, addresses)
                if text != file.text:
                    write_hosts(file.path, text)
                    self._files[uid] = HostsFile(pod=file.pod, ips=file.ips, path=file.path, text=text)

    def _addresses(self) -> list[tuple[str, str, list[str]]]:
        return service_addresses(self._services.values(), list(self._pods.values()))


def service_addresses(services: Iterable[Object], pods: Sequence[Object]) -> list[tuple[str, str, list[str]]]:
    """(namespace, name, addresses) of each Service that has an address, in a stable order.

    A headless Service has the addresses of the ready pods that it selects.
    """
    found = []
    for service in services:
        metadata, spec = service["metadata"], service.get("spec") or {}
        cluster_ip = spec.get("clusterIP")
        if cluster_ip and cluster_ip != "None":
            addresses = list(spec.get("clusterIPs") or [cluster_ip])
        elif cluster_ip == "None" and spec.get("selector"):
            addresses = sorted(headless_addresses(metadata["namespace"], spec, pods))
        else:
            continue
        if addresses:
            found.append((metadata["namespace"], metadata["name"], addresses))
    return sorted(found)


def headless_addresses(namespace: str, spec: Object, pods: Iterable[Object]) -> list[str]:
    """The addresses of the pods behind a headless Service."""
    everyone = bool(spec.get("publishNotReadyAddresses"))
    selector: Mapping[str, str] = spec["selector"]
    addresses = []
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status") or {}
        labels = metadata.get("labels") or {}
        if metadata["namespace"] != namespace or metadata.get("deletionTimestamp") or not status.get("podIP"):
            continue
        if status.get("phase") in ("Succeeded", "Failed"):
            continue
        ready = any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in status.get("conditions") or ()
        )
        if (ready or everyone) and all(labels.get(key) == value for key, value in selector.items()):
            addresses += pod_addresses(pod, spec.get("ipFamilies") or ("IPv4",))
    return addresses


def pod_addresses(pod: Object, families: Sequence[str]) -> list[str]:
    """A pod's addresses of these families, in their order."""
    status = pod["status"]
    listed = [entry["ip"] for entry in status.get("podIPs") or [{"ip": status["podIP"]}]]
    return [ip for family in families for ip in listed if (":" in ip) is (family == "IPv6")]


def hosts_text(pod: Object, ips: Sequence[str], services: Iterable[tuple[str, str, list[str]]]) -> str:
    """The hosts file of a pod."""
    spec = pod["spec"]
    namespace = pod["metadata"]["namespace"]
    hostname = spec.get("hostname") or pod["metadata"]["name"]
    names = [hostname]
    if spec.get("subdomain"):
        names.insert(0, f"{hostname}.{spec['subdomain']}.{namespace}.svc.{CLUSTER_DOMAIN}")
    lines = [HEADER, *(f"{ip}\t{' '.join(names)}\n" for ip in ips)]
    for service_namespace, name, addresses in services:
        full = f"{name}.{service_namespace}.svc.{CLUSTER_DOMAIN}"
        short = f"{name}.{service_namespace} {name}.{service_namespace}.svc"
        own = f" {name}" if service_namespace == namespace else ""
        lines += [f"{address}\t{full} {short}{own}\n" for address in addresses]
    for alias in spec.get("hostAliases") or ():
        lines.append(f"{alias['ip']}\t{' '.join(alias.get('hostnames') or ())}\n")
    return "".join(lines)


def write_hosts(path: Path, text: str) -> None:
    """Write a hosts file in place, as it is bind-mounted, and never shorter than it was.

    A resolver that reads a truncated file would miss names that exist; so the rest is filled with newlines.
    """
    data = text.encode()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        os.pwrite(descriptor, data.ljust(size, b"\n"), 0)
    finally:
        os.close(descriptor)
