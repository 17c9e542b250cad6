"""Structural schemas of CustomResourceDefinitions: prune, default, validate.

The steps and their order are the API server's: `prune` (unknown fields, and nulls where null is not a value),
`default`, then `validate`. Values are decoded JSON; no function changes its argument. Rules in CEL
(`x-kubernetes-validations`) are kept and not evaluated (docs/decisions/0003-cel-rules.md).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from conformance.cluster.embedded.apiserver.schema_validation import (
    ABSENT,
    TYPES,
    quote,
    validate_value,
)
from conformance.cluster.embedded.apiserver.status import FieldError

__all__ = ["FieldError", "StructuralSchema"]

_TYPE_META = frozenset({"apiVersion", "kind", "metadata"})
_ANYTHING: Mapping[str, Any] = {"x-kubernetes-preserve-unknown-fields": True, "nullable": True}
_SUBSCHEMA_LISTS = ("allOf", "anyOf", "oneOf")


@dataclass(frozen=True, slots=True, kw_only=True)
class StructuralSchema:
    root: Mapping[str, Any]
    unevaluated_rules: tuple[str, ...]  # paths of the schema that carry CEL rules

    @classmethod
    def compile(cls, openapi_v3_schema: Mapping[str, Any]) -> StructuralSchema:
        """Checks that the schema is structural. Raises ValueError with every complaint, as
        `properties[spec].type: Required value: must not be empty for specified object fields`."""
        root = copy.deepcopy(dict(openapi_v3_schema))
        complaints = list(_complaints(root, "", top=True))
        if complaints:
            raise ValueError(", ".join(complaints))
        return cls(root=root, unevaluated_rules=tuple(_rule_paths(root, "")))

    def prune(self, obj: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Returns a copy without unknown fields and without nulls that are not values, and the paths
        of the unknown fields (`spec.rules[0].form`), in the order they were met."""
        unknown: list[str] = []
        return _prune_object(dict(obj), self.root, "", unknown, resource=True), unknown

    def default(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        result = copy.deepcopy(dict(obj))
        _default(result, self.root)
        return result

    def validate(self, obj: Mapping[str, Any], old: Mapping[str, Any] | None = None) -> list[FieldError]:
        """`old` is the stored object of an update: what did not change is not complained of again."""
        return validate_value(obj, self.root, "", ABSENT if old is None else old)


def _complaints(schema: Mapping[str, Any], path: str, *, top: bool = False) -> Iterator[str]:
    def at(name: str) -> str:
        return f"{path}.{name}" if path else name

    kind = schema.get("type")
    untyped = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if top and kind != "object":
        yield f"{at('type')}: Invalid value: {quote(kind or '')}: must be object at the root"
    elif not kind and not untyped:
        where = "array items" if path.endswith("items") else "object fields"
        yield f"{at('type')}: Required value: must not be empty for specified {where}"
    elif kind and kind not in TYPES:
        supported = ", ".join(quote(name) for name in TYPES)
        yield f"{at('type')}: Unsupported value: {quote(kind)}: supported values: {supported}"
    if "$ref" in schema:
        yield f"{at('$ref')}: Forbidden: $ref is not supported"
    if schema.get("uniqueItems"):
        yield f"{at('uniqueItems')}: Forbidden: uniqueItems cannot be set to true"
    if schema.get("properties") and "additionalProperties" in schema:
        yield f"{at('additionalProperties')}: Forbidden: it and properties are mutual exclusive"
    if schema.get("additionalProperties") is False:
        yield f"{at('additionalProperties')}: Forbidden: additionalProperties cannot be set to false"
    if kind == "array" and not isinstance(schema.get("items"), Mapping):
        yield f"{at('items')}: Required value: must be specified"
    if schema.get("x-kubernetes-list-type") == "map" and not schema.get("x-kubernetes-list-map-keys"):
        yield f"{at('x-kubernetes-list-map-keys')}: Required value: must not be empty if list-type is map"
    yield from _pattern_complaints(schema, path)
    for name, child in _children(schema, path):
        yield from _complaints(child, name)
    if "default" in schema:
        for error in validate_value(schema["default"], schema, at("default"), ABSENT):
            yield f"{error.path}: {error.message}"


def _pattern_complaints(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Patterns, also of the value validations below allOf, anyOf, oneOf and not."""
    pattern = schema.get("pattern")
    if pattern:
        try:
            re.compile(pattern)
        except re.error as error:
            why = f"must be a valid regular expression: {error}"
            yield f"{path}.pattern: Invalid value: {quote(pattern)}: {why}"
    for keyword in _SUBSCHEMA_LISTS:
        for index, branch in enumerate(schema.get(keyword) or ()):
            yield from _branch_complaints(branch, f"{path}.{keyword}[{index}]")
    if isinstance(schema.get("not"), Mapping):
        yield from _branch_complaints(schema["not"], f"{path}.not")


def _branch_complaints(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    yield from _pattern_complaints(schema, path)
    for name, child in _children(schema, path):
        yield from _branch_complaints(child, name)


def _children(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    prefix = f"{path}." if path else ""
    for name, child in (schema.get("properties") or {}).items():
        yield f"{prefix}properties[{name}]", child
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), Mapping):
            yield f"{prefix}{keyword}", schema[keyword]


def _rule_paths(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    if schema.get("x-kubernetes-validations"):
        yield path or "."
    for name, child in _children(schema, path):
        yield from _rule_paths(child, name)


def _field_schema(schema: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """The schema of a field: its own, or that of the map's values. None: the field is not specified."""
    own: Mapping[str, Any] | None = (schema.get("properties") or {}).get(name)
    if own is not None:
        return own
    values = schema.get("additionalProperties")
    if values is True:
        return _ANYTHING
    return values if isinstance(values, Mapping) else None


def _not_a_value(value: object, schema: Mapping[str, Any]) -> bool:
    return value is None and not schema.get("nullable")


def _prune(value: Any, schema: Mapping[str, Any], path: str, unknown: list[str]) -> Any:
    if isinstance(value, dict):
        resource = bool(schema.get("x-kubernetes-embedded-resource"))
        return _prune_object(value, schema, path, unknown, resource=resource)
    if isinstance(value, list):
        items = schema.get("items")
        if not isinstance(items, Mapping):
            return copy.deepcopy(value)
        # Null items stay: only a map's null can mean "as if the field had not been written".
        return [_prune(item, items, f"{path}[{index}]", unknown) for index, item in enumerate(value)]
    return value


def _prune_object(
    value: dict[str, Any], schema: Mapping[str, Any], path: str, unknown: list[str], *, resource: bool
) -> dict[str, Any]:
    keep_unknown = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    result: dict[str, Any] = {}
    for name, item in value.items():
        where = f"{path}.{name}" if path else name
        if resource and name in _TYPE_META:
            result[name] = copy.deepcopy(item)
            continue
        field = _field_schema(schema, name)
        if field is None:
            if keep_unknown:
                result[name] = copy.deepcopy(item)
            else:
                unknown.append(where)
        elif _not_a_value(item, field) and "default" not in field:
            continue
        else:
            result[name] = _prune(item, field, where, unknown)
    return result


def _default(value: Any, schema: Mapping[str, Any]) -> None:
    if isinstance(value, dict):
        for name, field in (schema.get("properties") or {}).items():
            if "default" in field and (name not in value or _not_a_value(value[name], field)):
                value[name] = copy.deepcopy(field["default"])
        for name, item in value.items():
            found = _field_schema(schema, name)
            if found is None:
                continue
            if _not_a_value(item, found) and "default" in found:
                value[name] = copy.deepcopy(found["default"])
            _default(value[name], found)
    elif isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        items = schema["items"]
        for index, item in enumerate(value):
            if _not_a_value(item, items) and "default" in items:
                value[index] = copy.deepcopy(items["default"])
            _default(value[index], items)
