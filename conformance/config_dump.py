"""What Envoy's configuration dump shows of a mesh's objects: the signs that Istio leaves of each kind.

Istio names a policy in its RBAC filter, and writes the path of a DestinationRule into the metadata of its
clusters and that of a VirtualService into those of its filter chains. A Service has clusters of its name. A
PeerAuthentication leaves no name: the port of a port-level mode has filter chains of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Shown", "read_dump"]

# Of istio.io/config: /apis/networking.istio.io/v1/namespaces/foo/destination-rule/name
KINDS = {"destination-rule": "DestinationRule", "virtual-service": "VirtualService"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What decides new connections in one sidecar. `policies`: namespace/name; `objects`:
    (kind, namespace/name); `inbound_ports`: those with filter chains of their own."""

    policies: frozenset[str]
    objects: frozenset[tuple[str, str]]
    inbound_ports: frozenset[int]


def read_dump(text: str) -> Shown:
    """What is active, without what is being warmed or drained. Raises ValueError for what is no dump."""
    body = json.loads(text)
    if not isinstance(body, dict) or not isinstance(body.get("configs"), list):
        raise ValueError("this is no configuration dump")
    listeners: list[Any] = []
    clusters: list[Any] = []
    for section in body["configs"]:
        kind = str(section.get("@type", ""))
        if kind.endswith("ListenersConfigDump"):
            listeners += [item.get("active_state") or {} for item in section.get("dynamic_listeners") or []]
        elif kind.endswith("ClustersConfigDump"):
            clusters += [item.get("cluster") or {} for item in section.get("dynamic_active_clusters") or []]
    return Shown(
        policies=frozenset(_policies(listeners)),
        objects=frozenset([*_configured([*listeners, *clusters]), *_services(clusters)]),
        inbound_ports=frozenset(_inbound_ports(listeners)),
    )


def _below(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a value, itself included."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for child in value:
            yield from _below(child)


def _policies(listeners: list[Any]) -> Iterator[str]:
    """The policies of all RBAC filters: keys such as ns[foo]-policy[p]-rule[0]."""
    for found in _below(listeners):
        names = found.get("policies")
        for name in names if isinstance(names, dict) else ():
            namespace, ok, rest = name.removeprefix("ns[").partition("]-policy[")
            if ok:
                yield f"{namespace}/{rest.partition(']-rule[')[0]}"


def _configured(values: list[Any]) -> Iterator[tuple[str, str]]:
    """What Istio's metadata says that a cluster, a filter chain or a route was made from."""
    for found in _below(values):
        metadata = found.get("filter_metadata")
        istio = metadata.get("istio") if isinstance(metadata, dict) else None
        path = istio.get("config") if isinstance(istio, dict) else None
        parts = path.split("/") if isinstance(path, str) else []
        if len(parts) == 8 and parts[4] == "namespaces" and parts[6] in KINDS:
            yield KINDS[parts[6]], f"{parts[5]}/{parts[7]}"


def _services(clusters: list[Any]) -> Iterator[tuple[str, str]]:
    """Of names such as outbound|9000|v1|tcp-echo.foo.svc.cluster.local."""
    for cluster in clusters:
        parts = str(cluster.get("name", "")).split("|")
        if len(parts) == 4 and parts[0] == "outbound":
            name, _, rest = parts[3].partition(".")
            namespace, service, _ = rest.partition(".svc.")
            if service:
                yield "Service", f"{namespace}/{name}"


def _inbound_ports(listeners: list[Any]) -> Iterator[int]:
    for state in listeners:
        listener = state.get("listener") or {}
        if listener.get("traffic_direction") == "INBOUND":
            for chain in listener.get("filter_chains") or []:
                port = (chain.get("filter_chain_match") or {}).get("destination_port")
                if port is not None:
                    yield int(port)
