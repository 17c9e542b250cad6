"""PeerAuthentication: which transport a port takes, and so who a client is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from conformance.oracle.facts import Destination, Mesh
from conformance.oracle.validate import validate

__all__ = ["Mode", "mode_for"]


class Mode(Enum):
    STRICT = "STRICT"
    PERMISSIVE = "PERMISSIVE"
    DISABLE = "DISABLE"


def mode_for(
    documents: Sequence[Mapping[str, Any]], destination: Destination, mesh: Mesh
) -> tuple[Mode, str]:
    """The mode of the destination's port and who says so. Narrowest wins: port, workload, namespace, mesh;
    the oldest within one level (by creationTimestamp, else the first given), UNSET inherits."""
    found: dict[str, tuple[Mapping[str, Any], str]] = {}
    for document in sorted(documents, key=_age):
        spec = validate(document).spec
        metadata = document["metadata"]
        level = _level(spec, str(metadata.get("namespace", "")), destination, mesh)
        if level:
            found.setdefault(level, (spec, f"{metadata.get('namespace', '')}/{metadata['name']}"))
    mode, who = Mode.PERMISSIVE, "no PeerAuthentication"
    for level in ("mesh", "namespace", "workload"):
        if level in found:
            spec, name = found[level]
            mode, who = _set(spec.get("mtls"), mode, who, f"{name} ({level})")
    if "workload" in found:
        spec, name = found["workload"]
        port = (spec.get("portLevelMtls") or {}).get(str(destination.port))
        mode, who = _set(port, mode, who, f"{name} (port {destination.port})")
    return mode, who


def _age(document: Mapping[str, Any]) -> str:
    return str(document["metadata"].get("creationTimestamp") or "")


def _set(mtls: Mapping[str, Any] | None, mode: Mode, who: str, name: str) -> tuple[Mode, str]:
    text = (mtls or {}).get("mode", "UNSET")
    return (mode, who) if text == "UNSET" else (Mode(text), name)


def _level(spec: Mapping[str, Any], namespace: str, destination: Destination, mesh: Mesh) -> str:
    labels = (spec.get("selector") or {}).get("matchLabels") or {}
    if labels:
        # As the API reference says it; istiod ignores one with a selector in the root namespace.
        here = namespace in (destination.namespace, mesh.root_namespace)
        return "workload" if here and labels.items() <= destination.labels.items() else ""
    if namespace == mesh.root_namespace:
        return "mesh"
    return "namespace" if namespace == destination.namespace else ""
