"""Validation of one JSON value against one structural schema, with the texts of a real API server.

The checks, their order and their words follow k8s.io/kube-openapi/pkg/validation and the translation to
field errors in k8s.io/apiextensions-apiserver/pkg/apiserver/validation.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from conformance.cluster.embedded.apiserver.status import FieldError

TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
ABSENT: Final = object()  # "there is no old value"; None is a JSON value


def quote(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _invalid(path: str, value: object, why: str) -> FieldError:
    return FieldError(
        path=path or "<nil>", type="FieldValueInvalid", message=f"Invalid value: {quote(value)}: {why}"
    )


def _in_body(path: str, value: object, why: str) -> FieldError:
    return _invalid(path, value, f"{path} in body {why}")


def _wrong_type(path: str, expected: str, found: str) -> FieldError:
    why = f"{path} in body must be of type {expected}: {quote(found)}"
    message = f"Invalid value: {quote(found)}: {why}"
    return FieldError(path=path or "<nil>", type="FieldValueTypeInvalid", message=message)


def _too_many(path: str, actual: int, limit: int) -> FieldError:
    items = "item" if limit == 1 else "items"
    message = f"Too many: {actual}: must have at most {limit} {items}"
    return FieldError(path=path or "<nil>", type="FieldValueTooMany", message=message)


def type_name(value: object) -> str:
    """The JSON type as the validator names it; 1.0 is an integer, as there."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "number"
        case str():
            return "string"
        case Mapping():
            return "object"
        case _:
            return "array"


