"""Server-side apply: fields belong to the managers that apply them.

Ownership stands in `metadata.managedFields` in Kubernetes' own form (FieldsV1: nested `f:<field>`,
`k:{<keys>}` for items of keyed lists, `v:<value>` for items of sets, `.` for the item itself). Only Apply
managers are kept: a field written by plain updates belongs to nobody, so taking it over is never a conflict.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from conformance.cluster.embedded.apiserver.merge_keys import SET, ListKeys, Path
from conformance.cluster.embedded.apiserver.status import apply_conflict

Fields = dict[str, Any]
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_KUBECTL = "kubectl"
_IDENTITY = ("apiVersion", "kind")
_IDENTITY_METADATA = ("name", "namespace", "creationTimestamp", "managedFields", "resourceVersion", "uid")


def server_side_apply(
    live: dict[str, Any] | None,
    applied: dict[str, Any],
    *,
    manager: str,
    force: bool,
    subresource: str,
    now: str,
    list_keys: ListKeys,
) -> dict[str, Any]:
    """The new object after `manager` applied `applied` to `live`. Raises ApiError 409 on a conflict."""
    config = _without_identity(applied)
    wanted = _fields(config, (), list_keys)
    entries = [dict(entry) for entry in ((live or {}).get("metadata") or {}).get("managedFields") or []]
    mine = next((e for e in entries if _is(e, manager, subresource)), None)
    others = [e for e in entries if e is not mine]
    before = (mine or {}).get("fieldsV1") or _client_side_fields(live, manager, list_keys)
    if live is not None:
        _settle_conflicts(live, config, wanted, others, force=force, list_keys=list_keys)
    result: dict[str, Any] = _merge(live or {}, config, (), list_keys)
    if before:
        kept = wanted
        for entry in others:
            kept = _union(kept, entry.get("fieldsV1") or {})
        result = _remove(result, _difference(before, kept), config, (), list_keys)
    entry = {
        "manager": manager,
        "operation": "Apply",
        "apiVersion": applied.get("apiVersion", ""),
        "time": now,
        "fieldsType": "FieldsV1",
        "fieldsV1": wanted,
    }
    if subresource:
        entry["subresource"] = subresource
    if mine is not None and mine.get("fieldsV1") == wanted and mine.get("apiVersion") == entry["apiVersion"]:
        entry["time"] = mine.get("time", now)  # an apply that changes nothing changes no timestamp either
    left = [e for e in others if e.get("fieldsV1")]
    named = {k: v for k, v in applied["metadata"].items() if k in ("name", "namespace")}
    managed = sorted([*left, entry], key=lambda e: (e["manager"], e.get("subresource", "")))
    metadata = named | dict(result.get("metadata") or {}) | {"managedFields": managed}
    if manager == _KUBECTL and LAST_APPLIED in (metadata.get("annotations") or {}):
        said = json.dumps(applied, separators=(",", ":")) + "\n"
        metadata["annotations"] = metadata["annotations"] | {LAST_APPLIED: said}
    identity = {k: applied[k] for k in _IDENTITY if k in applied}
    return {**result, **identity, "metadata": metadata}


def _client_side_fields(live: dict[str, Any] | None, manager: str, list_keys: ListKeys) -> Fields:
    """What kubectl applied from its own side before it came over to server-side apply."""
    annotations = ((live or {}).get("metadata") or {}).get("annotations") or {}
    if manager != _KUBECTL or LAST_APPLIED not in annotations:
        return {}
    try:
        said = json.loads(annotations[LAST_APPLIED])
    except ValueError:
        return {}
    return _fields(_without_identity(said), (), list_keys) if isinstance(said, dict) else {}


def _is(entry: Mapping[str, Any], manager: str, subresource: str) -> bool:
    return (
        entry.get("operation") == "Apply"
        and entry.get("manager") == manager
        and entry.get("subresource", "") == subresource
    )


def _without_identity(applied: Mapping[str, Any]) -> dict[str, Any]:
    config = {key: value for key, value in applied.items() if key not in _IDENTITY}
    metadata = {k: v for k, v in (applied.get("metadata") or {}).items() if k not in _IDENTITY_METADATA}
    config.pop("metadata", None)
    return config | ({"metadata": metadata} if metadata else {})


def _item_key(item: Any, keys: tuple[str, ...]) -> str:
    if keys[0] == SET:
        return "v:" + json.dumps(item, separators=(",", ":"))
    named = {key: item.get(key) for key in keys} if isinstance(item, dict) else {}
    return "k:" + json.dumps(named, separators=(",", ":"), sort_keys=True)


def _fields(value: Any, path: Path, list_keys: ListKeys) -> Fields:
    """What `value` says, as nested FieldsV1; {} = a leaf."""
    if isinstance(value, dict):
        return {f"f:{name}": _fields(below, (*path, name), list_keys) for name, below in value.items()}
    if isinstance(value, list) and (keys := list_keys(path)):
        owned: Fields = {}
        for item in value:
            owned[_item_key(item, keys)] = (
                {} if keys[0] == SET else {".": {}} | _fields(item, path, list_keys)
            )
        return owned
    return {}


def _union(a: Fields, b: Fields) -> Fields:
    merged = dict(a)
    for key, below in b.items():
        merged[key] = _union(merged[key], below) if key in merged else below
    return merged


def _difference(before: Fields, kept: Fields) -> Fields:
    """What of `before` nobody in `kept` claims."""
    gone: Fields = {}
    for key, below in before.items():
        if key not in kept:
            gone[key] = below
        elif below and (rest := _difference(below, kept[key])):
            gone[key] = rest
    return gone


def _merge(live: Any, config: Any, path: Path, list_keys: ListKeys) -> Any:
    if isinstance(config, dict):
        merged = dict(live) if isinstance(live, dict) else {}
        for name, value in config.items():
            merged[name] = _merge(merged.get(name), value, (*path, name), list_keys)
        return merged
    keys = list_keys(path) if isinstance(config, list) else ()
    if not keys or not isinstance(live, list):
        return config
    items = {_item_key(item, keys): item for item in live}
    for item in config:
        key = _item_key(item, keys)
        items[key] = _merge(items[key], item, path, list_keys) if key in items else item
    return list(items.values())


def _remove(value: Any, gone: Fields, config: Any, path: Path, list_keys: ListKeys) -> Any:
    """`value` without the fields in `gone`; a map that becomes empty and is not applied goes, too (None)."""
    if isinstance(value, dict):
        left = dict(value)
        for key, below in gone.items():
            name = key[2:]
            if not key.startswith("f:") or name not in left:
                continue
            asked = config.get(name) if isinstance(config, dict) else None
            if below and (asked is not None or isinstance(left[name], dict | list)):
                rest = _remove(left[name], below, asked, (*path, name), list_keys)
                if rest in ({}, [], None) and asked is None:
                    del left[name]
                else:
                    left[name] = rest
            else:
                del left[name]
        return left
    if isinstance(value, list) and (keys := list_keys(path)):
        asked = {_item_key(item, keys): item for item in config} if isinstance(config, list) else {}
        left_items = []
        for item in value:
            key = _item_key(item, keys)
            if key not in gone:
                left_items.append(item)
            elif "." not in gone[key] and keys[0] != SET:
                left_items.append(_remove(item, gone[key], asked.get(key), path, list_keys))
        return left_items
    return value


def _settle_conflicts(
    live: dict[str, Any],
    config: dict[str, Any],
    wanted: Fields,
    others: list[dict[str, Any]],
    *,
    force: bool,
    list_keys: ListKeys,
) -> None:
    """Fields that others own and `config` would change: theirs no more (`force`), or an error."""
    found: list[tuple[str, str]] = []
    for entry in others:
        theirs = entry.get("fieldsV1") or {}
        taken = _contested(theirs, wanted, live, config, (), list_keys, "", found.append, entry["manager"])
        if force:
            entry["fieldsV1"] = taken
    if force or not found:
        return
    noun = "conflict" if len(found) == 1 else "conflicts"
    managers = sorted({manager for _, manager in found})
    lines = [f'conflict with "{manager}"' for manager in managers]
    if len(found) == 1:
        message = f"Apply failed with 1 {noun}: {lines[0]}: {found[0][0]}"
    else:
        message = f"Apply failed with {len(found)} {noun}: " + "\n".join(
            f"conflicts with {json.dumps(manager)}:\n"
            + "\n".join(f"- {path}" for path, owner in found if owner == manager)
            for manager in managers
        )
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{manager}"', "field": path}
        for path, manager in found
    ]
    raise apply_conflict(message, causes)


def _contested(
    theirs: Fields,
    wanted: Fields,
    live: Any,
    config: Any,
    path: Path,
    list_keys: ListKeys,
    shown: str,
    report: Callable[[tuple[str, str]], None],
    manager: str,
) -> Fields:
    """`theirs` without what `config` changes; each such field is reported as (path, manager)."""
    left: Fields = {}
    for key, below in theirs.items():
        if key not in wanted or key == ".":
            left[key] = below
            continue
        if key.startswith("f:"):
            name = key[2:]
            deeper, label = (*path, name), f"{shown}.{name}"
            have = live.get(name) if isinstance(live, dict) else None
            want = config.get(name) if isinstance(config, dict) else None
        else:
            keys = list_keys(path)
            deeper, label = path, f"{shown}[{key[2:]}]"
            have = _find(live, key, keys)
            want = _find(config, key, keys)
        if below and wanted[key]:
            rest = _contested(below, wanted[key], have, want, deeper, list_keys, label, report, manager)
            if rest:
                left[key] = rest
        elif have != want and not (isinstance(have, dict) and isinstance(want, dict)):
            report((label, manager))
        else:
            left[key] = below
    return left


def _find(items: Any, key: str, keys: tuple[str, ...]) -> Any:
    if not isinstance(items, list) or not keys:
        return None
    return next((item for item in items if _item_key(item, keys) == key), None)
