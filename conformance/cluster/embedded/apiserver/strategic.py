"""Strategic merge patch, the patch that `kubectl apply` sends for built-in kinds.

Lists with a merge key are merged item by item; `$patch: delete|replace|merge`, `$setElementOrder/<list>`,
`$deleteFromPrimitiveList/<list>` and `$retainKeys` steer it and are never stored.
Source: kubernetes/community, contributors/devel/sig-api-machinery/strategic-merge-patch.md.
"""

from __future__ import annotations

from typing import Any

from conformance.cluster.embedded.apiserver.merge_keys import SET, ListKeys, Path
from conformance.cluster.embedded.apiserver.status import bad_request

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"


def strategic_merge(target: Any, patch: Any, list_keys: ListKeys) -> Any:
    """A new object that shares what the patch leaves alone. Raises ApiError 400 for a malformed patch."""
    if not isinstance(patch, dict):
        raise bad_request("strategic merge patch: the patch is not an object")
    return _merge_map(target if isinstance(target, dict) else {}, patch, (), list_keys)


def _merge_map(
    target: dict[str, Any], patch: dict[str, Any], path: Path, list_keys: ListKeys
) -> dict[str, Any]:
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return {key: _clean(value) for key, value in patch.items() if key != _DIRECTIVE}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"Unknown patch type found: {directive}")
    merged = dict(target)
    if _RETAIN in patch:
        kept = patch[_RETAIN]
        if not isinstance(kept, list):
            raise bad_request("$retainKeys must be a list")
        merged = {key: value for key, value in merged.items() if key in kept}
    orders = {key[len(_ORDER) :]: value for key, value in patch.items() if key.startswith(_ORDER)}
    for key, value in patch.items():
        if key.startswith(_DELETE):
            name = key[len(_DELETE) :]
            merged[name] = [item for item in merged.get(name) or [] if item not in value]
        elif key in (_DIRECTIVE, _RETAIN) or key.startswith(_ORDER):
            continue
        elif value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            below = merged.get(key)
            merged[key] = _merge_map(below if isinstance(below, dict) else {}, value, (*path, key), list_keys)
        elif isinstance(value, list):
            merged[key] = _merge_list(merged.get(key), value, (*path, key), list_keys)
        else:
            merged[key] = value
    for name, order in orders.items():
        if isinstance(merged.get(name), list) and isinstance(order, list):
            merged[name] = _ordered(merged[name], order, list_keys((*path, name)))
    return merged


def _clean(value: Any) -> Any:
    """The value without directives: it becomes part of the object as it is."""
    if isinstance(value, dict):
        return {
            key: _clean(item)
            for key, item in value.items()
            if item is not None and not key.startswith((_DIRECTIVE, _RETAIN, _ORDER, _DELETE))
        }
    if isinstance(value, list):
        return [
            _clean(item)
            for item in value
            if not (isinstance(item, dict) and item.get(_DIRECTIVE) in ("delete", "replace"))
        ]
    return value


def _merge_list(target: Any, patch: list[Any], path: Path, list_keys: ListKeys) -> list[Any]:
    keys = list_keys(path)
    current = list(target) if isinstance(target, list) else []
    if not keys:
        return [_clean(item) for item in patch]
    if keys[0] == SET:
        return current + [item for item in patch if item not in current]
    key = keys[0]
    if any(isinstance(item, dict) and item.get(_DIRECTIVE) == "replace" for item in patch):
        return [_clean(item) for item in patch if not (isinstance(item, dict) and _DIRECTIVE in item)]
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        at = next((i for i, have in enumerate(current) if have.get(key) == item[key]), None)
        if item.get(_DIRECTIVE) == "delete":
            current = [have for have in current if have.get(key) != item[key]]
        elif at is None:
            current.append(_merge_map({}, item, path, list_keys))
        else:
            current[at] = _merge_map(current[at], item, path, list_keys)
    return current


def _ordered(items: list[Any], order: list[Any], keys: tuple[str, ...]) -> list[Any]:
    """Items named in `order` come in that order; others keep their place relative to their neighbours."""
    if not keys:
        return items
    key = keys[0]

    def name(item: Any) -> Any:
        return item if key == SET else item.get(key) if isinstance(item, dict) else None

    wanted = [name(item) for item in order]
    listed = sorted(
        (item for item in items if name(item) in wanted), key=lambda item: wanted.index(name(item))
    )
    result = []
    remaining = iter(listed)
    for item in items:
        result.append(next(remaining) if name(item) in wanted else item)
    return result
