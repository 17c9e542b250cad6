"""What a cluster holds before anyone writes to it: namespaces, roles, and the Service of the API itself."""

from __future__ import annotations

import uuid
from typing import Any

from conformance.cluster.embedded.apiserver.rbac_bootstrap import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, RBAC
from conformance.cluster.embedded.apiserver.server import now
from conformance.cluster.embedded.apiserver.storage import Object, Storage

NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
API_SERVICE_IP = "10.96.0.1"
API_SERVICE_PORT = 443


def bootstrap(storage: Storage, *, address: str, port: int) -> None:
    """Fill an empty storage. `address`:`port` is where pods reach the API behind the `kubernetes` Service."""
    for name in NAMESPACES:
        labels = {"kubernetes.io/metadata.name": name}
        _put(
            storage,
            "namespaces",
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": labels},
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            },
        )
    for role in CLUSTER_ROLES:
        _put(storage, f"clusterroles.{RBAC}", role)
    for binding in CLUSTER_ROLE_BINDINGS:
        _put(storage, f"clusterrolebindings.{RBAC}", binding)
    _api_service(storage, address=address, port=port)


def _api_service(storage: Storage, *, address: str, port: int) -> None:
    metadata = {
        "name": "kubernetes",
        "namespace": "default",
        "labels": {"component": "apiserver", "provider": "kubernetes"},
    }
    service: Object = {
        "type": "ClusterIP",
        "clusterIP": API_SERVICE_IP,
        "clusterIPs": [API_SERVICE_IP],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
        "sessionAffinity": "None",
        "ports": [{"name": "https", "port": API_SERVICE_PORT, "protocol": "TCP", "targetPort": port}],
    }
    _put(
        storage,
        "services",
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": service,
            "status": {"loadBalancer": {}},
        },
    )
    ports = [{"name": "https", "port": port, "protocol": "TCP"}]
    _put(
        storage,
        "endpoints",
        {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": metadata,
            "subsets": [{"addresses": [{"ip": address}], "ports": ports}],
        },
    )
    _put(
        storage,
        "endpointslices.discovery.k8s.io",
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            "ports": ports,
        },
    )


def _put(storage: Storage, resource: str, obj: dict[str, Any]) -> None:
    metadata = {**obj["metadata"], "uid": str(uuid.uuid4()), "creationTimestamp": now()}
    storage.put(resource, {**obj, "metadata": metadata}, seen=None)
