"""An object on its way into the storage: pruned, defaulted, validated, and given what the server decides."""

from __future__ import annotations

import secrets
import uuid
from typing import Any

from conformance.cluster.embedded.apiserver.crds import (
    default_definition,
    established_status,
    validate_definition,
)
from conformance.cluster.embedded.apiserver.defaults import apply_defaults, strip_nulls
from conformance.cluster.embedded.apiserver.field_errors import forbidden, invalid
from conformance.cluster.embedded.apiserver.names import metadata_errors
from conformance.cluster.embedded.apiserver.registry import CRDS, Registry, Resource
from conformance.cluster.embedded.apiserver.requests import Call, report_fields
from conformance.cluster.embedded.apiserver.server import now
from conformance.cluster.embedded.apiserver.status import FieldError
from conformance.cluster.embedded.apiserver.status import conflict as conflict_error
from conformance.cluster.embedded.apiserver.status import invalid as invalid_error
from conformance.cluster.embedded.apiserver.storage import Object
from conformance.cluster.embedded.apiserver.typed import check_types, prune
from conformance.cluster.embedded.apiserver.validation import object_errors

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
# What only the server writes; an update keeps the stored values.
_SYSTEM = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
)
_COUNTS_GENERATIONS = frozenset(
    (
        *("deployments.apps", "endpointslices.discovery.k8s.io", "networkpolicies.networking.k8s.io", CRDS),
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
    )
)
_DROPS_STATUS = frozenset(("deployments.apps", "pods", "services", "nodes", "resourcequotas"))


def clean(call: Call, obj: Object, *, report: bool = True) -> Object:
    """The object as its kind knows it: no unknown fields or nulls, with defaults. Raises ApiError 400."""
    resource = call.resource
    if resource.schema is not None:
        pruned, unknown = resource.schema.prune(obj)
        if report:
            report_fields(call, [f'unknown field "{path}"' for path in unknown], call.field_validation)
        return resource.schema.default(pruned)
    check_types(obj)
    obj, unknown = prune(obj)
    if report:
        report_fields(call, [f'unknown field "{path}"' for path in unknown], call.field_validation)
    cleaned: Object = strip_nulls(obj)
    cleaned.setdefault("metadata", {})
    if resource.key == CRDS:
        return default_definition(cleaned)
    apply_defaults(resource.key, cleaned)
    return cleaned


def validate(resource: Resource, registry: Registry, obj: Object, old: Object | None) -> None:
    """Raises ApiError 422 with everything that is wrong."""
    errors: list[FieldError] = list(metadata_errors(obj, key=resource.key))
    if resource.schema is not None:
        errors += resource.schema.validate(obj, old)
    elif resource.key == CRDS:
        errors += validate_definition(obj, registry)
    else:
        errors += object_errors(obj, old, key=resource.key)
    if old is not None:
        errors += _finalizer_errors(obj, old)
    if errors:
        raise invalid_error(resource.kind, obj["metadata"].get("name", ""), errors, group=resource.group)


def _finalizer_errors(obj: Object, old: Object) -> list[FieldError]:
    if "deletionTimestamp" not in old["metadata"]:
        return []
    before = set(old["metadata"].get("finalizers") or ())
    added = [f for f in obj["metadata"].get("finalizers") or () if f not in before]
    if not added:
        return []
    why = "no new finalizers can be added if the object is being deleted"
    return [
        forbidden(
            "metadata.finalizers", f"{why}, found new finalizers []string{{{', '.join(map(repr, added))}}}"
        )
    ]


