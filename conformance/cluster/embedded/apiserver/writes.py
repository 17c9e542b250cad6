"""Create, update and patch."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from conformance.cluster.embedded.apiserver import crds
from conformance.cluster.embedded.apiserver.answers import answer_object
from conformance.cluster.embedded.apiserver.objects import (
    clean,
    established,
    finished,
    for_create,
    for_update,
    generated_name,
    tidy,
    validate,
)
from conformance.cluster.embedded.apiserver.registry import CRDS
from conformance.cluster.embedded.apiserver.requests import (
    Call,
    check_names,
    read_object,
)
from conformance.cluster.embedded.apiserver.server import Server, attributes
from conformance.cluster.embedded.apiserver.service_addresses import assign_addresses
from conformance.cluster.embedded.apiserver.status import (
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_found,
)
from conformance.cluster.embedded.apiserver.storage import Object, Stale

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
    obj = clean(call, for_create(call, obj))
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
    asked = attributes(call, "CREATE", name=name, obj=obj, old=None)
    call.warnings.extend(await server.admission.validate(asked))
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
    """The last step, in one go: addresses, nothing changed, dry run, finalizers. Raises Stale."""
    resource = call.resource
    obj = (
        obj
        if obj["apiVersion"] == resource.stored_api_version
        else {
            **obj,
            "apiVersion": resource.stored_api_version,
        }
    )
    obj = {**obj, "metadata": tidy(obj["metadata"])}
    if resource.key == "services" and not call.target.subresource:
        obj, errors = assign_addresses(obj, server.objects("services"), live=live, ipv6=server.ipv6)
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
