"""The one node as the API shows it: pure functions."""

import os
import platform
from typing import Any

from conformance.cluster.embedded.kubelet.environment import NODE_IP, NODE_NAME

Object = dict[str, Any]

KUBELET_VERSION = "v1.33.0+embedded"


def node_object() -> Object:
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
        "spec": {"podCIDR": "10.244.0.0/16", "podCIDRs": ["10.244.0.0/16"]},
    }


def node_status(previous: Object, *, now: str) -> Object:
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
            {"type": "InternalIP", "address": NODE_IP},
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