def for_create(call: Call, obj: Object) -> Object:
    """What the server says of a new object, not its creator. Changes `obj`, the request's own."""
    resource = call.resource
    metadata: dict[str, Any] = obj["metadata"]
    for name in (*_SYSTEM, "resourceVersion"):
        metadata.pop(name, None)
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = generated_name(metadata["generateName"])
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = now()
    if counts_generations(resource):
        metadata["generation"] = 1
    if (resource.custom and "status" in resource.subresources) or resource.key in _DROPS_STATUS:
        obj.pop("status", None)
    if resource.key == "namespaces":
        obj["spec"] = {**(obj.get("spec") or {}), "finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}
    return obj


def tidy(metadata: dict[str, Any]) -> dict[str, Any]:
    """Empty lists, maps and strings are not stored: `kubectl label x-` leaves no empty `labels`."""
    return {name: value for name, value in metadata.items() if value not in ({}, [], "", None)}


def generated_name(prefix: str) -> str:
    return prefix[:58] + "".join(secrets.choice(_SUFFIX) for _ in range(5))


def counts_generations(resource: Resource) -> bool:
    return resource.custom or resource.key in _COUNTS_GENERATIONS


def for_update(call: Call, obj: Object, live: Object) -> Object:
    """`obj` in place of `live`: the server's own fields stay, and each subresource changes only its part."""
    resource = call.resource
    check_version(resource, obj, live)
    old = live["metadata"]
    subresource = call.target.subresource
    if subresource == "status":
        merged = {**live, "apiVersion": obj["apiVersion"]}
        if "status" in obj:
            merged["status"] = obj["status"]
        else:
            merged.pop("status", None)
        return merged
    if subresource == "finalize":
        finalizers = (obj.get("spec") or {}).get("finalizers") or []
        return {**live, "spec": {**(live.get("spec") or {}), "finalizers": finalizers}}
    metadata = {k: v for k, v in obj["metadata"].items() if k not in _SYSTEM}
    metadata |= {name: old[name] for name in _SYSTEM if name in old}
    metadata["resourceVersion"] = old["resourceVersion"]
    if "managedFields" in old:  # clients that rewrite what they read do not give up what others applied
        metadata.setdefault("managedFields", old["managedFields"])
    merged = {**obj, "metadata": metadata}
    if "status" in resource.subresources:
        merged.pop("status", None)
        if "status" in live:
            merged["status"] = live["status"]
    if resource.key == "namespaces":
        merged["spec"] = live.get("spec") or {}
    if resource.key == "services":
        _keep_addresses(merged, live)
    if counts_generations(resource) and _desired(merged) != _desired(live):
        metadata["generation"] = old.get("generation", 0) + 1
    return merged


def check_version(resource: Resource, obj: Object, live: Object) -> None:
    """Raises ApiError where the writer saw another version, or another object of that name."""
    metadata, old = obj["metadata"], live["metadata"]
    asked = metadata.get("resourceVersion")
    if asked and asked != old["resourceVersion"]:
        raise conflict_error(resource.plural, old["name"], group=resource.group)
    if not asked and resource.custom:
        error = invalid("metadata.resourceVersion", 0, "must be specified for an update")
        raise invalid_error(resource.kind, old["name"], [error], group=resource.group)
    uid = metadata.get("uid")
    if uid and uid != old["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old['uid']}"
        raise conflict_error(resource.plural, old["name"], why, group=resource.group)


def _keep_addresses(service: Object, live: Object) -> None:
    """A client that leaves the cluster IP out of an update keeps it."""
    spec, old = service["spec"], live["spec"]
    if spec.get("type") == "ExternalName" or old.get("type") == "ExternalName":
        return
    given = {
        name: old[name] for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy") if name in old
    }
    missing = {name: value for name, value in given.items() if not spec.get(name)}
    if missing:
        service["spec"] = {**spec, **missing}


def _desired(obj: Object) -> Object:
    return {name: value for name, value in obj.items() if name not in ("apiVersion", "metadata", "status")}


def finished(resource: Resource, obj: Object) -> bool:
    """Whether nothing holds a deleted object any longer."""
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
        return False
    if resource.key == "namespaces":
        return not (obj.get("spec") or {}).get("finalizers")
    return not metadata.get("deletionGracePeriodSeconds")


def established(obj: Object) -> Object:
    """A definition with the status of one that is served."""
    return {**obj, "status": established_status(obj, now=now())}