def validate_value(value: Any, schema: Mapping[str, Any], path: str, old: Any) -> list[FieldError]:
    if old is not ABSENT and value == old and type_name(value) == type_name(old):
        return []
    if value is None:
        # Nothing but type and enum is asked of a null.
        return [*_check_type(value, schema, path), *_check_enum(value, schema, path)]
    errors = [*_check_type(value, schema, path), *_check_alternatives(value, schema, path)]
    if isinstance(value, str):
        errors += _check_string(value, schema, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        errors += _check_number(value, schema, path)
    elif isinstance(value, Sequence):
        errors += _check_array(value, schema, path, old)
    errors += _check_enum(value, schema, path)
    if isinstance(value, Mapping):
        errors += _check_object(value, schema, path, old)
    return errors


def _check_type(value: object, schema: Mapping[str, Any], path: str) -> list[FieldError]:
    if value is None and schema.get("nullable"):
        return []
    expected: tuple[str, ...]
    if schema.get("x-kubernetes-int-or-string"):
        expected = ("integer", "string")
    elif schema.get("type"):
        expected = (schema["type"],)
    else:
        return []
    found = type_name(value)
    if found in expected or (found == "integer" and "number" in expected):
        return []
    return [_wrong_type(path, ",".join(expected), found)]


def _check_enum(value: object, schema: Mapping[str, Any], path: str) -> list[FieldError]:
    allowed = schema.get("enum")
    if not allowed or (value is None and schema.get("nullable")):
        return []
    if any(value == choice and type_name(value) == type_name(choice) for choice in allowed):
        return []
    supported = ", ".join(quote(c if isinstance(c, str) else quote(c)) for c in allowed)
    shown = "" if value is None else value
    message = f"Unsupported value: {quote(shown)}: supported values: {supported}"
    return [FieldError(path=path or "<nil>", type="FieldValueNotSupported", message=message)]


def _check_alternatives(value: object, schema: Mapping[str, Any], path: str) -> list[FieldError]:
    """allOf, anyOf, oneOf, not. A real server names no field for these: the path stands in the words."""

    def complaint(words: str) -> FieldError:
        return _invalid("", "", f"{quote(path)} must {words}")

    def each(keyword: str) -> list[list[FieldError]]:
        return [validate_value(value, branch, path, ABSENT) for branch in schema.get(keyword) or ()]

    errors: list[FieldError] = []
    if (results := each("anyOf")) and all(results):
        errors.append(complaint("validate at least one schema (anyOf)"))
        errors += _fewest(results)
    if results := each("oneOf"):
        valid = sum(not result for result in results)
        if valid != 1:
            found = "Found none valid" if valid == 0 else f"Found {valid} valid alternatives"
            errors.append(complaint(f"validate one and only one schema (oneOf). {found}"))
            errors += _fewest([result for result in results if result])
    if results := each("allOf"):
        valid = sum(not result for result in results)
        for result in results:
            errors += result
        if valid != len(results):
            errors.append(complaint(f"validate all the schemas (allOf){'' if valid else '. None validated'}"))
    if "not" in schema and not validate_value(value, schema["not"], path, ABSENT):
        errors.append(complaint("not validate the schema (not)"))
    return errors


def _fewest(results: list[list[FieldError]]) -> list[FieldError]:
    """The complaints of the alternative that came closest."""
    return sorted(results, key=len)[0] if results else []


def _check_string(value: str, schema: Mapping[str, Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    longest, shortest, pattern = (schema.get(key) for key in ("maxLength", "minLength", "pattern"))
    if longest is not None and len(value) > longest:
        unit = "byte" if longest == 1 else "bytes"
        message = f"Too long: may not be more than {longest} {unit}"
        errors.append(FieldError(path=path, type="FieldValueTooLong", message=message))
    if shortest is not None and len(value) < shortest:
        errors.append(_in_body(path, value, f"should be at least {shortest} chars long"))
    if pattern and not re.search(pattern, value):
        errors.append(_in_body(path, value, f"should match '{pattern}'"))
    well_formed = _FORMATS.get(schema.get("format") or "")
    if well_formed and not well_formed(value):
        errors.append(_wrong_type(path, schema["format"], value))
    return errors


def _check_number(value: float, schema: Mapping[str, Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    most, least, step = (schema.get(key) for key in ("maximum", "minimum", "multipleOf"))
    if most is not None and schema.get("exclusiveMaximum") and value >= most:
        errors.append(_in_body(path, value, f"should be less than {most}"))
    elif most is not None and value > most:
        errors.append(_in_body(path, value, f"should be less than or equal to {most}"))
    if least is not None and schema.get("exclusiveMinimum") and value <= least:
        errors.append(_in_body(path, value, f"should be greater than {least}"))
    elif least is not None and value < least:
        errors.append(_in_body(path, value, f"should be greater than or equal to {least}"))
    if step and (value / step) % 1:
        errors.append(_in_body(path, value, f"should be a multiple of {step}"))
    bits = {"int32": 31, "int64": 63}.get(schema.get("format") or "")
    if bits and not -(2**bits) <= value < 2**bits:
        errors.append(_wrong_type(path, schema["format"], type_name(value)))
    return errors


def _check_array(value: Sequence[Any], schema: Mapping[str, Any], path: str, old: Any) -> list[FieldError]:
    errors: list[FieldError] = []
    items, most, least = (schema.get(key) for key in ("items", "maxItems", "minItems"))
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    if isinstance(items, Mapping):
        # Only items of a keyed list have an old value: a position says nothing about what moved.
        before = {_map_key(o, keys): o for o in old} if keys and isinstance(old, list) else {}
        for index, item in enumerate(value):
            previous = before.get(_map_key(item, keys), ABSENT) if before else ABSENT
            errors += validate_value(item, items, f"{path}[{index}]", previous)
    if least is not None and len(value) < least:
        errors.append(_in_body(path, len(value), f"should have at least {least} items"))
    if most is not None and len(value) > most:
        errors.append(_too_many(path, len(value), most))
    if schema.get("x-kubernetes-list-type") in ("set", "map"):
        seen: set[str] = set()
        for index, item in enumerate(value):
            key = _map_key(item, keys)
            if key in seen:
                where = f"{path}[{index}]"
                errors.append(
                    FieldError(path=where, type="FieldValueDuplicate", message=f"Duplicate value: {key}")
                )
            seen.add(key)
    return errors


def _map_key(item: object, keys: Sequence[str]) -> str:
    """What tells an item of a `set` or `map` list from its neighbours, as JSON text."""
    if keys and isinstance(item, Mapping):
        return quote({key: item[key] for key in sorted(keys) if key in item})
    return quote(item)


def _check_object(
    value: Mapping[str, Any], schema: Mapping[str, Any], path: str, old: Any
) -> list[FieldError]:
    errors: list[FieldError] = []
    most, least = schema.get("maxProperties"), schema.get("minProperties")
    if least is not None and len(value) < least:
        errors.append(_in_body(path, len(value), f"should have at least {least} properties"))
    if most is not None and len(value) > most:
        errors.append(_too_many(path, len(value), most))
    properties = schema.get("properties") or {}
    required = [*schema.get("required", ())]
    if schema.get("x-kubernetes-embedded-resource"):
        required += [name for name in ("apiVersion", "kind") if name not in required]
    for name in required:
        if name not in value:
            errors.append(_missing(f"{path}.{name}" if path else name))
    values = schema.get("additionalProperties")
    for name, item in value.items():
        field = properties.get(name, values)
        if isinstance(field, Mapping):
            previous = old.get(name, ABSENT) if isinstance(old, Mapping) else ABSENT
            errors += validate_value(item, field, f"{path}.{name}" if path else name, previous)
    return errors


def _missing(path: str) -> FieldError:
    return FieldError(path=path, type="FieldValueRequired", message="Required value")


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, binascii.Error):
            return False
        return True

    return check


def _date_time(text: str) -> object:
    if not re.match(r"\d{4}-\d\d-\d\d[Tt ]", text):
        raise ValueError(text)
    return datetime.fromisoformat(text)


# The formats a structural schema may demand; others are documentation. Durations are Go's.
_FORMATS: Final[Mapping[str, Callable[[str], bool]]] = {
    "byte": _parses(lambda text: base64.b64decode(text, validate=True)),
    "cidr": lambda text: "/" in text and _parses(lambda t: ipaddress.ip_network(t, strict=False))(text),
    "date": _parses(date.fromisoformat),
    "date-time": _parses(_date_time),
    "datetime": _parses(_date_time),
    "duration": lambda text: bool(re.fullmatch(r"[+-]?((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))+|0", text)),
    "ipv4": _parses(ipaddress.IPv4Address),
    "ipv6": _parses(ipaddress.IPv6Address),
    "uuid": _parses(UUID),
}
