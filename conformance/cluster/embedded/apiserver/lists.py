"""Get and list."""

from __future__ import annotations

import base64
import binascii
import json

from aiohttp import web

from conformance.cluster.embedded.apiserver.answers import answer_list, answer_object
from conformance.cluster.embedded.apiserver.requests import Call
from conformance.cluster.embedded.apiserver.selectors import Matcher, field_matcher, label_matcher
from conformance.cluster.embedded.apiserver.server import Server
from conformance.cluster.embedded.apiserver.status import (
    bad_request,
    expired,
    not_found,
    too_large_resource_version,
)
from conformance.cluster.embedded.apiserver.storage import Object


def get(server: Server, call: Call) -> web.StreamResponse:
    return answer_object(call, find(server, call))


def find(server: Server, call: Call) -> Object:
    target = call.target
    found = server.storage.get(call.resource.key, target.namespace, target.name)
    if found is None:
        raise not_found(call.resource.plural, target.name, group=call.resource.group)
    return found


def matchers(call: Call) -> list[Matcher]:
    found = (
        label_matcher(call.option("labelSelector")),
        field_matcher(call.option("fieldSelector"), call.resource.plural),
    )
    return [matcher for matcher in found if matcher is not None]


def selected(server: Server, call: Call) -> list[Object]:
    """What the request's scope and selectors name, ordered by namespace and name."""
    tests = matchers(call)
    items = server.storage.list(call.resource.key, call.target.namespace or None)
    return [item for item in items if all(test(item) for test in tests)] if tests else items


def check_not_newer(server: Server, call: Call) -> int:
    """The asked resourceVersion (0 = any). Raises ApiError: 504 for one to come, 400 for no number."""
    asked = call.option("resourceVersion") or "0"
    if not asked.isdigit():
        raise bad_request(f'resourceVersion: Invalid value: "{asked}": invalid resource version')
    if int(asked) > server.storage.version:
        raise too_large_resource_version(asked=int(asked), current=server.storage.version)
    return int(asked)


def list_(server: Server, call: Call) -> web.StreamResponse:
    """Always the present state. A page continues after the last name of the one before; all pages bear the
    first one's resourceVersion, so that a watch from there misses nothing."""
    version, after = server.storage.version, None
    if token := call.option("continue"):
        version, after = _read_token(token)
        if version < server.storage.forgotten(call.resource.key):
            raise expired(
                "The provided continue parameter is too old to display a consistent list result. "
                "You must start a new list without the continue parameter."
            )
    else:
        asked = check_not_newer(server, call)
        if call.option("resourceVersionMatch") == "Exact" and asked < server.storage.version:
            raise expired(f"The resourceVersion for the provided list is too old: {asked}")
    items = selected(server, call)
    if after is not None:
        items = [item for item in items if _key(item) > after]
    metadata: dict[str, object] = {"resourceVersion": str(version)}
    limit = call.number("limit") or 0
    if 0 < limit < len(items):
        metadata["continue"] = _write_token(version, _key(items[limit - 1]))
        metadata["remainingItemCount"] = len(items) - limit
        items = items[:limit]
    return answer_list(call, items, metadata)


def _key(obj: Object) -> tuple[str, str]:
    return (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def _write_token(version: int, key: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps([version, *key]).encode()).decode()


def _read_token(token: str) -> tuple[int, tuple[str, str]]:
    try:
        version, namespace, name = json.loads(base64.urlsafe_b64decode(token))
        return int(version), (str(namespace), str(name))
    except (ValueError, TypeError, binascii.Error):
        raise bad_request("continue key is not valid") from None
