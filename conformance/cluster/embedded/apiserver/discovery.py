"""Discovery: which groups, versions and resources are served; aggregated (v2) and legacy documents."""

from __future__ import annotations

from typing import Any

from conformance.cluster.embedded.apiserver.registry import Registry, Resource

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
VERSION = {
    "major": "1",
    "minor": "33",
    "gitVersion": "v1.33.0+embedded",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "cpython",
    "platform": "linux/amd64",
}
_SUBRESOURCE_VERBS = {
    "status": ["get", "patch", "update"],
    "scale": ["get", "patch", "update"],
    "finalize": ["update"],
    "log": ["get"],
    "exec": ["create", "get"],
    "eviction": ["create"],
    "token": ["create"],
}
_FOREIGN_KINDS = {  # kinds that a subresource takes from another group
    "Scale": ("autoscaling", "v1"),
    "TokenRequest": ("authentication.k8s.io", "v1"),
    "Eviction": ("policy", "v1"),
}


def aggregated_version(accept: str) -> str:
    """The aggregated discovery that the client takes ("v2", "v2beta1"), "" for legacy documents."""
    for offer in accept.split(","):
        words = {word.strip() for word in offer.split(";")}
        if "as=APIGroupDiscoveryList" in words:
            for version in ("v2", "v2beta1"):
                if f"v={version}" in words:
                    return version
    return ""


def aggregated(registry: Registry, *, version: str, core: bool) -> dict[str, Any]:
    groups = [group for group in registry.groups() if (group == "") is core]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": group} if group else {},
                "versions": [
                    {
                        "version": served,
                        "freshness": "Current",
                        "resources": [_resource(r) for r in registry.in_version(group, served)],
                    }
                    for served in registry.versions(group)
                ],
            }
            for group in groups
        ],
    }


def _kind(resource: Resource, kind: str) -> dict[str, str]:
    group, version = _FOREIGN_KINDS.get(kind, (resource.group, resource.version))
    return {"group": group, "version": version, "kind": kind}


def _resource(resource: Resource) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "resource": resource.plural,
        "responseKind": _kind(resource, resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular or resource.kind.lower(),
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if resource.subresources:
        entry["subresources"] = [
            {
                "subresource": name,
                "responseKind": _kind(resource, kind),
                "verbs": _SUBRESOURCE_VERBS[name],
            }
            for name, kind in resource.subresources.items()
        ]
    return entry


def api_versions() -> dict[str, Any]:
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [],
    }


def group_list(registry: Registry) -> dict[str, Any]:
    groups = [_group(registry, group) for group in registry.groups() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group_document(registry: Registry, group: str) -> dict[str, Any] | None:
    """None where the group is not served."""
    if not group or group not in registry.groups():
        return None
    return {"kind": "APIGroup", "apiVersion": "v1"} | _group(registry, group)


def _group(registry: Registry, group: str) -> dict[str, Any]:
    versions = [
        {"groupVersion": f"{group}/{version}", "version": version} for version in registry.versions(group)
    ]
    return {"name": group, "versions": versions, "preferredVersion": versions[0]}


def resource_list(registry: Registry, group: str, version: str) -> dict[str, Any] | None:
    """None where the version is not served."""
    resources = registry.in_version(group, version)
    if not resources:
        return None
    entries: list[dict[str, Any]] = []
    for resource in resources:
        entry: dict[str, Any] = {
            "name": resource.plural,
            "singularName": resource.singular or resource.kind.lower(),
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": list(resource.verbs),
        }
        if resource.short_names:
            entry["shortNames"] = list(resource.short_names)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        entries.append(entry)
        for name, kind in resource.subresources.items():
            foreign = _FOREIGN_KINDS.get(kind)
            entries.append(
                {
                    "name": f"{resource.plural}/{name}",
                    "singularName": "",
                    "namespaced": resource.namespaced,
                    "kind": kind,
                    "verbs": _SUBRESOURCE_VERBS[name],
                }
                | ({"group": foreign[0], "version": foreign[1]} if foreign else {})
            )
    group_version = f"{group}/{version}" if group else version
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": entries,
    }
