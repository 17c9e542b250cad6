"""Tables, the answers that `kubectl get` prints: columns by kind, cells from objects.

Source of columns and words: k8s.io/kubernetes/pkg/printers/internalversion/printers.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.cluster.embedded.apiserver.ages import age
from conformance.cluster.embedded.apiserver.jsonpath import select
from conformance.cluster.embedded.apiserver.pod_columns import pod_cells
from conformance.cluster.embedded.apiserver.registry import Resource

Object = dict[str, Any]
Cells = Callable[[Object], list[Any]]

_META_VERSION = "meta.k8s.io/v1"


def table(
    resource: Resource, items: list[Object], *, include: str = "", metadata: Object | None = None
) -> Object:
    """`include` is the includeObject option: Metadata (the default), Object or None."""
    columns, cells = _layout(resource)
    rows = []
    for item in items:
        row: Object = {"cells": cells(item)}
        if include == "Object":
            row["object"] = item
        elif include != "None":
            row["object"] = {
                "kind": "PartialObjectMetadata",
                "apiVersion": _META_VERSION,
                "metadata": item["metadata"],
            }
        rows.append(row)
    if metadata is None:
        metadata = {"resourceVersion": items[0]["metadata"]["resourceVersion"]} if len(items) == 1 else {}
    return {
        "kind": "Table",
        "apiVersion": _META_VERSION,
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    }


def _age(obj: Object) -> str:
    return age(obj["metadata"].get("creationTimestamp"))


def _column(name: str) -> Object:
    """`Node*` is shown with -o wide only; the first column is the name."""
    wide = name.endswith("*")
    name = name.rstrip("*")
    return {
        "name": name,
        "type": "string",
        "format": "name" if name == "Name" else "",
        "description": name,
        "priority": int(wide),
    }


def _layout(resource: Resource) -> tuple[list[Object], Cells]:
    if resource.columns:
        return _custom(resource)
    if resource.key == "events":
        return [_column(name) for name in ("Last Seen", "Type", "Reason", "Object", "Message")], _event
    names, cells = _KINDS.get(resource.key, ("Name Age", lambda obj: [_age(obj)]))
    columns = [_column(name.replace("_", " ")) for name in names.split()]
    return columns, lambda obj: [obj["metadata"]["name"], *cells(obj)]


def _custom(resource: Resource) -> tuple[list[Object], Cells]:
    columns = [_column("Name")]
    for column in resource.columns:
        columns.append(
            {
                "name": column.name,
                "type": column.type,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            }
        )

    def cells(obj: Object) -> list[Any]:
        row: list[Any] = [obj["metadata"]["name"]]
        for column in resource.columns:
            values = select(obj, column.path)
            if not values:
                row.append(None)
            elif column.type == "date":
                row.append(age(str(values[0])))
            elif column.type == "string":
                row.append(", ".join(_plain(value) for value in values))
            else:
                row.append(values[0])
        return row

    return columns, cells


def _plain(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def labels_text(labels: Object | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or "<none>"


def _selector_text(selector: Object | None) -> str:
    return labels_text((selector or {}).get("matchLabels"))


def _namespace(obj: Object) -> list[Any]:
    return [(obj.get("status") or {}).get("phase", ""), _age(obj)]


def _deployment(obj: Object) -> list[Any]:
    spec, status = obj["spec"], obj.get("status") or {}
    containers = spec["template"]["spec"].get("containers") or []
    return [
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        _age(obj),
        ",".join(container["name"] for container in containers),
        ",".join(container["image"] for container in containers),
        _selector_text(spec.get("selector")),
    ]


def _service(obj: Object) -> list[Any]:
    spec = obj["spec"]
    ports = []
    for port in spec.get("ports") or ():
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        ports.append(f"{port['port']}{node}/{port.get('protocol', 'TCP')}")
    kind = spec.get("type", "ClusterIP")
    external = ",".join(spec.get("externalIPs") or ()) or "<none>"
    if kind == "ExternalName":
        external = spec.get("externalName", "")
    elif kind == "LoadBalancer" and external == "<none>":
        external = "<pending>"
    return [
        kind,
        spec.get("clusterIP") or "<none>",
        external,
        ",".join(ports) or "<none>",
        _age(obj),
        labels_text(spec.get("selector")),
    ]


def _node(obj: Object) -> list[Any]:
    status = obj.get("status") or {}
    ready = next((c["status"] for c in status.get("conditions") or () if c.get("type") == "Ready"), "Unknown")
    prefix = "node-role.kubernetes.io/"
    labels = obj["metadata"].get("labels") or {}
    roles = ",".join(sorted(label.removeprefix(prefix) for label in labels if label.startswith(prefix)))
    info = status.get("nodeInfo") or {}
    addresses = {a["type"]: a["address"] for a in status.get("addresses") or ()}
    return [
        {"True": "Ready", "False": "NotReady"}.get(ready, "Unknown"),
        roles or "<none>",
        _age(obj),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP", "<none>"),
    ]


def _endpoints(obj: Object) -> list[Any]:
    found = [
        f"{address['ip']}:{port['port']}"
        for subset in obj.get("subsets") or ()
        for address in subset.get("addresses") or ()
        for port in subset.get("ports") or ()
    ]
    more = f" + {len(found) - 3} more..." if len(found) > 3 else ""
    return [(",".join(found[:3]) or "<none>") + more, _age(obj)]


def _endpoint_slice(obj: Object) -> list[Any]:
    ports = ",".join(str(port.get("port", "")) for port in obj.get("ports") or ()) or "<unset>"
    addresses = [a for endpoint in obj.get("endpoints") or () for a in endpoint.get("addresses") or ()]
    more = f" + {len(addresses) - 3} more..." if len(addresses) > 3 else ""
    return [obj.get("addressType", ""), ports, (",".join(addresses[:3]) or "<unset>") + more, _age(obj)]


def _event(obj: Object) -> list[Any]:
    about = obj.get("involvedObject") or {}
    seen = obj.get("lastTimestamp") or obj.get("eventTime") or obj["metadata"].get("creationTimestamp")
    return [
        age(seen),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{about.get('kind', '').lower()}/{about.get('name', '')}",
        str(obj.get("message", "")).strip(),
    ]


def _binding(obj: Object) -> list[Any]:
    role = obj["roleRef"]
    return [f"{role.get('kind')}/{role.get('name')}", _age(obj)]


def _created(obj: Object) -> list[Any]:
    return [obj["metadata"].get("creationTimestamp", "")]


_RBAC = "rbac.authorization.k8s.io"
_HOOKS = "admissionregistration.k8s.io"
_KINDS: dict[str, tuple[str, Cells]] = {
    "namespaces": ("Name Status Age", _namespace),
    "pods": ("Name Ready Status Restarts Age IP* Node* Nominated_Node* Readiness_Gates*", pod_cells),
    "deployments.apps": (
        "Name Ready Up-to-date Available Age Containers* Images* Selector*",
        _deployment,
    ),
    "services": ("Name Type Cluster-IP External-IP Port(s) Age Selector*", _service),
    "nodes": ("Name Status Roles Age Version Internal-IP*", _node),
    "endpoints": ("Name Endpoints Age", _endpoints),
    "endpointslices.discovery.k8s.io": ("Name AddressType Ports Endpoints Age", _endpoint_slice),
    "configmaps": (
        "Name Data Age",
        lambda obj: [len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), _age(obj)],
    ),
    "secrets": (
        "Name Type Data Age",
        lambda obj: [obj.get("type", ""), len(obj.get("data") or {}), _age(obj)],
    ),
    "serviceaccounts": ("Name Secrets Age", lambda obj: [len(obj.get("secrets") or ()), _age(obj)]),
    "leases.coordination.k8s.io": (
        "Name Holder Age",
        lambda obj: [(obj.get("spec") or {}).get("holderIdentity", ""), _age(obj)],
    ),
    "networkpolicies.networking.k8s.io": (
        "Name Pod-Selector Age",
        lambda obj: [_selector_text(obj["spec"].get("podSelector")), _age(obj)],
    ),
    f"roles.{_RBAC}": ("Name Created_At", _created),
    f"clusterroles.{_RBAC}": ("Name Created_At", _created),
    f"rolebindings.{_RBAC}": ("Name Role Age", _binding),
    f"clusterrolebindings.{_RBAC}": ("Name Role Age", _binding),
    "customresourcedefinitions.apiextensions.k8s.io": ("Name Created_At", _created),
    f"mutatingwebhookconfigurations.{_HOOKS}": (
        "Name Webhooks Age",
        lambda obj: [len(obj.get("webhooks") or ()), _age(obj)],
    ),
    f"validatingwebhookconfigurations.{_HOOKS}": (
        "Name Webhooks Age",
        lambda obj: [len(obj.get("webhooks") or ()), _age(obj)],
    ),
}
