"""Create, update and patch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from conformance.cluster.embedded import crds
from conformance.cluster.embedded.answers import answer_object
from conformance.cluster.embedded.apply import server_side_apply
from conformance.cluster.embedded.defaults import strip_nulls
from conformance.cluster.embedded.merge_keys import ListKeys, builtin_list_keys, schema_list_keys
from conformance.cluster.embedded.objects import (
    clean,
    established,
    finished,
    for_create,
    for_update,
    generated_name,
    validate,
)
from conformance.cluster.embedded.patch import json_patch, merge_patch
from conformance.cluster.embedded.registry import CRDS
from conformance.cluster.embedded.requests import (
    APPLY_PATCHES,
    JSON_PATCH,
    JSON_TYPE,
    MERGE_PATCH,
    STRATEGIC_PATCH,
    Call,
    check_names,
    check_object,
    media_type,
    parse_json,
    parse_yaml,
    read_object,
    report_fields,
)
from conformance.cluster.embedded.server import Server, attributes, now
from conformance.cluster.embedded.service_addresses import assign_addresses
from conformance.cluster.embedded.status import (
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_found,
    unsupported_media_type,
)
from conformance.cluster.embedded.storage import Object, Stale
from conformance.cluster.embedded.strategic import strategic_merge
from conformance.cluster.embedded.typed import check_types, unknown_fields

Change = Callable[[Object], Object]  # a live object -> what the client wants in its place
_ATTEMPTS = 10  # to write a patch over a moving object
_NAME_ATTEMPTS = 8  # to find a free generated name


async def create(server: Server, call: Call) -> web.StreamResponse:
    obj = await read_object(call)
    return answer_object(call, await create_object(server, call, obj), code=201)


async def create_object(server: Server, call: Call, obj: Object) -> Object:
    """`obj` belongs to this call and is changed. Raises ApiError."""
    resource, target = call.resource, call.target
    metadata = obj["metadata"]
    if resource.namespaced:
        metadata["namespace"] = metadata.get("namespace") or target.namespace
    elif metadata.get("namespace"):
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    check_names(call, obj)
    if metadata.get("resourceVersion"):
        raise bad_request("resourceVersion should not be set on objects to be created")
    _check_namespace(server, call, str(metadata.get("name") or ""))
    obj = for_create(call, clean(call, obj))
    name = obj["metadata"].get("name", "")
    mutated, warnings = await server.admission.mutate(
        attributes(call, "CREATE", name=name, obj=obj, old=None)
    )
    call.warnings.extend(warnings)
    if mutated is not obj:
        obj = clean(call, mutated, report=False)
    if resource.key == CRDS:
        obj["metadata"].setdefault("finalizers", [crds.CLEANUP])
    validate(resource, server.registry, obj, None)
    call.warnings.extend(await server.admission.validate(attributes(call, "CREATE", name=name, obj=obj, old=None)))
    _check_namespace(server, call, name)  # it may have begun to terminate while webhooks were asked
    for attempt in range(_NAME_ATTEMPTS):
        if server.storage.get(resource.key, target.namespace, obj["metadata"]["name"]) is None:
            break
        if not obj["metadata"].get("generateName") or attempt == _NAME_ATTEMPTS - 1:
            raise already_exists(resource.plural, obj["metadata"]["name"], group=resource.group)
        obj["metadata"]["name"] = generated_name(obj["metadata"]["generateName"])
    return _store(server, call, obj, None)


def _check_namespace(server: Server, call: Call, name: str) -> None:
    """A namespaced object needs a namespace that is there to stay."""
    namespace = call.target.namespace
    if not call.resource.namespaced:
        return
    found = server.storage.get("namespaces", "", namespace)
    if found is None:
        raise not_found("namespaces", namespace)
    if "deletionTimestamp" in found["metadata"]:
        raise forbidden(
            call.resource.plural,
            name,
            f"unable to create new content in namespace {namespace} because it is being terminated",
            group=call.resource.group,
            causes=[
                {
                    "reason": "NamespaceTerminating",
                    "message": f"namespace {namespace} is being terminated",
                    "field": "metadata.namespace",
                }
            ],
        )


async def update(server: Server, call: Call) -> web.StreamResponse:
    obj = await read_object(call)
    metadata = obj["metadata"]
    if call.resource.namespaced:
        metadata["namespace"] = metadata.get("namespace") or call.target.namespace
    metadata["name"] = metadata.get("name") or call.target.name
    check_names(call, obj)
    obj = clean(call, obj)
    pinned = bool(metadata.get("resourceVersion"))
    return answer_object(call, await change_object(server, call, lambda _: obj, pinned=pinned))


async def change_object(server: Server, call: Call, change: Change, *, pinned: bool) -> Object:
    """Put what `change` makes of the live object in its place; again where it moved, unless `pinned`.

    What `change` returns is already clean. Raises ApiError.
    """
    resource, target = call.resource, call.target
    for _ in range(1 if pinned else _ATTEMPTS):
        live = server.storage.get(resource.key, target.namespace, target.name)
        if live is None:
            raise not_found(resource.plural, target.name, group=resource.group)
        obj = for_update(call, change(live), live)
        seen = {**live, "apiVersion": resource.api_version}
        asked = attributes(call, "UPDATE", name=target.name, obj=obj, old=seen)
        mutated, warnings = await server.admission.mutate(asked)
        if mutated is not obj:
            obj = for_update(call, clean(call, mutated, report=False), live)
        validate(resource, server.registry, obj, live)
        asked = attributes(call, "UPDATE", name=target.name, obj=obj, old=seen)
        warnings = [*warnings, *await server.admission.validate(asked)]
        try:
            stored = _store(server, call, obj, live)
        except Stale:
            continue
        call.warnings.extend(warnings)
        return stored
    raise conflict(resource.plural, target.name, group=resource.group)


def _store(server: Server, call: Call, obj: Object, live: Object | None) -> Object:
    """The last step, without awaiting: addresses, the no-change short cut, dry run, finalizers. Raises Stale."""
    resource = call.resource
    obj = (
        obj
        if obj["apiVersion"] == resource.stored_api_version
        else {
            **obj,
            "apiVersion": resource.stored_api_version,
        }
    )
    if resource.key == "services" and not call.target.subresource:
        obj, errors = assign_addresses(obj, server.objects("services"))
        if errors:
            raise invalid(resource.kind, obj["metadata"]["name"], errors)
    if resource.key == CRDS and call.target.subresource != "status":
        obj = established(obj)
    if live is not None and obj == live:
        return live
    if call.dry_run:
        return obj
    if live is not None and finished(resource, obj):
        return remove_object(server, resource.key, server.storage.put(resource.key, obj, seen=live))
    stored = server.storage.put(resource.key, obj, seen=live)
    if resource.key == CRDS:
        crds.serve(server.registry, stored)
    return stored


def remove_object(server: Server, key: str, obj: Object) -> Object:
    """Take `obj` out of the storage, and out of service what hangs on it."""
    last = server.storage.remove(key, obj)
    if key == CRDS:
        crds.withdraw(server.registry, server.storage, obj)
        return last
    # The last object of a kind whose definition is being deleted takes the definition along.
    definition = server.storage.get(CRDS, "", key)
    if definition is not None and "deletionTimestamp" in definition["metadata"]:
        settle_definition(server, definition)
    return last


def settle_definition(server: Server, definition: Object) -> None:
    if next(server.storage.all(definition["metadata"]["name"]), None) is not None:
        return
    rest = [f for f in definition["metadata"].get("finalizers") or () if f != crds.CLEANUP]
    metadata = {**definition["metadata"], "finalizers": rest}
    freed = server.storage.put(CRDS, {**definition, "metadata": metadata}, seen=definition)
    if not rest:
        remove_object(server, CRDS, freed)


async def patch(server: Server, call: Call) -> web.StreamResponse:
    kind = media_type(call.request)
    body = await call.request.read()
    if kind in APPLY_PATCHES:
        return await _apply(server, call, parse_yaml(body))
    change, pinned = _change_of(call, kind, parse_json(body))
    return answer_object(call, await change_object(server, call, change, pinned=pinned))


def list_keys_of(call: Call) -> ListKeys:
    if call.resource.raw_schema is not None:
        return schema_list_keys(call.resource.raw_schema)
    return builtin_list_keys(call.resource.kind)


def patcher(call: Call, kind: str, document: Any) -> Change:
    """The patch as a function of an object. Raises ApiError 415 for a type that the resource does not take."""
    if kind == JSON_PATCH:
        return lambda obj: json_patch(obj, document)
    if kind in (MERGE_PATCH, JSON_TYPE):
        if not isinstance(document, dict):
            raise bad_request("the patch is not an object")
        return lambda obj: merge_patch(obj, document)
    if kind == STRATEGIC_PATCH and not call.resource.custom:
        return lambda obj: strategic_merge(obj, document, list_keys_of(call))
    supported = (
        JSON_PATCH,
        MERGE_PATCH,
        *(() if call.resource.custom else (STRATEGIC_PATCH,)),
        APPLY_PATCHES[0],
    )
    raise unsupported_media_type(supported)


def _change_of(call: Call, kind: str, document: Any) -> tuple[Change, bool]:
    """(the change, whether the patch itself pins a resourceVersion)."""
    apply_patch = patcher(call, kind, document)
    pinned = isinstance(document, dict) and bool((document.get("metadata") or {}).get("resourceVersion"))

    def change(live: Object) -> Object:
        seen = {**live, "apiVersion": call.resource.api_version}
        patched = apply_patch(seen)
        check_object(call, patched)
        check_names(call, patched)
        return clean(call, patched)

    return change, pinned


async def _apply(server: Server, call: Call, config: Any) -> web.StreamResponse:
    check_object(call, config)
    metadata = config["metadata"]
    if metadata.get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    if call.resource.namespaced:
        metadata["namespace"] = metadata.get("namespace") or call.target.namespace
    metadata["name"] = metadata.get("name") or call.target.name
    check_names(call, config)
    manager = call.option("fieldManager")
    if not manager:
        raise bad_request(
            'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
        )
    applied = _stated(call, config)

    def change(live: Object | None) -> Object:
        return server_side_apply(
            live if live is None else {**live, "apiVersion": call.resource.api_version},
            applied,
            manager=manager,
            force=call.flag("force"),
            subresource=call.target.subresource,
            now=now(),
            list_keys=list_keys_of(call),
        )

    target = call.target
    if server.storage.get(call.resource.key, target.namespace, target.name) is None:
        if target.subresource:
            raise not_found(call.resource.plural, target.name, group=call.resource.group)
        return answer_object(call, await create_object(server, call, change(None)), code=201)
    pinned = bool(metadata.get("resourceVersion"))

    def change_clean(live: Object) -> Object:
        obj = clean(call, change(live), report=False)
        if pinned:
            obj["metadata"]["resourceVersion"] = metadata["resourceVersion"]
        return obj

    return answer_object(call, await change_object(server, call, change_clean, pinned=pinned))


def _stated(call: Call, config: Object) -> Object:
    """The applied object without unknown fields and nulls, and without defaults: only what was said is owned."""
    if call.resource.schema is None:
        check_types(config)
        report_fields(call, unknown_fields(config), call.field_validation)
        stated: Object = strip_nulls(config)
        return stated
    pruned, unknown = call.resource.schema.prune(config)
    report_fields(call, [f'unknown field "{path}"' for path in unknown], call.field_validation)
    return pruned
