"""The JSON types of built-in kinds, by the same table as protobuf: what Go's decoder refuses, we refuse.

`value: 8080` for an environment variable is the mistake that this catches most often.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.cluster.embedded.protobuf import Field, table
from conformance.cluster.embedded.protobuf_fields import KINDS
from conformance.cluster.embedded.status import bad_request

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


def unknown_fields(obj: dict[str, Any]) -> list[str]:
    """`unknown field "x"` for what a kind does not have at its top or in its metadata."""
    message = KINDS.get((obj.get("apiVersion", ""), obj.get("kind", "")))
    if message not in _COMPLETE:
        return []
    metadata = obj.get("metadata")
    names = [name for name in obj if name not in _SERVED_ELSEWHERE and name not in _names(message)]
    if isinstance(metadata, dict):
        known = _names("ObjectMeta") | _SERVED_ELSEWHERE
        names += [f"metadata.{name}" for name in metadata if name not in known]
    return [f'unknown field "{name}"' for name in names]


def _names(message: str) -> frozenset[str]:
    return frozenset(field.name for field in table(message).values())


def _fields(message: str) -> Iterator[Field]:
    for field in table(message).values():
        if field.inline:
            yield from _fields(field.type)
        else:
            yield field


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
