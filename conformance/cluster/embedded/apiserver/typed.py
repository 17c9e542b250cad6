"""The JSON types of built-in kinds, by the same table as protobuf: what Go's decoder refuses, we refuse.

`value: 8080` for an environment variable is the mistake that this catches most often.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.cluster.embedded.apiserver.protobuf import Field, table
from conformance.cluster.embedded.apiserver.protobuf_fields import KINDS, MESSAGES, UNTOLD
from conformance.cluster.embedded.apiserver.status import bad_request

_SCALARS: dict[str, tuple[type, ...]] = {"string": (str,), "bytes": (str,), "int": (int,), "bool": (bool,)}
_NAMES = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}
_GO = {"int": "int64", "bytes": "[]uint8"}
_COMPLETE = (
    "ObjectMeta",
    "Namespace",
    "ConfigMap",
    "Secret",
    "ServiceAccount",
    "Service",
    "Deployment",
    "Pod",
)
_SERVED_ELSEWHERE = frozenset(("apiVersion", "kind", "status", "managedFields", "clusterName"))


def check_types(obj: dict[str, Any]) -> None:
    """Raises ApiError 400 for the first field of the wrong JSON type; kinds without a table pass."""
    message = KINDS.get((obj.get("apiVersion", ""), obj.get("kind", "")))
    wrong = next(_wrong(message, obj, ""), None) if message else None
    if wrong is not None:
        raise bad_request(
            f'{obj["kind"]} in version "{obj["apiVersion"].rpartition("/")[2]}" cannot be handled as a '
            f"{obj['kind']}: json: cannot unmarshal {wrong}"
        )


def check_metadata(obj: dict[str, Any]) -> None:
    """The same for the metadata of any kind, custom ones included."""
    wrong = next(_wrong_value("ObjectMeta", obj.get("metadata"), obj.get("kind", ""), "metadata"), None)
    if wrong is not None:
        raise bad_request(f"json: cannot unmarshal {wrong}")


def prune(obj: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The object without the fields that its kind does not have, and their paths
    (`spec.containers[0].comand`). Types have been checked; kinds that are not complete pass as they are."""
    message = KINDS.get((obj.get("apiVersion", ""), obj.get("kind", "")))
    if message not in _COMPLETE:
        return obj, []
    unknown: list[str] = []
    return _pruned(message, obj, "", unknown), unknown


def _pruned(message: str, obj: dict[str, Any], path: str, unknown: list[str]) -> dict[str, Any]:
    fields = {field.name: field for field in _fields(message)}
    untold = {name for part in _parts(message) for name in UNTOLD.get(part, "").split()}
    kept: dict[str, Any] = {}
    for name, value in obj.items():
        where = f"{path}.{name}" if path else name
        field = fields.get(name)
        if field is not None:
            kept[name] = _pruned_value(field, value, where, unknown)
        elif name in untold or (path in ("", "metadata") and name in _SERVED_ELSEWHERE):
            kept[name] = value
        else:
            unknown.append(where)
    return kept


def _pruned_value(field: Field, value: Any, where: str, unknown: list[str]) -> Any:
    if field.type not in MESSAGES or field.map:
        return value
    if isinstance(value, list):
        return [_pruned_value(field, item, f"{where}[{index}]", unknown) for index, item in enumerate(value)]
    return _pruned(field.type, value, where, unknown) if isinstance(value, dict) else value


def _fields(message: str) -> Iterator[Field]:
    for field in table(message).values():
        if field.inline:
            yield from _fields(field.type)
        else:
            yield field


def _parts(message: str) -> Iterator[str]:
    """The message and those embedded in it."""
    yield message
    for field in table(message).values():
        if field.inline:
            yield from _parts(field.type)


def _wrong(message: str, obj: dict[str, Any], path: str) -> Iterator[str]:
    for field in _fields(message):
        value = obj.get(field.name)
        if value is None:
            continue
        where = f"{path}.{field.name}" if path else field.name
        if field.map:
            if not isinstance(value, dict):
                yield _complaint(value, message, where, f"map[string]{_go(field.type)}")
                continue
            for item in value.values():
                yield from _wrong_value(field.type, item, message, where)
        elif field.repeated:
            if not isinstance(value, list):
                yield _complaint(value, message, where, f"[]{_go(field.type)}")
                continue
            for item in value:
                yield from _wrong_value(field.type, item, message, where)
        else:
            yield from _wrong_value(field.type, value, message, where)


def _wrong_value(kind: str, value: Any, message: str, where: str) -> Iterator[str]:
    if value is None or kind in ("Time", "MicroTime"):
        return
    if kind == "Quantity":
        accepted: tuple[type, ...] = (str, int, float)
    elif kind == "IntOrString":
        accepted = (str, int)
    elif kind == "StringList":
        accepted = (list,)
    else:
        accepted = _SCALARS.get(kind, (dict,))
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
        yield _complaint(value, message, where, _go(kind))
    elif isinstance(value, dict):
        yield from _wrong(kind, value, where)


def _go(kind: str) -> str:
    return kind if kind in ("string", "bool") else _GO.get(kind, f"v1.{kind}")


def _complaint(value: Any, message: str, where: str, expected: str) -> str:
    found = _NAMES.get(type(value), type(value).__name__)
    return f"{found} into Go struct field {message}.{where} of type {expected}"
