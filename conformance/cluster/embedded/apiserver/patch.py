"""JSON patch (RFC 6902) and JSON merge patch (RFC 7396): new objects, the given ones stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from conformance.cluster.embedded.apiserver.status import ApiError, bad_request

MAX_OPERATIONS = 10_000


def merge_patch(target: Any, patch: Any) -> Any:
    """Shares what it does not change with `target`."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = merge_patch(merged.get(key), value)
        else:
            merged[key] = value
    return merged


def json_patch(target: Any, operations: Any) -> Any:
    """Raises ApiError: 400 where the patch is malformed, 422 where it does not fit the object."""
    if not isinstance(operations, list) or not all(isinstance(step, dict) for step in operations):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    if len(operations) > MAX_OPERATIONS:
        raise ApiError(
            413,
            "RequestEntityTooLarge",
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}",
        )
    document = copy.deepcopy(target)
    for step in operations:
        document = _step(document, step)
    return document


def _step(document: Any, step: dict[str, Any]) -> Any:
    op, path = step.get("op"), step.get("path")
    if not isinstance(path, str) or (path and not path.startswith("/")):
        raise _unfit(f"{op} operation: invalid path {path!r}")
    if op in ("add", "replace", "test"):
        if "value" not in step:
            raise _unfit(f"{op} operation has no value: {path}")
        value = copy.deepcopy(step["value"])
        if op == "add":
            return _add(document, path, value)
        if op == "replace":
            _read(document, path, "replace")
            return _add(_remove(document, path), path, value) if path else value
        if _read(document, path, "test") != value:
            raise _unfit(f"testing value {path} failed")
        return document
    if op == "remove":
        return _remove(document, path)
    if op in ("move", "copy"):
        source = step.get("from")
        if not isinstance(source, str):
            raise _unfit(f"{op} operation has no from")
        value = copy.deepcopy(_read(document, source, op))
        return _add(_remove(document, source) if op == "move" else document, path, value)
    raise _unfit(f"Unexpected kind: {op}")


def _unfit(why: str) -> ApiError:
    return ApiError(
        422, "Invalid", f"the server rejected our request due to an error in our request: {why}", {}
    )


def _tokens(path: str) -> list[str]:
    return [token.replace("~1", "/").replace("~0", "~") for token in path.split("/")[1:]]


def _read(document: Any, path: str, op: str) -> Any:
    node = document
    for token in _tokens(path):
        if isinstance(node, dict) and token in node:
            node = node[token]
        elif isinstance(node, list) and token.isdigit() and int(token) < len(node):
            node = node[int(token)]
        else:
            raise _unfit(f"{op} operation does not apply: doc is missing path: {path}")
    return node


def _parent(document: Any, tokens: Sequence[str], path: str, op: str) -> Any:
    node = document
    for token in tokens[:-1]:
        if isinstance(node, dict) and isinstance(node.get(token), dict | list):
            node = node[token]
        elif isinstance(node, list) and token.isdigit() and int(token) < len(node):
            node = node[int(token)]
        else:
            raise _unfit(f"{op} operation does not apply: doc is missing path: {path}")
    return node


def _add(document: Any, path: str, value: Any) -> Any:
    tokens = _tokens(path)
    if not tokens:
        return value
    parent = _parent(document, tokens, path, "add")
    last = tokens[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list) and last == "-":
        parent.append(value)
    elif isinstance(parent, list) and last.isdigit() and int(last) <= len(parent):
        parent.insert(int(last), value)
    else:
        raise _unfit(f"add operation does not apply: doc is missing path: {path}")
    return document


def _remove(document: Any, path: str) -> Any:
    tokens = _tokens(path)
    if not tokens:
        raise _unfit("remove operation does not apply: cannot remove the whole document")
    _read(document, path, "remove")
    parent = _parent(document, tokens, path, "remove")
    if isinstance(parent, list):
        parent.pop(int(tokens[-1]))
    else:
        del parent[tokens[-1]]
    return document
