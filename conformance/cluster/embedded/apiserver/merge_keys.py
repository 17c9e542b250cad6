"""Which lists of an object are maps by key: shared by strategic merge patch and server-side apply.

A path is the chain of field names from the object's root, without list positions:
`("spec", "template", "spec", "containers", "ports")`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Path = tuple[str, ...]
ListKeys = Callable[[Path], tuple[str, ...]]  # () = the list is one value

SET = "="  # the "key" of a list of distinct scalars

# patchMergeKey of k8s.io/api, by the last two field names.
_ANYWHERE: Mapping[Path, str] = {
    ("metadata", "ownerReferences"): "uid",
    ("metadata", "finalizers"): SET,
    ("spec", "containers"): "name",
    ("spec", "initContainers"): "name",
    ("spec", "ephemeralContainers"): "name",
    ("spec", "volumes"): "name",
    ("spec", "imagePullSecrets"): "name",
    ("spec", "hostAliases"): "ip",
    ("spec", "topologySpreadConstraints"): "topologyKey",
    ("spec", "schedulingGates"): "name",
    ("spec", "resourceClaims"): "name",
    ("containers", "ports"): "containerPort",
    ("containers", "env"): "name",
    ("containers", "volumeMounts"): "mountPath",
    ("containers", "volumeDevices"): "devicePath",
    ("initContainers", "ports"): "containerPort",
    ("initContainers", "env"): "name",
    ("initContainers", "volumeMounts"): "mountPath",
    ("initContainers", "volumeDevices"): "devicePath",
    ("status", "conditions"): "type",
    ("status", "podIPs"): "ip",
    ("status", "hostIPs"): "ip",
    ("status", "addresses"): "type",
}
# And where only one kind has it.
_BY_KIND: Mapping[str, Mapping[Path, str]] = {
    "Service": {("spec", "ports"): "port"},
    "ServiceAccount": {("secrets",): "name", ("imagePullSecrets",): "name"},
    "MutatingWebhookConfiguration": {("webhooks",): "name"},
    "ValidatingWebhookConfiguration": {("webhooks",): "name"},
}
# Objects that a patch with $retainKeys replaces but for the named keys need no table: the directive says it.


def builtin_list_keys(kind: str) -> ListKeys:
    own = _BY_KIND.get(kind, {})

    def find(path: Path) -> tuple[str, ...]:
        key = own.get(path) or _ANYWHERE.get(path[-2:])
        return (key,) if key else ()

    return find


def schema_list_keys(schema: Mapping[str, Any]) -> ListKeys:
    """From x-kubernetes-list-type of a custom resource's OpenAPI schema."""

    def find(path: Path) -> tuple[str, ...]:
        if path[:1] == ("metadata",):
            key = _ANYWHERE.get(path[-2:])
            return (key,) if key else ()
        node: Any = schema
        for name in path:
            while isinstance(node, Mapping) and node.get("type") == "array":
                node = node.get("items")
            node = node.get("properties", {}).get(name) if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping):
            return ()
        if node.get("x-kubernetes-list-type") == "map":
            return tuple(node.get("x-kubernetes-list-map-keys", ()))
        return (SET,) if node.get("x-kubernetes-list-type") == "set" else ()

    return find
