"""Delete and deletecollection: preconditions, grace, finalizers, propagation."""

from __future__ import annotations

import datetime
from typing import Any

from aiohttp import web

from conformance.cluster.embedded.apiserver import crds
from conformance.cluster.embedded.apiserver.answers import answer, answer_list, answer_object
from conformance.cluster.embedded.apiserver.lists import find, selected
from conformance.cluster.embedded.apiserver.objects import FOREGROUND, ORPHAN, counts_generations, finished
from conformance.cluster.embedded.apiserver.protobuf import MEDIA_TYPE, decode
from conformance.cluster.embedded.apiserver.registry import CRDS
from conformance.cluster.embedded.apiserver.requests import Call, is_dry_run, media_type, parse_json
from conformance.cluster.embedded.apiserver.server import Server, attributes
from conformance.cluster.embedded.apiserver.status import bad_request, conflict, forbidden, success
from conformance.cluster.embedded.apiserver.storage import Object, Stale
from conformance.cluster.embedded.apiserver.writes import remove_object, settle_definition

_DEFAULT_GRACE = 30
_UNDELETABLE = ("default", "kube-system", "kube-public")
# Kinds whose deletion answers with the object, others with a Status.
_ANSWERS_OBJECT = frozenset(("pods", "services", "serviceaccounts", "resourcequotas"))


async def delete(server: Server, call: Call) -> web.StreamResponse:
    options = await read_options(call)
    key = call.resource.key
    last, gone = await delete_object(server, call, find(server, call), options)
    if gone and key not in _ANSWERS_OBJECT:
        resource = call.resource
        uid = last["metadata"]["uid"]
        return answer(success(name=call.target.name, kind=resource.plural, group=resource.group, uid=uid))
    return answer_object(call, last)


async def delete_collection(server: Server, call: Call) -> web.StreamResponse:
    options = await read_options(call)
    deleted = []
    for obj in selected(server, call):
        current = server.storage.get(
            call.resource.key, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
        )
        if current is not None:
            deleted.append((await delete_object(server, call, current, options))[0])
    return answer_list(call, deleted, {"resourceVersion": str(server.storage.version)})


async def read_options(call: Call) -> dict[str, Any]:
    """DeleteOptions from the body and the query; the body wins."""
    body = await call.request.read()
    options: dict[str, Any] = {}
    if body:
        decoded = decode(body) if media_type(call.request) == MEDIA_TYPE else parse_json(body)
        if not isinstance(decoded, dict):
            raise bad_request("DeleteOptions: not an object")
        options = {name: value for name, value in decoded.items() if value is not None}
    grace = call.number("gracePeriodSeconds")
    if grace is not None:
        options.setdefault("gracePeriodSeconds", grace)
    if policy := call.option("propagationPolicy"):
        options.setdefault("propagationPolicy", policy)
    if options.get("orphanDependents") or call.flag("orphanDependents"):
        options.setdefault("propagationPolicy", "Orphan")
    if options.get("propagationPolicy") not in (None, "", "Foreground", "Background", "Orphan"):
        raise bad_request(
            f'DeleteOptions: propagationPolicy: Unsupported value: "{options["propagationPolicy"]}": '
            'supported values: "Foreground", "Background", "Orphan"'
        )
    if not isinstance(options.get("gracePeriodSeconds", 0), int):
        raise bad_request("DeleteOptions: gracePeriodSeconds: not a number")
    return options


