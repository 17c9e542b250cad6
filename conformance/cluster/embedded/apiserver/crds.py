"""CustomResourceDefinitions: checked, established at once, and turned into served resources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.cluster.embedded.apiserver.field_errors import invalid, required, unsupported
from conformance.cluster.embedded.apiserver.registry import CRDS, Column, Registry, Resource, ScalePaths
from conformance.cluster.embedded.apiserver.schema import StructuralSchema
from conformance.cluster.embedded.apiserver.status import FieldError, qualified
from conformance.cluster.embedded.apiserver.storage import Storage

CLEANUP = "customresourcecleanup.apiextensions.k8s.io"


def default_definition(crd: Mapping[str, Any]) -> dict[str, Any]:
    """The definition with the names and the conversion that may be left out."""
    spec = dict(crd.get("spec") or {})
    names = dict(spec.get("names") or {})
    kind = names.get("kind", "")
    names.setdefault("singular", kind.lower())
    names.setdefault("listKind", f"{kind}List")
    spec["names"] = names
    spec.setdefault("conversion", {"strategy": "None"})
    return {**crd, "spec": spec}


def validate_definition(crd: Mapping[str, Any], registry: Registry) -> list[FieldError]:
    spec = crd["spec"]
    names = spec["names"]
    group, plural = spec.get("group", ""), names.get("plural", "")
    errors = [
        required(f"spec.{path}", "")
        for path, value in (("group", group), ("names.plural", plural), ("names.kind", names.get("kind")))
        if not value
    ]
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        errors.append(unsupported("spec.scope", spec.get("scope", ""), ("Cluster", "Namespaced")))
    if crd["metadata"].get("name") != f"{plural}.{group}":
        errors.append(
            invalid("metadata.name", crd["metadata"].get("name"), 'must be spec.names.plural+"."+spec.group')
        )
    if registry.names_taken(group, plural):
        errors.append(invalid("spec.names.plural", plural, "is served by the API server itself"))
    if spec["conversion"].get("strategy") != "None":
        errors.append(
            unsupported("spec.conversion.strategy", spec["conversion"].get("strategy", ""), ("None",))
        )
    versions = spec.get("versions")
    if not isinstance(versions, list) or not versions:
        errors.append(required("spec.versions", "must have at least one version"))
        return errors
    if sum(bool(version.get("storage")) for version in versions) != 1:
        errors.append(invalid("spec.versions", "", "must have exactly one version marked as storage version"))
    for index, version in enumerate(versions):
        path = f"spec.versions[{index}].schema.openAPIV3Schema"
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if schema is None:
            errors.append(required(path, "schemas are required"))
            continue
        try:
            StructuralSchema.compile(schema)
        except ValueError as error:
            errors.append(FieldError(path=path, type="FieldValueInvalid", message=f"Invalid value: {error}"))
    return errors


def established_status(crd: Mapping[str, Any], *, now: str) -> dict[str, Any]:
    """The status of a definition that is accepted and served at once."""
    spec = crd["spec"]
    old = crd.get("status") or {}
    stored = next(version["name"] for version in spec["versions"] if version.get("storage"))
    conditions = [
        ("NamesAccepted", "NoConflicts", "no conflicts found"),
        ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ]
    since = {c["type"]: c["lastTransitionTime"] for c in old.get("conditions") or [] if "type" in c}
    return {
        "acceptedNames": spec["names"],
        "storedVersions": list(dict.fromkeys([*old.get("storedVersions", []), stored])),
        "conditions": [
            {
                "type": kind,
                "status": "True",
                "reason": reason,
                "message": message,
                "lastTransitionTime": since.get(kind, now),
            }
            for kind, reason, message in conditions
        ],
    }


def resources_of(crd: Mapping[str, Any]) -> list[Resource]:
    """The served versions of a valid definition."""
    spec = crd["spec"]
    names = spec["names"]
    storage_version = next(version["name"] for version in spec["versions"] if version.get("storage"))
    resources = []
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        schema = version["schema"]["openAPIV3Schema"]
        subresources = version.get("subresources") or {}
        api_version = f"{spec['group']}/{version['name']}"
        warning = version.get("deprecationWarning") or f"{api_version} {names['kind']} is deprecated"
        resources.append(
            Resource(
                group=spec["group"],
                version=version["name"],
                plural=names["plural"],
                kind=names["kind"],
                namespaced=spec["scope"] == "Namespaced",
                singular=names["singular"],
                list_kind=names["listKind"],
                short_names=tuple(names.get("shortNames") or ()),
                categories=tuple(names.get("categories") or ()),
                subresources={name: "Scale" if name == "scale" else names["kind"] for name in subresources},
                storage_version=storage_version,
                custom=True,
                schema=StructuralSchema.compile(schema),
                raw_schema=schema,
                columns=_columns(version),
                scale=_scale(subresources.get("scale")),
                deprecation=warning if version.get("deprecated") else "",
            )
        )
    return resources


def _columns(version: Mapping[str, Any]) -> tuple[Column, ...]:
    return tuple(
        Column(
            name=column["name"],
            type=column["type"],
            path=column["jsonPath"],
            format=column.get("format", ""),
            description=column.get("description", ""),
            priority=column.get("priority", 0),
        )
        for column in version.get("additionalPrinterColumns") or ()
    )


def _scale(paths: Mapping[str, Any] | None) -> ScalePaths | None:
    if not paths:
        return None
    return ScalePaths(
        spec=paths["specReplicasPath"],
        status=paths["statusReplicasPath"],
        selector=paths.get("labelSelectorPath"),
    )


def serve(registry: Registry, crd: Mapping[str, Any]) -> None:
    spec = crd["spec"]
    registry.replace_custom(spec["group"], spec["names"]["plural"], resources_of(crd))


def withdraw(registry: Registry, storage: Storage, crd: Mapping[str, Any]) -> None:
    """The definition is gone: so are its resources and what is left of their objects."""
    spec = crd["spec"]
    registry.replace_custom(spec["group"], spec["names"]["plural"], ())
    storage.drop(qualified(spec["names"]["plural"], spec["group"]))


def serve_all(registry: Registry, storage: Storage) -> None:
    """At start: what the storage already holds."""
    for crd in storage.all(CRDS):
        serve(registry, crd)
