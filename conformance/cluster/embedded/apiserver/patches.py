"""Patch, in its four kinds: JSON patch, merge patch, strategic merge patch and server-side apply."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from conformance.cluster.embedded.apiserver.answers import answer_object
from conformance.cluster.embedded.apiserver.apply import server_side_apply
from conformance.cluster.embedded.apiserver.defaults import strip_nulls
from conformance.cluster.embedded.apiserver.merge_keys import ListKeys, builtin_list_keys, schema_list_keys
from conformance.cluster.embedded.apiserver.objects import (
    clean,
)
from conformance.cluster.embedded.apiserver.patch import json_patch, merge_patch
from conformance.cluster.embedded.apiserver.requests import (
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
    report_fields,
)
from conformance.cluster.embedded.apiserver.server import Server, now
from conformance.cluster.embedded.apiserver.status import (
    bad_request,
    not_found,
    unsupported_media_type,
)
from conformance.cluster.embedded.apiserver.storage import Object
from conformance.cluster.embedded.apiserver.strategic import strategic_merge
from conformance.cluster.embedded.apiserver.typed import check_types, prune
from conformance.cluster.embedded.apiserver.writes import Change, change_object, create_object


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
    """The patch as a function of an object. Raises ApiError 415 for a type the resource does not take."""
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
            'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: '
            "is required for apply patch"
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
    """The applied object without unknown fields and nulls. No defaults: only what was said is owned."""
    if call.resource.schema is None:
        check_types(config)
        config, unknown = prune(config)
        report_fields(call, [f'unknown field "{path}"' for path in unknown], call.field_validation)
        stated: Object = strip_nulls(config)
        return stated
    pruned, unknown = call.resource.schema.prune(config)
    report_fields(call, [f'unknown field "{path}"' for path in unknown], call.field_validation)
    return pruned
