"""Answers: objects, lists and errors as JSON, in the shape and version that the request asks for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web

from conformance.cluster.embedded.apiserver.registry import Resource
from conformance.cluster.embedded.apiserver.requests import JSON_TYPE, Call
from conformance.cluster.embedded.apiserver.status import ApiError
from conformance.cluster.embedded.apiserver.storage import Object
from conformance.cluster.embedded.apiserver.tables import table

_ENCODER = json.JSONEncoder(separators=(",", ":"))
TABLE = "Table"
METADATA = "PartialObjectMetadata"
_META_VERSION = "meta.k8s.io/v1"


def encode(value: Any) -> bytes:
    return _ENCODER.encode(value).encode()


def answer(value: Any, *, code: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=encode(value), status=code, content_type=JSON_TYPE, headers=headers)


def answer_error(error: ApiError, warnings: Sequence[str] = ()) -> web.Response:
    response = answer(error.to_status(), code=error.code, headers=error.headers)
    add_warnings(response, warnings)
    return response


def add_warnings(response: web.StreamResponse, warnings: Iterable[str]) -> None:
    for warning in dict.fromkeys(warnings):
        text = warning.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
        response.headers.add("Warning", f'299 - "{text}"')


def shape(call: Call) -> str:
    """What Accept asks for: "Table", "PartialObjectMetadata", or "" for the object itself."""
    for offer in call.request.headers.get("Accept", "").split(","):
        words = [word.strip() for word in offer.split(";")]
        if "v=v1" in words and "g=meta.k8s.io" in words:
            if "as=Table" in words:
                return TABLE
            if "as=PartialObjectMetadata" in words or "as=PartialObjectMetadataList" in words:
                return METADATA
        if words[0] in (JSON_TYPE, "*/*", "application/*"):
            return ""
    return ""


def in_version(resource: Resource, obj: Object) -> Object:
    """The object in the request's API version (conversion is by name only)."""
    if obj.get("apiVersion") == resource.api_version:
        return obj
    return {**obj, "apiVersion": resource.api_version, "kind": resource.kind}


def partial(obj: Object) -> Object:
    return {"kind": METADATA, "apiVersion": _META_VERSION, "metadata": obj["metadata"]}


def shaped(call: Call, obj: Object, form: str) -> Object:
    if form == TABLE:
        return table(call.resource, [in_version(call.resource, obj)], include=call.option("includeObject"))
    return partial(obj) if form == METADATA else in_version(call.resource, obj)


def answer_object(call: Call, obj: Object, *, code: int = 200) -> web.Response:
    return answer(shaped(call, obj, shape(call)), code=code)


def answer_list(call: Call, items: list[Object], metadata: Mapping[str, Any]) -> web.Response:
    resource, form = call.resource, shape(call)
    items = [in_version(resource, item) for item in items]
    if form == TABLE:
        return answer(table(resource, items, include=call.option("includeObject"), metadata=dict(metadata)))
    if form == METADATA:
        kind, version, items = f"{METADATA}List", _META_VERSION, [partial(item) for item in items]
    else:
        kind, version = resource.list_kind or f"{resource.kind}List", resource.api_version
    return answer({"kind": kind, "apiVersion": version, "metadata": dict(metadata), "items": items})
