"""The one node as the API shows it: pure functions."""

import os
import platform
from typing import Any

from conformance.cluster.embedded.kubelet.environment import NODE_IP, NODE_IP6, NODE_NAME
from conformance.cluster.embedded.node.network import PODS6

Object = dict[str, Any]

PODS = "10.244.0.0/16"
KUBELET_VERSION = "v1.33.0+embedded"


def node_object(*, ipv6: bool = False) -> Object:
    """The node as it registers itself."""
    labels = {
        "kubernetes.io/hostname": NODE_NAME,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture(),
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE_NAME, "labels": labels},
        "spec": {"podCIDR": PODS, "podCIDRs": [PODS, PODS6] if ipv6 else [PODS]},
    }


def node_status(previous: Object, *, now: str, ipv6: bool = False) -> Object:
    """The node's status; it is ready whenever it can say so."""
    before = {condition["type"]: condition for condition in previous.get("conditions") or ()}
    ready = before.get("Ready") or {}
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "kubelet is posting ready status",
        "lastHeartbeatTime": now,
        "lastTransitionTime": ready.get("lastTransitionTime") or now,
    }
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    amounts = {"cpu": str(os.cpu_count() or 1), "memory": f"{memory}Ki", "pods": "1000"}
    system = platform.uname()
    return {
        "conditions": [condition],
        "addresses": [
            *({"type": "InternalIP", "address": ip} for ip in (NODE_IP, NODE_IP6)[: 1 + ipv6]),
            {"type": "Hostname", "address": NODE_NAME},
        ],
        "capacity": amounts,
        "allocatable": amounts,
        "nodeInfo": {
            "architecture": architecture(),
            "operatingSystem": "linux",
            "kernelVersion": system.release,
            "osImage": "the host's",
            "containerRuntimeVersion": "embedded://1",
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": KUBELET_VERSION,
            "machineID": "",
            "systemUUID": "",
            "bootID": "",
        },
    }


def architecture() -> str:
    """The machine's architecture by Go's name."""
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