async def delete_object(
    server: Server, call: Call, obj: Object, options: dict[str, Any]
) -> tuple[Object, bool]:
    """(the object's state now, whether it is gone). Raises ApiError."""
    resource = call.resource
    metadata = obj["metadata"]
    _check_preconditions(call, obj, options.get("preconditions") or {})
    if resource.key == "namespaces" and metadata["name"] in _UNDELETABLE:
        raise forbidden(resource.plural, metadata["name"], "this namespace may not be deleted")
    dry_run = call.dry_run or is_dry_run(options.get("dryRun"))
    asked = attributes(
        call, "DELETE", name=metadata["name"], obj=None, old=obj, options=options, dry_run=dry_run
    )
    call.warnings.extend(await server.admission.validate(asked))
    while True:
        current = server.storage.get(resource.key, metadata.get("namespace", ""), metadata["name"])
        if current is None or current["metadata"]["uid"] != metadata["uid"]:
            return obj, True  # someone else was faster
        _check_preconditions(call, current, options.get("preconditions") or {})
        marked = _marked(call, current, options)
        if dry_run:
            return marked, finished(resource, marked)
        try:
            return _carry_out(server, call, current, marked)
        except Stale:
            continue


def _carry_out(server: Server, call: Call, current: Object, marked: Object) -> tuple[Object, bool]:
    resource = call.resource
    if finished(resource, marked):
        return remove_object(server, resource.key, current), True
    if marked == current:
        return current, False
    stored = server.storage.put(resource.key, marked, seen=current)
    if resource.key == CRDS:
        _empty_definition(server, stored)
        left = server.storage.get(CRDS, "", stored["metadata"]["name"])
        return (stored, True) if left is None else (left, False)
    return stored, False


def _check_preconditions(call: Call, obj: Object, wanted: dict[str, Any]) -> None:
    metadata = obj["metadata"]
    for name, label in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        value = wanted.get(name)
        if value and value != metadata[name]:
            why = f"{label} in precondition: {value}, {label} in object meta: {metadata[name]}"
            raise conflict(
                call.resource.plural,
                metadata["name"],
                f"Precondition failed: {why}",
                group=call.resource.group,
            )


def _marked(call: Call, obj: Object, options: dict[str, Any]) -> Object:
    """The object as it stands once its deletion has been asked for."""
    resource = call.resource
    metadata = dict(obj["metadata"])
    grace = _grace(resource.key, obj, options.get("gracePeriodSeconds"))
    finalizers = list(metadata.get("finalizers") or ())
    policy = options.get("propagationPolicy")
    if policy in ("Foreground", "Orphan") or (policy == "Background" and FOREGROUND in finalizers):
        finalizers = [f for f in finalizers if f not in (FOREGROUND, ORPHAN)]
        finalizers += {"Foreground": [FOREGROUND], "Orphan": [ORPHAN]}.get(policy, [])
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
    again = "deletionTimestamp" in metadata
    if not again or grace < metadata.get("deletionGracePeriodSeconds", 0):
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=grace)
        metadata["deletionTimestamp"] = end.strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata["deletionGracePeriodSeconds"] = grace
    if not again and counts_generations(resource):
        metadata["generation"] = metadata.get("generation", 0) + 1
    marked = {**obj, "metadata": metadata}
    if resource.key == "namespaces":
        marked["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
    return marked


def _grace(key: str, obj: Object, asked: Any) -> int:
    """Seconds; only pods that run somewhere have any."""
    if key != "pods":
        return 0
    spec, phase = obj["spec"], (obj.get("status") or {}).get("phase")
    if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
        return 0
    grace = asked if asked is not None else spec.get("terminationGracePeriodSeconds", _DEFAULT_GRACE)
    return max(0, int(grace))


def _empty_definition(server: Server, definition: Object) -> None:
    """A definition goes with its objects; those with finalizers hold it until they are let go."""
    key = definition["metadata"]["name"]
    stamp = definition["metadata"]["deletionTimestamp"]
    for obj in server.storage.list(key):
        metadata = obj["metadata"]
        if not metadata.get("finalizers"):
            server.storage.remove(key, obj)
        elif "deletionTimestamp" not in metadata:
            marks = {"deletionTimestamp": stamp, "deletionGracePeriodSeconds": 0}
            server.storage.put(key, {**obj, "metadata": {**metadata, **marks}}, seen=obj)
    if crds.CLEANUP in (definition["metadata"].get("finalizers") or ()):
        settle_definition(server, definition)
