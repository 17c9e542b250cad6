"""The scale subresource: a Deployment's or a custom resource's replicas as an autoscaling/v1 Scale."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from conformance.cluster.embedded.apiserver.answers import answer
from conformance.cluster.embedded.apiserver.field_errors import invalid
from conformance.cluster.embedded.apiserver.lists import find
from conformance.cluster.embedded.apiserver.patches import patcher
from conformance.cluster.embedded.apiserver.requests import (
    Call,
    check_object,
    media_type,
    parse_json,
    read_object,
)
from conformance.cluster.embedded.apiserver.server import Server
from conformance.cluster.embedded.apiserver.status import conflict, method_not_allowed
from conformance.cluster.embedded.apiserver.status import invalid as invalid_error
from conformance.cluster.embedded.apiserver.storage import Object
from conformance.cluster.embedded.apiserver.writes import change_object

API_VERSION, KIND = "autoscaling/v1", "Scale"


async def scale(server: Server, call: Call) -> web.StreamResponse:
    live = find(server, call)
    if call.verb == "get":
        return answer(_scale_of(call, live))
    if call.verb == "update":
        wanted = await read_object(call, kind=KIND, api_version=API_VERSION)
    elif call.verb == "patch":
        document = parse_json(await call.request.read())
        wanted = patcher(call, media_type(call.request), document)(_scale_of(call, live))
        check_object(call, wanted, kind=KIND, api_version=API_VERSION)
    else:
        raise method_not_allowed()
    asked = wanted["metadata"].get("resourceVersion")
    if asked and asked != live["metadata"]["resourceVersion"]:
        raise conflict(call.resource.plural, call.target.name, group=call.resource.group)
    replicas = (wanted.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or replicas < 0:
        error = invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid_error(KIND, call.target.name, [error], group="autoscaling")
    path = _paths(call)[0]

    def change(obj: Object) -> Object:
        return _written({**obj, "apiVersion": call.resource.api_version}, path, replicas)

    pinned = call.verb == "update" and bool(asked)
    return answer(_scale_of(call, await change_object(server, call, change, pinned=pinned)))


def _paths(call: Call) -> tuple[list[str], list[str], str | None]:
    """Where the replicas asked for, the replicas there are, and the selector stand."""
    custom = call.resource.scale
    if custom is None:
        return ["spec", "replicas"], ["status", "replicas"], None
    spec, status = custom.spec.strip(".").split("."), custom.status.strip(".").split(".")
    return spec, status, custom.selector


def _scale_of(call: Call, obj: Object) -> Object:
    metadata = obj["metadata"]
    spec, status, selector_path = _paths(call)
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    if selector_path is not None:
        selector = _read(obj, selector_path.strip(".").split(".")) or ""
    else:
        labels = ((obj.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    answered: Object = {
        "kind": KIND,
        "apiVersion": API_VERSION,
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {"replicas": _read(obj, spec) or 0},
        "status": {"replicas": _read(obj, status) or 0},
    }
    if selector:
        answered["status"]["selector"] = selector
    return answered


def _read(obj: Any, path: list[str]) -> Any:
    for name in path:
        obj = obj.get(name) if isinstance(obj, dict) else None
    return obj


def _written(obj: Any, path: list[str], value: Any) -> Object:
    """A copy of `obj` with `value` at `path`, sharing the rest."""
    below = obj if isinstance(obj, dict) else {}
    if len(path) == 1:
        return {**below, path[0]: value}
    return {**below, path[0]: _written(below.get(path[0]), path[1:], value)}
