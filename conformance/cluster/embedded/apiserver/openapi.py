"""OpenAPI v3: the index and, per group version, the paths that kubectl looks up before it applies.

kubectl asks one thing of these documents: whether a kind's PATCH takes `fieldValidation`. It does, so kubectl
leaves validation to the server. Custom resources publish their schema, too, for `kubectl explain`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.cluster.embedded.apiserver.registry import Registry, Resource

# kubectl falls back to version 2 for kinds that version 3 does not have. There are none: it is empty
# (gnostic's protobuf: field 1, swagger = "2.0"), and kubectl goes on to say that the kind has no mapping.
V2_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
EMPTY_V2 = b"\x0a\x032.0"


def index(registry: Registry) -> dict[str, Any]:
    paths = {}
    for group in registry.groups():
        for version in registry.versions(group):
            path = _path(group, version)
            url = f"/openapi/v3/{path}?hash={registry.generation}"
            paths[path] = {"serverRelativeURL": url}
    return {"paths": paths}


def document(registry: Registry, path: str) -> dict[str, Any] | None:
    """`path` is `api/v1` or `apis/<group>/<version>`; None where that is not served."""
    for group in registry.groups():
        for version in registry.versions(group):
            if _path(group, version) == path:
                return _document(registry, group, version)
    return None


def _path(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _document(registry: Registry, group: str, version: str) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for resource in registry.in_version(group, version):
        scope = "namespaces/{namespace}/" if resource.namespaced else ""
        kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        name = f"{'.'.join(reversed((group or 'core').split('.')))}.{version}.{resource.kind}"
        schemas[name] = _schema(resource, kind)
        item = f"/{_path(group, version)}/{scope}{resource.plural}/{{name}}"
        if "patch" in resource.verbs:
            paths[item] = {"get": _operation("get", kind, name), "patch": _operation("patch", kind, name)}
        if "create" in resource.verbs:
            paths[item.removesuffix("/{name}")] = {"post": _operation("post", kind, name)}
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.33.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _schema(resource: Resource, kind: Mapping[str, str]) -> dict[str, Any]:
    if resource.raw_schema is not None:
        return {**resource.raw_schema, "x-kubernetes-group-version-kind": [dict(kind)]}
    return {
        "type": "object",
        "x-kubernetes-group-version-kind": [dict(kind)],
        "x-kubernetes-preserve-unknown-fields": True,
    }


def _operation(action: str, kind: Mapping[str, str], schema: str) -> dict[str, Any]:
    options = (
        ("dryRun", "fieldManager", "fieldValidation", "force")
        if action == "patch"
        else ("dryRun", "fieldValidation")
    )
    parameters = (
        []
        if action == "get"
        else [
            {"name": option, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
            for option in options
        ]
    )
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {
        "operationId": f"{action}{kind['version']}{kind['kind']}",
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": content}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": dict(kind),
    }
